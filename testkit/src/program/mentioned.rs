//! The revisions that a request names.

use keyloom_etcd_api::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest, compare::TargetUnion, request_op::Request,
};

use crate::Step;

/// The highest revision in a request, 0 where there is none.
#[must_use]
pub fn highest_revision(step: &Step) -> i64 {
    match step {
        Step::Range(range) => in_range(range),
        Step::Txn(txn) => in_txn(txn),
        Step::Compact(compact) => compact.revision,
        Step::Put(_) | Step::DeleteRange(_) => 0,
    }
}

fn in_range(range: &RangeRequest) -> i64 {
    range
        .revision
        .max(range.min_mod_revision)
        .max(range.max_mod_revision)
        .max(range.min_create_revision)
        .max(range.max_create_revision)
}

fn in_txn(txn: &TxnRequest) -> i64 {
    let ops = txn.success.iter().chain(&txn.failure).map(in_op);
    txn.compare
        .iter()
        .map(in_compare)
        .chain(ops)
        .max()
        .unwrap_or(0)
}

fn in_op(op: &RequestOp) -> i64 {
    match &op.request {
        Some(Request::RequestRange(range)) => in_range(range),
        Some(Request::RequestTxn(txn)) => in_txn(txn),
        _ => 0,
    }
}

fn in_compare(compare: &Compare) -> i64 {
    match compare.target_union {
        Some(TargetUnion::ModRevision(revision) | TargetUnion::CreateRevision(revision)) => {
            revision
        }
        _ => 0,
    }
}

/// Whether a step reads at a revision below this one.
#[must_use]
pub fn reads_below(step: &Step, from: i64) -> bool {
    match step {
        Step::Range(range) => below(range, from),
        Step::Txn(txn) => txn_reads_below(txn, from),
        Step::Put(_) | Step::DeleteRange(_) | Step::Compact(_) => false,
    }
}

fn below(range: &RangeRequest, from: i64) -> bool {
    range.revision != 0 && range.revision < from
}

fn txn_reads_below(txn: &TxnRequest, from: i64) -> bool {
    let reads = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => below(range, from),
        Some(Request::RequestTxn(txn)) => txn_reads_below(txn, from),
        _ => false,
    };
    txn.success.iter().chain(&txn.failure).any(reads)
}
