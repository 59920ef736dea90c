//! What the writer can be asked to write. Everything here has passed etcd's checks on its form.

use keyloom_etcd_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, TxnRequest,
};
use prost::Message as _;

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(i64),
    LeaseKeepAlive(i64),
    /// Ends the leases whose time has come.
    Expire,
}

impl Request {
    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.key.len() + put.value.len(),
            Self::Txn(txn) => txn.encoded_len(),
            _ => 64,
        }
    }

    pub(super) fn waits_for_sweep(&self) -> bool {
        matches!(self, Self::Compact(request) if request.physical)
    }
}
