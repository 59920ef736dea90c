//! One store that answers ranges, deletes and transactions as etcd does
//! (`server/etcdserver/txn/txn.go`), and remembers every revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange, Rpc,
    etcdserverpb::{
        Compare, DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RangeResponse,
        ResponseHeader, ResponseOp, TxnRequest, TxnResponse, compare::TargetUnion,
        request_op::Request, response_op::Response,
    },
    mvccpb::KeyValue,
};
use prost::Message as _;

type Keys = BTreeMap<Bytes, KeyValue>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Etcd {
    /// The keys after each revision.
    past: BTreeMap<i64, Keys>,
    /// The calls that were made.
    pub(crate) calls: usize,
    /// The most operations in a transaction.
    pub(crate) ops: usize,
}

impl Etcd {
    pub(crate) fn revision(&self) -> i64 {
        self.past.keys().last().copied().unwrap_or(1)
    }

    pub(crate) fn keys(&self) -> Keys {
        self.past.values().last().cloned().unwrap_or_default()
    }

    fn at(&self, revision: i64) -> Keys {
        if revision <= 0 {
            return self.keys();
        }
        let mut past = self.past.range(..=revision);
        past.next_back()
            .map(|(_, keys)| keys.clone())
            .unwrap_or_default()
    }

    pub(crate) fn put(&mut self, revision: i64, key: &Bytes, value: &Bytes) {
        let mut keys = self.keys();
        let kv = keys.entry(key.clone()).or_insert_with(|| KeyValue {
            key: key.clone(),
            create_revision: revision,
            ..KeyValue::default()
        });
        kv.mod_revision = revision;
        kv.version += 1;
        kv.value = value.clone();
        self.past.insert(revision, keys);
    }

    pub(crate) fn delete(&mut self, revision: i64, range: &KeyRange) -> Vec<KeyValue> {
        let mut keys = self.keys();
        let gone: Vec<_> = keys
            .values()
            .filter(|kv| range.contains(&kv.key))
            .cloned()
            .collect();
        for kv in &gone {
            keys.remove(&kv.key);
        }
        if !gone.is_empty() {
            self.past.insert(revision, keys);
        }
        gone
    }

    /// `next` is the revision of what the call writes.
    pub(crate) fn call(&mut self, next: i64, rpc: Rpc, message: Bytes) -> Bytes {
        self.calls += 1;
        match rpc {
            Rpc::Range => {
                let request = RangeRequest::decode(message).unwrap();
                self.range(&request).encode_to_vec().into()
            }
            Rpc::DeleteRange => {
                let request = DeleteRangeRequest::decode(message).unwrap();
                self.delete_range(next, &request).encode_to_vec().into()
            }
            Rpc::Txn => {
                let request = TxnRequest::decode(message).unwrap();
                self.txn(next, &request).encode_to_vec().into()
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.revision(),
            ..ResponseHeader::default()
        })
    }

    pub(crate) fn range(&self, r: &RangeRequest) -> RangeResponse {
        let range = KeyRange::from_request(&r.key, &r.range_end);
        let mut kvs: Vec<KeyValue> = self.at(r.revision).into_values().collect();
        kvs.retain(|kv| range.contains(&kv.key));
        let count = i64::try_from(kvs.len()).unwrap();
        if r.count_only {
            kvs.clear();
        }
        let filters = [
            r.max_mod_revision,
            r.min_mod_revision,
            r.max_create_revision,
            r.min_create_revision,
        ];
        let reads_all = r.sort_order != 0 || filters != [0; 4];
        if r.limit > 0 && !reads_all {
            kvs.truncate(usize::try_from(r.limit).unwrap().saturating_add(1));
        }
        kvs.retain(|kv| {
            (r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision)
                && (r.min_mod_revision == 0 || kv.mod_revision >= r.min_mod_revision)
                && (r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision)
                && (r.min_create_revision == 0 || kv.create_revision >= r.min_create_revision)
        });
        sort(&mut kvs, r);
        let more = r.limit > 0 && kvs.len() > usize::try_from(r.limit).unwrap();
        if more {
            kvs.truncate(usize::try_from(r.limit).unwrap());
        }
        if r.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        RangeResponse {
            header: self.header(),
            kvs,
            more,
            count,
        }
    }

    fn delete_range(&mut self, next: i64, r: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::from_request(&r.key, &r.range_end);
        let gone = self.delete(next, &range);
        DeleteRangeResponse {
            header: self.header(),
            deleted: i64::try_from(gone.len()).unwrap(),
            prev_kvs: if r.prev_kv { gone } else { Vec::new() },
        }
    }

    fn txn(&mut self, next: i64, txn: &TxnRequest) -> TxnResponse {
        let ops = txn
            .compare
            .len()
            .max(txn.success.len())
            .max(txn.failure.len());
        self.ops = self.ops.max(ops);
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let responses = branch
            .iter()
            .map(|op| ResponseOp {
                response: Some(match op.request.as_ref().unwrap() {
                    Request::RequestRange(range) => Response::ResponseRange(self.range(range)),
                    Request::RequestDeleteRange(delete) => {
                        Response::ResponseDeleteRange(self.delete_range(next, delete))
                    }
                    other => panic!("not expected: {other:?}"),
                }),
            })
            .collect();
        TxnResponse {
            header: self.header(),
            succeeded,
            responses,
        }
    }

    /// As `applyCompare`.
    pub(crate) fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::from_request(&compare.key, &compare.range_end);
        let keys = self.keys();
        let mut found = keys
            .values()
            .filter(|kv| range.contains(&kv.key))
            .peekable();
        if found.peek().is_none() {
            return compare.target != 3 && compare_kv(compare, &KeyValue::default());
        }
        found.all(|kv| compare_kv(compare, kv))
    }
}

/// As `compareKV`.
fn compare_kv(compare: &Compare, kv: &KeyValue) -> bool {
    let (actual, expected) = match compare.target_union.as_ref() {
        Some(TargetUnion::Version(n)) if compare.target == 0 => (kv.version, *n),
        Some(TargetUnion::CreateRevision(n)) if compare.target == 1 => (kv.create_revision, *n),
        Some(TargetUnion::ModRevision(n)) if compare.target == 2 => (kv.mod_revision, *n),
        Some(TargetUnion::Lease(n)) if compare.target == 4 => (kv.lease, *n),
        union => match compare.target {
            0 => (kv.version, 0),
            1 => (kv.create_revision, 0),
            2 => (kv.mod_revision, 0),
            3 => {
                let expected = match union {
                    Some(TargetUnion::Value(value)) => value.clone(),
                    _ => Bytes::new(),
                };
                (kv.value.cmp(&expected) as i64, 0)
            }
            _ => (kv.lease, 0),
        },
    };
    match compare.result {
        0 => actual == expected,
        1 => actual > expected,
        2 => actual < expected,
        _ => actual != expected,
    }
}

fn sort(kvs: &mut [KeyValue], r: &RangeRequest) {
    let by = |a: &KeyValue, b: &KeyValue| match r.sort_target {
        0 => a.key.cmp(&b.key),
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        _ => a.value.cmp(&b.value),
    };
    match r.sort_order {
        2 => kvs.sort_by(|a, b| by(b, a)),
        _ => kvs.sort_by(by),
    }
}
