//! Leases in programs: a generator writes a number that its caller replaces.

use keyloom_etcd_api::etcdserverpb::{TxnRequest, request_op::Request};

use crate::Step;

/// The generator writes 1 for a lease: here it gets one that is alive, or was.
pub fn name_leases(step: &mut Step, lease: i64) {
    match step {
        Step::Put(put) if put.lease == 1 => put.lease = lease,
        Step::Txn(txn) => name_lease(txn, lease),
        _ => {}
    }
}

fn name_lease(txn: &mut TxnRequest, lease: i64) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) if put.lease == 1 => put.lease = lease,
            Some(Request::RequestTxn(txn)) => name_lease(txn, lease),
            _ => {}
        }
    }
}
