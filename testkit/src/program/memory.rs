//! What a generator remembers of the answers that it was told.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{ResponseOp, response_op::Response},
    mvccpb::KeyValue,
};

use super::Chance;
use crate::{Answer, Step};

#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// The highest revision seen in a header.
    head: i64,
    /// The last compaction that succeeded.
    compacted: i64,
    /// Keys as they were last seen, which may be no longer so.
    seen: BTreeMap<Bytes, KeyValue>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            head: 1,
            compacted: 0,
            seen: BTreeMap::new(),
        }
    }
}

impl Memory {
    pub(super) fn learn(&mut self, step: &Step, answer: &Answer) {
        self.head = self.head.max(answer.revision());
        match answer {
            Answer::Range(range) => self.see(&range.kvs),
            Answer::Put(put) => self.see(put.prev_kv.as_slice()),
            Answer::DeleteRange(delete) => self.see(&delete.prev_kvs),
            Answer::Txn(txn) => self.see_all(&txn.responses),
            Answer::Compact(_) => {
                if let Step::Compact(request) = step {
                    self.compacted = request.revision;
                }
            }
        }
    }

    fn see_all(&mut self, responses: &[ResponseOp]) {
        for response in responses {
            match &response.response {
                Some(Response::ResponseRange(range)) => self.see(&range.kvs),
                Some(Response::ResponsePut(put)) => self.see(put.prev_kv.as_slice()),
                Some(Response::ResponseDeleteRange(delete)) => self.see(&delete.prev_kvs),
                Some(Response::ResponseTxn(txn)) => self.see_all(&txn.responses),
                None => {}
            }
        }
    }

    fn see(&mut self, kvs: &[KeyValue]) {
        for kv in kvs {
            self.seen.insert(kv.key.clone(), kv.clone());
        }
    }

    pub(super) fn seen(&self, key: &Bytes) -> Option<&KeyValue> {
        self.seen.get(key)
    }

    /// A revision that can be read, and rarely one that cannot.
    pub(super) fn revision_to_read(&self, chance: &mut Chance) -> i64 {
        let low = self.compacted.max(1);
        match chance.below(20) {
            0 => self.head + chance.between(1, 3),
            1 => self.compacted - chance.between(0, 2),
            2 => -1,
            3..=9 => chance.between(low.max(self.head - 10), self.head),
            _ => chance.between(low, self.head),
        }
    }

    /// A revision to begin a watch at: kept history mostly, also what is gone or to come.
    pub(super) fn revision_to_watch(&self, chance: &mut Chance) -> i64 {
        let low = self.compacted.max(1);
        match chance.below(12) {
            0 => self.head + chance.between(1, 6),
            1 => (self.compacted - chance.between(0, 3)).max(0),
            2 => low,
            3..=7 => chance.between(low.max(self.head - 10), self.head),
            _ => chance.between(low, self.head),
        }
    }

    /// A revision that divides the keys into older and newer ones.
    pub(super) fn revision_between(&self, chance: &mut Chance) -> i64 {
        chance.between((self.head - 40).max(1), self.head + 1)
    }

    /// A revision to compact at, low enough to leave some history.
    pub(super) fn revision_to_compact(&self, chance: &mut Chance) -> i64 {
        match chance.below(10) {
            0 => self.head + chance.between(1, 5),
            1 => self.compacted,
            2 => self.head,
            _ => chance.between(self.compacted + 1, self.head - 20),
        }
    }
}
