//! Makes requests that etcd refuses out of good ones.

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};

use super::{Generator, generator::Scope, ops::op};
use crate::Step;

/// An id that nobody grants.
const NO_LEASE: i64 = 0x0bad_1ea5e;

impl Generator {
    pub(super) fn spoil(&mut self, step: Step) -> Step {
        match step {
            Step::Range(range) => Step::Range(self.spoil_range(range)),
            Step::Put(put) => Step::Put(self.spoil_put(put)),
            Step::DeleteRange(mut delete) => {
                delete.key.clear();
                Step::DeleteRange(delete)
            }
            Step::Txn(txn) => Step::Txn(self.spoil_txn(txn)),
            Step::Compact(mut compact) => {
                compact.revision = -1;
                Step::Compact(compact)
            }
        }
    }

    fn spoil_range(&mut self, mut range: RangeRequest) -> RangeRequest {
        match self.chance.below(3) {
            1 if self.settings.invalid_sorts => range.sort_order = 9,
            2 if self.settings.invalid_sorts => range.sort_target = -1,
            _ => range.key.clear(),
        }
        range
    }

    fn spoil_put(&mut self, mut put: PutRequest) -> PutRequest {
        match self.chance.below(4) {
            0 => put.key.clear(),
            1 => {
                put.ignore_value = true;
                put.value = Bytes::from_static(b"given");
            }
            2 => {
                put.ignore_lease = true;
                put.lease = NO_LEASE;
            }
            _ => {
                put.ignore_lease = false;
                put.lease = NO_LEASE;
            }
        }
        put
    }

    fn spoil_txn(&mut self, mut txn: TxnRequest) -> TxnRequest {
        let scope = Scope::Group(self.chance.below(self.settings.groups.len()));
        match self.chance.below(6) {
            0 => txn.success = self.too_many(scope),
            1 => {
                let put = op(Request::RequestPut(self.put(scope)));
                txn.success = vec![put.clone(), put];
            }
            2 => txn.failure.push(RequestOp { request: None }),
            3 => {
                let mut compare = self.compare(scope);
                compare.key.clear();
                txn.compare.push(compare);
            }
            4 => {
                let put = self.put(scope);
                txn.success = vec![op(Request::RequestPut(self.spoil_put(put)))];
            }
            _ => {
                let range = self.range(scope);
                txn.failure = vec![op(Request::RequestRange(self.spoil_range(range)))];
            }
        }
        txn
    }

    /// One operation more than etcd takes, on one level or over two.
    fn too_many(&mut self, scope: Scope) -> Vec<RequestOp> {
        let key = self.key(scope);
        let get = op(Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        }));
        if self.chance.percent(50) {
            return vec![get; 129];
        }
        let inner = op(Request::RequestTxn(TxnRequest {
            success: vec![get.clone(); 100],
            ..TxnRequest::default()
        }));
        let mut ops = vec![get; 28];
        ops.push(inner);
        ops
    }
}
