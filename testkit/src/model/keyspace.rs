//! Every version of every key.
//!
//! Invariants:
//! 1. The versions of a key are in the order of their revisions.
//! 2. `log[i]` holds the changes of revision `logged_from + i`, in the order they were made.
//! 3. What is written but not committed has the revision after the current one.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    mvccpb::{Event, KeyValue, event::EventType},
};

/// A multi-version map of keys, with etcd's revisions.
#[derive(Clone, Debug)]
pub struct Keyspace {
    revision: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    log: VecDeque<Vec<Event>>,
    /// The revision of the first entry of `log`.
    logged_from: i64,
    /// The changes of the write that is under way.
    open: Vec<Event>,
}

/// What a key was set to at a revision; `None` where it was deleted.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    set_to: Option<KeyValue>,
}

impl Default for Keyspace {
    /// An empty etcd is at revision 1.
    fn default() -> Self {
        Self::at(1)
    }
}

impl Keyspace {
    /// An empty keyspace that stands at `revision`.
    #[must_use]
    pub fn at(revision: i64) -> Self {
        Self {
            revision,
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            logged_from: revision + 1,
            open: Vec::new(),
        }
    }

    /// A keyspace at `revision` that holds these and knows nothing of what was before.
    #[must_use]
    pub fn holding(revision: i64, kvs: impl IntoIterator<Item = KeyValue>) -> Self {
        let version = |kv: KeyValue| {
            let version = Version {
                revision: kv.mod_revision,
                set_to: Some(kv.clone()),
            };
            (kv.key, vec![version])
        };
        Self {
            keys: kvs.into_iter().map(version).collect(),
            ..Self::at(revision)
        }
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision that a reader sees who is part of the write under way: that of the write
    /// once it has changed something.
    #[must_use]
    pub fn seen_revision(&self) -> i64 {
        if self.open.is_empty() {
            self.revision
        } else {
            self.revision + 1
        }
    }

    /// The value of `key` at a revision.
    #[must_use]
    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        latest(self.keys.get(key)?, at)
    }

    /// The keys of a range and their values at a revision, in the order of keys.
    pub fn range<'a>(
        &'a self,
        range: &'a KeyRange,
        at: i64,
    ) -> impl Iterator<Item = &'a KeyValue> + 'a {
        let bounds = (!range.is_empty()).then(|| {
            let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            (Bound::Included(&range.start), end)
        });
        bounds
            .into_iter()
            .flat_map(|bounds| self.keys.range::<Bytes, _>(bounds))
            .filter_map(move |(_, versions)| latest(versions, at))
    }

    /// Sets a key, as part of the write under way.
    pub fn put(&mut self, key: &Bytes, value: Bytes, lease: i64) {
        let revision = self.revision + 1;
        let before = self.get(key, revision);
        let kv = KeyValue {
            key: key.clone(),
            create_revision: before.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.map_or(0, |kv| kv.version) + 1,
            value,
            lease,
        };
        self.keys.entry(key.clone()).or_default().push(Version {
            revision,
            set_to: Some(kv.clone()),
        });
        self.open.push(event(EventType::Put, kv));
    }

    /// Deletes the keys of a range, as part of the write under way, and returns what they were.
    pub fn delete(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        let revision = self.revision + 1;
        let deleted: Vec<_> = self.range(range, revision).cloned().collect();
        for kv in &deleted {
            self.keys.entry(kv.key.clone()).or_default().push(Version {
                revision,
                set_to: None,
            });
            let tombstone = KeyValue {
                key: kv.key.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            };
            self.open.push(event(EventType::Delete, tombstone));
        }
        deleted
    }

    /// Ends the write under way. It takes a revision only if it changed something.
    pub fn commit(&mut self) {
        if !self.open.is_empty() {
            self.revision += 1;
            self.log.push_back(std::mem::take(&mut self.open));
        }
    }

    /// Takes back the write under way.
    pub fn abandon(&mut self) {
        for event in std::mem::take(&mut self.open) {
            self.forget_last_version(&event);
        }
    }

    /// Takes a revision at which no key changes.
    pub fn skip(&mut self) {
        self.commit();
        self.revision += 1;
        self.log.push_back(Vec::new());
    }

    /// Takes back every write above a revision, which must not be compacted.
    pub fn roll_back(&mut self, to: i64) {
        self.abandon();
        while self.revision > to {
            for event in self.log.pop_back().unwrap_or_default() {
                self.forget_last_version(&event);
            }
            self.revision -= 1;
        }
    }

    fn forget_last_version(&mut self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        if let Some(versions) = self.keys.get_mut(&kv.key) {
            versions.pop();
            if versions.is_empty() {
                self.keys.remove(&kv.key);
            }
        }
    }

    /// Forgets what only readers below a revision could see.
    pub fn compact(&mut self, below: i64) {
        while self.logged_from < below && self.log.pop_front().is_some() {
            self.logged_from += 1;
        }
        self.keys.retain(|_, versions| {
            let kept_from = versions.partition_point(|version| version.revision <= below);
            versions.drain(..kept_from.saturating_sub(1));
            let gone = |version: &Version| version.revision < below && version.set_to.is_none();
            if versions.first().is_some_and(gone) {
                versions.remove(0);
            }
            !versions.is_empty()
        });
    }

    /// The changes of one revision, without the values before them; none where it is compacted
    /// or yet to come.
    #[must_use]
    pub fn changes(&self, revision: i64) -> &[Event] {
        usize::try_from(revision - self.logged_from)
            .ok()
            .and_then(|at| self.log.get(at))
            .map_or(&[], Vec::as_slice)
    }
}

/// The last of a key's versions at a revision, if the key is there.
fn latest(versions: &[Version], at: i64) -> Option<&KeyValue> {
    let newer = versions.partition_point(|version| version.revision <= at);
    versions.get(newer.checked_sub(1)?)?.set_to.as_ref()
}

fn event(kind: EventType, kv: KeyValue) -> Event {
    Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

#[cfg(test)]
mod tests;
