//! What happened, as far as anybody was told, played again from a known state.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    mvccpb::{Event, KeyValue, event::EventType},
};

use super::{Broken, History, Operation, Outcome, Property, Watcher, watcher::revision_of};
use crate::{Step, model::Keyspace};

/// What is known beside a watcher, to hold it against.
#[derive(Clone, Debug)]
pub struct Facts {
    pub replay: Replay,
    /// Compactions, each with the time when it was asked for. What makes a server forget history
    /// for reasons of its own belongs here too, with the time from which on it may.
    pub compactions: Vec<(u64, i64)>,
    /// Whether [`super::bookmarkable`] holds every header to be a bookmark.
    pub headers_are_bookmarks: bool,
    /// Whether [`super::prev_kv`] lets a value before be missing that was not compacted. An etcd
    /// (3.6.16) loses one at times beside a compaction, and says nothing of the failed lookup
    /// (etcd-io/etcd#13131): count them by [`super::lost_values`].
    pub values_may_be_lost: bool,
}

impl Facts {
    /// What the watchers of a history were told together, from the state `before` it, and the
    /// history's compactions.
    ///
    /// # Errors
    /// [`Property::Reliable`], where two watchers were told different things of one revision.
    pub fn gather(
        history: &History,
        watchers: &[Watcher],
        before: Keyspace,
    ) -> Result<Self, Broken> {
        Ok(Self {
            replay: Replay::gather(watchers, before)?,
            compactions: history.operations.iter().filter_map(compaction).collect(),
            headers_are_bookmarks: false,
            values_may_be_lost: false,
        })
    }

    /// The highest revision that may have been compacted at a time.
    #[must_use]
    pub fn compacted_by(&self, at: u64) -> i64 {
        let by_then = self.compactions.iter().filter(|(asked, _)| *asked < at);
        by_then.map(|(_, revision)| *revision).max().unwrap_or(0)
    }
}

fn compaction(operation: &Operation) -> Option<(u64, i64)> {
    let happened = matches!(operation.outcome, Outcome::Answered(_) | Outcome::Unknown);
    match &operation.step {
        Step::Compact(request) if happened => Some((operation.invoked, request.revision)),
        _ => None,
    }
}

/// Every change of every key from a known state on.
#[derive(Clone, Debug)]
pub struct Replay {
    keyspace: Keyspace,
    from: i64,
}

impl Replay {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(before: Keyspace) -> Self {
        Self {
            from: before.revision(),
            keyspace: before,
        }
    }

    /// The union of what watchers were told. Revisions of which nobody was told are empty.
    ///
    /// # Errors
    /// [`Property::Reliable`], where two were told different things of one revision.
    pub fn gather(watchers: &[Watcher], before: Keyspace) -> Result<Self, Broken> {
        let mut replay = Self::new(before);
        for (revision, events) in union(watchers, replay.from)? {
            let events: Vec<_> = events.into_values().collect();
            replay.push(revision, &events);
        }
        Ok(replay)
    }

    /// Adds what happened at a revision above all before; those between are empty.
    pub fn push(&mut self, revision: i64, events: &[&Event]) {
        self.extend_to(revision - 1);
        for event in events {
            let Some(kv) = &event.kv else { continue };
            match event.r#type() {
                EventType::Put => self.keyspace.put(&kv.key, kv.value.clone(), kv.lease),
                EventType::Delete => drop(self.keyspace.delete(&KeyRange::key(kv.key.clone()))),
            }
        }
        self.keyspace.commit();
        self.extend_to(revision);
    }

    /// Nothing happened up to there.
    pub fn extend_to(&mut self, revision: i64) {
        while self.keyspace.revision() < revision {
            self.keyspace.skip();
        }
    }

    /// The revision of the state before: nothing is known of what led to it.
    #[must_use]
    pub fn from(&self) -> i64 {
        self.from
    }

    /// The last revision of which something is known.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.keyspace.revision()
    }

    /// What happened at a revision, without the values before.
    #[must_use]
    pub fn events(&self, revision: i64) -> &[Event] {
        self.keyspace.changes(revision)
    }

    /// Whether a key is put at a revision, whatever else happens to it there.
    pub(super) fn puts(&self, key: &[u8], revision: i64) -> bool {
        let mut events = self.events(revision).iter();
        events.any(|event| {
            event.r#type() == EventType::Put && event.kv.as_ref().is_some_and(|kv| kv.key == key)
        })
    }

    /// What a key was at a revision that is not below [`Self::from`].
    #[must_use]
    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.keyspace.get(key, at)
    }

    /// The lease on which everything hung that a revision deletes, where it only deletes: it may
    /// have ended there.
    #[must_use]
    pub fn ended_lease(&self, revision: i64) -> Option<i64> {
        let lease_of = |event: &Event| {
            let kv = event.kv.as_ref()?;
            let was = self.get(&kv.key, revision - 1)?;
            (event.r#type() == EventType::Delete && was.lease != 0).then_some(was.lease)
        };
        let mut leases = self.events(revision).iter().map(lease_of);
        let lease = leases.next().flatten()?;
        leases.all(|it| it == Some(lease)).then_some(lease)
    }

    /// All keys at a revision that is not below [`Self::from`].
    #[must_use]
    pub fn all(&self, at: i64) -> Vec<KeyValue> {
        let all = KeyRange::all();
        self.keyspace.range(&all, at).cloned().collect()
    }

    /// The state that it led to.
    #[must_use]
    pub fn into_keyspace(self) -> Keyspace {
        self.keyspace
    }
}

/// By revision, key and kind: where one revision puts and deletes a key, the put comes first.
type EventsByRevision<'a> = BTreeMap<i64, BTreeMap<(&'a Bytes, i32), &'a Event>>;

fn union(watchers: &[Watcher], from: i64) -> Result<EventsByRevision<'_>, Broken> {
    let mut told = EventsByRevision::new();
    for watcher in watchers {
        let events = watcher.events().map(|(_, event)| event);
        for event in events.filter(|event| revision_of(event) > from) {
            let Some(kv) = &event.kv else { continue };
            let at_revision = told.entry(kv.mod_revision).or_default();
            match at_revision.entry((&kv.key, event.r#type)) {
                Entry::Vacant(first) => drop(first.insert(event)),
                Entry::Occupied(first) if same(first.get(), event) => {}
                Entry::Occupied(first) => {
                    let first = first.get();
                    return Err(Broken::at(
                        Property::Reliable,
                        watcher,
                        format_args!("{event:?}, where another was told {first:?}"),
                    ));
                }
            }
        }
    }
    Ok(told)
}

/// Whether two events are of the same change. Whether their create revisions and versions are right,
/// [`super::is_create`] says; the value before, for which not all ask, [`super::prev_kv`].
pub(super) fn same(one: &Event, other: &Event) -> bool {
    let told = |event: &Event| {
        let kv = event.kv.as_ref()?;
        Some((kv.key.clone(), kv.mod_revision, kv.value.clone(), kv.lease))
    };
    one.r#type == other.r#type && told(one) == told(other)
}
