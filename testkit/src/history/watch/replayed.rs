//! The properties that show only where it is known what happened.

use std::collections::VecDeque;

use keyloom_etcd_api::mvccpb::{Event, KeyValue, event::EventType};

use super::{Broken, Facts, Property, Watcher, replay::same, watcher::revision_of};

/// Between its start and the last that it was told, events or progress, nothing is missing and
/// nothing is made up.
///
/// # Errors
/// The first event that is missing or made up.
pub fn reliable(watcher: &Watcher, facts: &Facts) -> Result<(), Broken> {
    let Some(start) = watcher.start() else {
        return Ok(());
    };
    let replay = &facts.replay;
    let (known, up_to) = (replay.from() + 1, watcher.complete_up_to());
    let last = up_to.min(replay.revision());
    let mut told = told_from(watcher, start.max(known));
    for revision in start.max(known)..=last {
        let mut expected = wanted(watcher, replay.events(revision));
        // In which order the events of one revision come is left open.
        while told
            .front()
            .is_some_and(|event| revision_of(event) <= revision)
        {
            let Some(event) = told.pop_front() else { break };
            match expected.iter().position(|expected| same(expected, event)) {
                Some(at) => drop(expected.remove(at)),
                None => return Err(made_up(watcher, event)),
            }
        }
        if let Some(missing) = expected.first() {
            return Err(Broken::at(
                Property::Reliable,
                watcher,
                format_args!("told of everything up to {up_to}, but not of {missing:?}"),
            ));
        }
    }
    Ok(())
}

fn made_up(watcher: &Watcher, event: &Event) -> Broken {
    let what = format_args!("this did not happen: {event:?}");
    Broken::at(Property::Reliable, watcher, what)
}

/// The complete events from a revision on.
fn told_from(watcher: &Watcher, start: i64) -> VecDeque<&Event> {
    let events = watcher.events().map(|(_, event)| event);
    events.filter(|event| revision_of(event) >= start).collect()
}

fn wanted<'a>(watcher: &Watcher, events: &'a [Event]) -> Vec<&'a Event> {
    events.iter().filter(|event| watcher.wants(event)).collect()
}

/// From the revision that was asked for on everything comes and nothing from before it; only where
/// history below a compaction was asked for, the watcher may be told that it is compacted.
///
/// # Errors
/// The event that should not have come or that should have come first, or the refusal.
pub fn resumable(watcher: &Watcher, facts: &Facts) -> Result<(), Broken> {
    let broken = |what| Err(Broken::at(Property::Resumable, watcher, what));
    let Some(start) = watcher.start() else {
        return Ok(());
    };
    if let Some(canceled) = &watcher.canceled
        && canceled.compact_revision != 0
    {
        let (needed, said) = (watcher.resume_at(), canceled.compact_revision);
        let possible = facts.compacted_by(canceled.at);
        if needed >= said || said > possible {
            return broken(format_args!(
                "compacted at {said} where it needs {needed} and at most {possible} was compacted"
            ));
        }
    }
    let Some((_, first)) = watcher.events().next() else {
        return Ok(());
    };
    let came = revision_of(first);
    if came < start {
        return broken(format_args!("from before its start: {first:?}"));
    }
    let known = start.max(facts.replay.from() + 1);
    let skipped = (known..came.min(facts.replay.revision() + 1)).find_map(|revision| {
        wanted(watcher, facts.replay.events(revision))
            .first()
            .copied()
    });
    match skipped {
        Some(skipped) => broken(format_args!(
            "began with {first:?} and not with {skipped:?}"
        )),
        None => Ok(()),
    }
}

/// Who asks for it gets the value before, and nobody else. It may be missing only where it was
/// compacted, or with [`Facts::values_may_be_lost`].
///
/// # Errors
/// The first event with another value before it.
pub fn prev_kv(watcher: &Watcher, facts: &Facts) -> Result<(), Broken> {
    let mut wrong = wrong_values_before(watcher, facts);
    let wrong = wrong.find(|(_, event)| event.prev_kv.is_some() || !facts.values_may_be_lost);
    match wrong {
        None => Ok(()),
        Some((at, event)) => Err(Broken::at(
            Property::PrevKv,
            watcher,
            format_args!(
                "at {at} {event:?}, where the value before was {:?} and at most {} was compacted",
                value_before(watcher, facts, event),
                facts.compacted_by(at)
            ),
        )),
    }
}

/// The revisions of the events that lack the value before and should have it.
#[must_use]
pub fn lost_values(watcher: &Watcher, facts: &Facts) -> Vec<i64> {
    let wrong = wrong_values_before(watcher, facts);
    let lost = wrong.filter(|(_, event)| event.prev_kv.is_none());
    lost.map(|(_, event)| revision_of(event)).collect()
}

fn wrong_values_before<'a>(
    watcher: &'a Watcher,
    facts: &'a Facts,
) -> impl Iterator<Item = (u64, &'a Event)> {
    let known = |(_, event): &(u64, &Event)| revision_of(event) > facts.replay.from();
    watcher.events().filter(known).filter(|(at, event)| {
        let before = revision_of(event) - 1;
        let forgotten = event.prev_kv.is_none() && before < facts.compacted_by(*at);
        event.prev_kv.as_ref() != value_before(watcher, facts, event) && !forgotten
    })
}

fn value_before<'a>(watcher: &Watcher, facts: &'a Facts, event: &Event) -> Option<&'a KeyValue> {
    let kv = event.kv.as_ref().filter(|_| watcher.request.prev_kv)?;
    facts.replay.get(&kv.key, kv.mod_revision - 1)
}

/// A put of a key that was not there is its first version, created then; any other is one version
/// more; only what is there is deleted.
///
/// # Errors
/// The first event that says otherwise.
pub fn is_create(watcher: &Watcher, facts: &Facts) -> Result<(), Broken> {
    for (_, event) in watcher.events() {
        let Some(kv) = &event.kv else { continue };
        let before = kv.mod_revision - 1;
        if before < facts.replay.from() {
            continue;
        }
        let was = facts.replay.get(&kv.key, before);
        let expected = match (event.r#type(), was) {
            (EventType::Put, None) => (kv.mod_revision, 1),
            (EventType::Put, Some(was)) => (was.create_revision, was.version + 1),
            // A tombstone has neither; an event that deletes nothing is none.
            (EventType::Delete, Some(_)) => (0, 0),
            (EventType::Delete, None) if facts.replay.puts(&kv.key, kv.mod_revision) => (0, 0),
            (EventType::Delete, None) => (-1, -1),
        };
        if (kv.create_revision, kv.version) != expected {
            return Err(Broken::at(
                Property::IsCreate,
                watcher,
                format_args!("{event:?}, where the key was {was:?}"),
            ));
        }
    }
    Ok(())
}
