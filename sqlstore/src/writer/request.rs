//! What the writer can be asked to write. Everything here has passed etcd's checks on its form.

use keyloom_etcd_api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, TxnRequest,
    request_op::Request as Op,
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

    /// Whether it cannot make the database larger for long: etcd does these when it has no space.
    pub(super) fn makes_room(&self) -> bool {
        match self {
            Self::Put(_) | Self::LeaseGrant(_) => false,
            Self::Txn(txn) => !puts(txn),
            Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseKeepAlive(_)
            | Self::Expire => true,
        }
    }

    pub(super) fn waits_for_sweep(&self) -> bool {
        matches!(self, Self::Compact(request) if request.physical)
    }
}

/// Whether a transaction has a put, in whichever branch.
fn puts(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| match &op.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(txn)) => puts(txn),
        Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => false,
    })
}
