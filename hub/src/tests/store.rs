//! A store's log, and its watches.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    mvccpb::{Event, KeyValue},
};
use keyloom_ledger::{StoreRev, StoreSlot};
use prost::Message as _;

use super::chance::Chance;
use crate::Feed;

pub(super) struct Store {
    pub(super) slot: StoreSlot,
    /// The revision behind which the log begins.
    base: i64,
    log: Vec<Vec<Event>>,
    keys: BTreeMap<Bytes, KeyValue>,
    pub(super) compacted: i64,
}

impl Store {
    /// A store at `base`, whose history until then is one key per revision.
    pub(super) fn new(slot: StoreSlot, base: i64, key: &'static str) -> Self {
        let mut store = Self {
            slot,
            base: 1,
            log: Vec::new(),
            keys: BTreeMap::new(),
            compacted: 0,
        };
        for _ in 1..base {
            store.write(&[(key, false)]);
        }
        store
    }

    pub(super) fn revision(&self) -> i64 {
        self.base + self.log.len() as i64
    }

    pub(super) fn write(&mut self, keys: &[(&str, bool)]) -> StoreRev {
        let revision = self.revision() + 1;
        let mut events = Vec::new();
        for (key, delete) in keys {
            let key = Bytes::copy_from_slice(key.as_bytes());
            let prev_kv = self.keys.get(&key).cloned();
            if *delete && prev_kv.is_some() {
                self.keys.remove(&key);
                let kv = KeyValue {
                    key,
                    mod_revision: revision,
                    ..KeyValue::default()
                };
                events.push(event(1, kv, prev_kv));
            } else {
                let kv = KeyValue {
                    key: key.clone(),
                    create_revision: prev_kv.as_ref().map_or(revision, |kv| kv.create_revision),
                    mod_revision: revision,
                    version: prev_kv.as_ref().map_or(1, |kv| kv.version + 1),
                    value: revision.to_string().into(),
                    lease: 0,
                };
                self.keys.insert(key, kv.clone());
                events.push(event(0, kv, prev_kv));
            }
        }
        self.log.push(events);
        StoreRev::new(revision)
    }

    /// Every revision above 1 with its events.
    pub(super) fn all(&self) -> impl Iterator<Item = (StoreRev, &Vec<Event>)> {
        (self.base + 1..).map(StoreRev::new).zip(&self.log)
    }

    /// What a watch that has everything up to `after` is sent next; the header runs ahead. A
    /// revision may come in two fragments.
    pub(super) fn answers(
        &self,
        feed: &Feed,
        after: StoreRev,
        most: usize,
        chance: &mut Chance,
    ) -> Vec<Bytes> {
        let from = (after.get() - self.base) as usize;
        let events = self.log[from..].iter().take(most).flatten().cloned();
        let mut events: Vec<_> = events.collect();
        if !feed.asks_previous() {
            events.iter_mut().for_each(|event| event.prev_kv = None);
        }
        if events.is_empty() {
            return Vec::new();
        }
        let mut answers = Vec::new();
        if chance.one_in(4) {
            let behind = events.split_off(chance.below(events.len()));
            answers.push(self.answer(events, true));
            events = behind;
        }
        answers.push(self.answer(events, false));
        answers
    }

    fn answer(&self, events: Vec<Event>, fragment: bool) -> Bytes {
        let response = WatchResponse {
            header: Some(ResponseHeader {
                revision: self.revision(),
                ..ResponseHeader::default()
            }),
            events,
            fragment,
            ..WatchResponse::default()
        };
        response.encode_to_vec().into()
    }

    /// What a watch from a compacted revision is sent.
    pub(super) fn too_late(&self) -> Bytes {
        let response = WatchResponse {
            canceled: true,
            compact_revision: self.compacted,
            ..WatchResponse::default()
        };
        response.encode_to_vec().into()
    }
}

fn event(kind: i32, kv: KeyValue, prev_kv: Option<KeyValue>) -> Event {
    Event {
        r#type: kind,
        kv: Some(kv),
        prev_kv,
    }
}
