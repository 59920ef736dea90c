//! The properties that a watcher shows by itself.

use std::collections::HashSet;

use super::{Broken, Property, Watcher, watcher::revision_of};

/// Every event is in the range that was asked for, and of a kind that was not filtered out.
///
/// # Errors
/// The first event that is not.
pub fn filter(watcher: &Watcher) -> Result<(), Broken> {
    match watcher.events().find(|(_, event)| !watcher.wants(event)) {
        None => Ok(()),
        Some((_, event)) => Err(Broken::at(
            Property::Filter,
            watcher,
            format_args!("nobody asked for {event:?}"),
        )),
    }
}

/// No event has a lower revision than one before it.
///
/// # Errors
/// The first event that has.
pub fn ordered(watcher: &Watcher) -> Result<(), Broken> {
    let mut last = 0;
    for (_, event) in watcher.events() {
        let revision = revision_of(event);
        if revision < last {
            return Err(Broken::at(
                Property::Ordered,
                watcher,
                format_args!("revision {revision} after {last}: {event:?}"),
            ));
        }
        last = revision;
    }
    Ok(())
}

/// No event comes twice. (One key may be put and then deleted at one revision: etcd lets a
/// transaction do that in two nested ones.)
///
/// # Errors
/// The first event that comes again.
pub fn unique(watcher: &Watcher) -> Result<(), Broken> {
    let mut seen = HashSet::new();
    for (_, event) in watcher.events() {
        let key = event.kv.as_ref().map(|kv| (&kv.key, kv.mod_revision));
        if !seen.insert((key, event.r#type)) {
            return Err(Broken::at(
                Property::Unique,
                watcher,
                format_args!("a second time: {event:?}"),
            ));
        }
    }
    Ok(())
}

/// No revision is divided over responses. A response whose last fragments never came shows
/// nothing.
///
/// # Errors
/// The first response that begins with the revision of the one before.
pub fn atomic(watcher: &Watcher) -> Result<(), Broken> {
    let mut last = None;
    for response in &watcher.responses {
        let first = response.events.first().map(revision_of);
        if first.is_some() && first == last {
            return Err(Broken::at(
                Property::Atomic,
                watcher,
                format_args!("revision {} is in two responses", first.unwrap_or(0)),
            ));
        }
        last = response.events.last().map(revision_of).or(last);
    }
    Ok(())
}

/// Announced progress never goes back, is never below what was delivered or what was asked for,
/// and no event at or below it follows.
///
/// With `headers` the same is asked of every header, `created` included: that a client which lost
/// the stream may go on after the revision of any header it saw. etcd does not promise that: to a
/// watcher that catches up it sends old events under the current revision.
///
/// # Errors
/// The first response that goes back.
pub fn bookmarkable(watcher: &Watcher, headers: bool) -> Result<(), Broken> {
    let broken = |what| Err(Broken::at(Property::Bookmarkable, watcher, what));
    let start = watcher.request.start_revision;
    let mut bookmark = watcher.created.filter(|_| headers).unwrap_or(0);
    let mut last = start - 1;
    for response in &watcher.responses {
        let revision = response.revision;
        if response.is_progress() && (revision < last || revision < bookmark) {
            return broken(format_args!(
                "progress to {revision} after {} (it starts at {start})",
                last.max(bookmark)
            ));
        }
        if let Some(event) = response
            .events
            .iter()
            .find(|it| revision_of(it) <= bookmark)
        {
            return broken(format_args!(
                "an event after a bookmark of {bookmark}: {event:?}"
            ));
        }
        last = response.events.last().map_or(last, revision_of);
        if headers && revision < last {
            return broken(format_args!(
                "a header of {revision} over events up to {last}"
            ));
        }
        if headers || response.is_progress() {
            bookmark = bookmark.max(revision);
        }
    }
    Ok(())
}
