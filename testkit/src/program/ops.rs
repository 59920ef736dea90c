//! Draws requests, with every option that etcd has.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
    },
    mvccpb::KeyValue,
};

use super::{Generator, generator::Scope};

/// Up to so many keys etcd sorts in a defined order those that are equal in what it sorts by
/// (Go's `sort.Sort` is insertion sort there).
const SORTED_STABLY: usize = 12;

impl Generator {
    pub(super) fn range(&mut self, scope: Scope) -> RangeRequest {
        let (key, range_end) = self.bounds(scope);
        let mut request = RangeRequest {
            key,
            range_end,
            serializable: self.chance.percent(10),
            keys_only: self.chance.percent(10),
            count_only: self.chance.percent(10),
            ..RangeRequest::default()
        };
        if self.chance.percent(35) {
            request.limit = self.chance.between(-1, 5);
        }
        if self.chance.percent(35) {
            request.revision = self.memory.revision_to_read(&mut self.chance);
        }
        if self.chance.percent(30) {
            self.sort(&mut request);
        }
        if self.chance.percent(20) {
            self.filter(&mut request);
        }
        request
    }

    fn sort(&mut self, request: &mut RangeRequest) {
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        let range = KeyRange::from_request(&request.key, &request.range_end);
        if let Some(&order) = self.chance.pick(&orders) {
            request.sort_order = order.into();
        }
        if self.settings.keys_in(&range) <= SORTED_STABLY
            && let Some(&target) = self.chance.pick(&targets)
        {
            request.sort_target = target.into();
        }
    }

    fn filter(&mut self, request: &mut RangeRequest) {
        let mut bound = |percent| {
            if self.chance.percent(percent) {
                self.memory.revision_between(&mut self.chance)
            } else {
                0
            }
        };
        request.min_mod_revision = bound(40);
        request.max_mod_revision = bound(40);
        request.min_create_revision = bound(20);
        request.max_create_revision = bound(20);
    }

    pub(super) fn put(&mut self, scope: Scope) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(scope),
            prev_kv: self.chance.percent(30),
            ..PutRequest::default()
        };
        if self.chance.percent(8) {
            request.ignore_value = true;
        } else {
            request.value = self.value();
        }
        if self.chance.percent(8) {
            request.ignore_lease = true;
        } else if self.chance.percent(20) {
            let lease = self.chance.pick(&self.settings.leases);
            request.lease = lease.copied().unwrap_or(0);
        }
        request
    }

    pub(super) fn delete_range(&mut self, scope: Scope) -> DeleteRangeRequest {
        let (key, range_end) = if self.chance.percent(60) {
            (self.key_or_near(scope), Bytes::new())
        } else {
            self.bounds(scope)
        };
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.chance.percent(40),
        }
    }

    /// A transaction as kube-apiserver makes them: write a key if it is what it was.
    pub(super) fn optimistic(&mut self) -> TxnRequest {
        let scope = self.scope_of_write();
        let scope = match scope {
            Scope::Any => Scope::Group(self.chance.below(self.settings.groups.len())),
            group @ Scope::Group(_) => group,
        };
        let key = self.key(scope);
        let known = self.memory.seen(&key).map_or(0, |kv| kv.mod_revision);
        let write = if self.chance.percent(75) {
            Request::RequestPut(PutRequest {
                key: key.clone(),
                value: self.value(),
                ..PutRequest::default()
            })
        } else {
            Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone(),
                ..DeleteRangeRequest::default()
            })
        };
        let read = Request::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        });
        TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key,
                range_end: Bytes::new(),
                target_union: Some(TargetUnion::ModRevision(known)),
            }],
            success: vec![op(write)],
            failure: if self.chance.percent(80) {
                vec![op(read)]
            } else {
                Vec::new()
            },
        }
    }

    /// A transaction that only reads, over any keys.
    pub(super) fn read_only(&mut self) -> TxnRequest {
        let compares = self.chance.below(3);
        let (success, failure) = (self.chance.below(4), self.chance.below(3));
        TxnRequest {
            compare: (0..compares).map(|_| self.compare(Scope::Any)).collect(),
            success: (0..success).map(|_| self.read_op()).collect(),
            failure: (0..failure).map(|_| self.read_op()).collect(),
        }
    }

    fn read_op(&mut self) -> RequestOp {
        op(Request::RequestRange(self.range(Scope::Any)))
    }

    /// A transaction of anything; etcd may refuse it for keys that it writes twice.
    pub(super) fn txn(&mut self, scope: Scope, depth: usize) -> TxnRequest {
        let compares = self.chance.below(3);
        let (success, failure) = (self.chance.below(4), self.chance.below(4));
        TxnRequest {
            compare: (0..compares).map(|_| self.compare(scope)).collect(),
            success: (0..success).map(|_| self.op(scope, depth)).collect(),
            failure: (0..failure).map(|_| self.op(scope, depth)).collect(),
        }
    }

    fn op(&mut self, scope: Scope, depth: usize) -> RequestOp {
        op(match self.chance.below(100) {
            0..30 => Request::RequestRange(self.range(scope)),
            30..60 => Request::RequestPut(self.put(scope)),
            60..80 => Request::RequestDeleteRange(self.delete_range(scope)),
            _ if depth > 1 => Request::RequestTxn(self.txn(scope, depth - 1)),
            _ => Request::RequestRange(self.range(scope)),
        })
    }

    pub(super) fn compare(&mut self, scope: Scope) -> Compare {
        let (key, range_end) = if self.chance.percent(70) {
            (self.key_or_near(scope), Bytes::new())
        } else {
            self.bounds(scope)
        };
        let known = self.memory.seen(&key).cloned().unwrap_or_default();
        let (target, union) = self.compare_with(&known);
        let results = [
            CompareResult::Equal,
            CompareResult::Equal,
            CompareResult::NotEqual,
            CompareResult::Greater,
            CompareResult::Less,
        ];
        let result = self.chance.pick(&results).copied().unwrap_or_default();
        Compare {
            result: result.into(),
            target: target.into(),
            key,
            range_end,
            target_union: Some(union),
        }
    }

    /// What a key is known to be, or next to it.
    fn compare_with(&mut self, known: &KeyValue) -> (CompareTarget, TargetUnion) {
        match self.chance.below(6) {
            0 => {
                let near = self.near(known.version);
                (CompareTarget::Version, TargetUnion::Version(near))
            }
            1 => {
                let near = self.near(known.create_revision);
                (CompareTarget::Create, TargetUnion::CreateRevision(near))
            }
            2 | 3 => {
                let near = self.near(known.mod_revision);
                (CompareTarget::Mod, TargetUnion::ModRevision(near))
            }
            4 => {
                let other = self.value();
                let value = if self.chance.percent(70) {
                    known.value.clone()
                } else {
                    other
                };
                (CompareTarget::Value, TargetUnion::Value(value))
            }
            _ => (CompareTarget::Lease, TargetUnion::Lease(known.lease)),
        }
    }

    fn near(&mut self, number: i64) -> i64 {
        match self.chance.below(10) {
            0 => 0,
            1 => number + 1,
            2 => (number - 1).max(0),
            3 => self.memory.revision_between(&mut self.chance),
            _ => number,
        }
    }
}

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
