//! What the stores themselves know, held against what watches were told over everything that
//! happened to Keyloom: crashes, hand-overs, changes of the topology.
//!
//! The other checkers know one segment at a time. Here a watch is followed over all its streams,
//! for as long as it was never told to start again: of each store, it must have been told every
//! change of its range in the store's own order, without a gap and without a repetition.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::WatchCreateRequest,
    mvccpb::{Event, KeyValue, event::EventType},
};

use crate::stores::SimStore;

/// What one watch was told over all its streams.
#[derive(Debug)]
pub(crate) struct Follower {
    client: u64,
    range: KeyRange,
    filtered: bool,
    /// From each list, or from where it began anew, to the next.
    runs: Vec<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// What a list began with, with its revision.
    listed: Option<(i64, Vec<KeyValue>)>,
    events: Vec<Event>,
}

impl Follower {
    pub(crate) fn new(client: u64, request: &WatchCreateRequest) -> Self {
        Self {
            client,
            range: KeyRange::from_request(&request.key, &request.range_end),
            filtered: !request.filters.is_empty(),
            runs: vec![Told::default()],
        }
    }

    /// What comes from now on need not go on where it was.
    pub(crate) fn begin_anew(&mut self) {
        self.runs.push(Told::default());
    }

    pub(crate) fn listed(&mut self, revision: i64, kvs: &[KeyValue]) {
        self.runs.push(Told {
            listed: Some((revision, kvs.to_vec())),
            events: Vec::new(),
        });
    }

    pub(crate) fn told(&mut self, events: &[Event]) {
        if let Some(run) = self.runs.last_mut() {
            run.events.extend_from_slice(events);
        }
    }

    /// Holds it against what happened in the stores.
    pub(crate) fn check(&self, truth: &Truth) -> Result<(), String> {
        if self.filtered {
            return Ok(());
        }
        self.runs.iter().try_for_each(|run| {
            truth
                .follow(&self.range, run)
                .map_err(|why| format!("truth: client {}, {:?}: {why}", self.client, self.range))
        })
    }
}

/// Everything that happened to each key, in the order of its store.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    keys: BTreeMap<Bytes, Vec<Change>>,
    /// Keys that moved from store to store: in which order things happened to them is not known.
    moving: BTreeSet<Bytes>,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    deletes: bool,
    value: Bytes,
    lease: i64,
}

impl Change {
    fn of(event: &Event) -> Option<(Bytes, Self)> {
        let kv = event.kv.as_ref()?;
        let deletes = event.r#type() == EventType::Delete;
        let change = Self {
            deletes,
            value: kv.value.clone(),
            lease: kv.lease,
        };
        Some((kv.key.clone(), change))
    }
}

impl Truth {
    /// A key lives on the store that `route` names; for keys that move it names none.
    pub(crate) fn of(
        stores: &[std::sync::Arc<SimStore>],
        route: impl Fn(&[u8]) -> Option<usize>,
    ) -> Self {
        let mut truth = Self::default();
        for (at, store) in stores.iter().enumerate() {
            for event in store.log().iter().flatten() {
                let Some((key, change)) = Change::of(event) else {
                    continue;
                };
                match route(&key) {
                    Some(store) if store == at => truth.keys.entry(key).or_default().push(change),
                    Some(_) => {}
                    None => drop(truth.moving.insert(key)),
                }
            }
        }
        truth
    }

    /// Every key's changes must be a part without gaps of what happened to it.
    fn follow(&self, range: &KeyRange, run: &Told) -> Result<(), String> {
        let mut told: BTreeMap<Bytes, Vec<(i64, Change)>> = BTreeMap::new();
        let mut last = run.listed.as_ref().map_or(0, |(revision, _)| *revision);
        for event in &run.events {
            let Some((key, change)) = Change::of(event) else {
                continue;
            };
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision < last || !range.contains(&key) {
                return Err(format!("{event:?} after revision {last}"));
            }
            last = revision;
            told.entry(key).or_default().push((revision, change));
        }
        let known = told.iter().filter(|(key, _)| !self.moving.contains(*key));
        known.into_iter().try_for_each(|(key, changes)| {
            let happened = self.keys.get(key).map_or(&[][..], Vec::as_slice);
            let listed = run.listed.as_ref();
            let before = listed.map(|(_, kvs)| kvs.iter().find(|kv| kv.key == key));
            is_part(happened, before, changes)
                .then_some(())
                .ok_or_else(|| {
                    format!("of {key:?} it was told {changes:#?} after {before:?}; what happened: {happened:#?}")
                })
        })
    }
}

/// Whether the changes follow one another somewhere in what happened, after what was listed.
fn is_part(happened: &[Change], before: Option<Option<&KeyValue>>, told: &[(i64, Change)]) -> bool {
    let fits = |at: usize| {
        let after = match before {
            None => true,
            Some(None) => at == 0 || happened.get(at - 1).is_some_and(|change| change.deletes),
            Some(Some(kv)) => happened
                .get(at.wrapping_sub(1))
                .is_some_and(|change| !change.deletes && change.value == kv.value),
        };
        let part = happened.get(at..at + told.len());
        after && part.is_some_and(|part| part.iter().eq(told.iter().map(|(_, change)| change)))
    };
    (0..=happened.len()).any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &str) -> Change {
        Change {
            deletes: false,
            value: value.to_owned().into(),
            lease: 0,
        }
    }

    fn told(values: &[&str]) -> Vec<(i64, Change)> {
        values.iter().map(|value| (1, put(value))).collect()
    }

    #[test]
    fn a_part_has_no_gap_and_no_repetition() {
        let happened = ["a", "b", "c", "d"].map(put);
        assert!(is_part(&happened, None, &told(&["b", "c"])));
        assert!(!is_part(&happened, None, &told(&["b", "d"])));
        assert!(!is_part(&happened, None, &told(&["b", "b"])));
        assert!(!is_part(&happened, None, &told(&["c", "b"])));
    }

    #[test]
    fn a_part_follows_what_was_listed() {
        let happened = ["a", "b", "c"].map(put);
        let listed = KeyValue {
            value: "a".into(),
            ..KeyValue::default()
        };
        assert!(is_part(&happened, Some(Some(&listed)), &told(&["b", "c"])));
        assert!(!is_part(&happened, Some(Some(&listed)), &told(&["c"])));
        assert!(!is_part(&happened, Some(None), &told(&["b"])));
        assert!(is_part(&happened, Some(None), &told(&["a", "b"])));
    }
}
