//! Which transactions kine can do exactly: one key, at most one comparison, one write.

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

/// A transaction that can be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) key: Bytes,
    pub(super) only_if: OnlyIf,
    pub(super) write: Write,
    /// Whether the key is read before it is written, as the first answer.
    pub(super) reads_first: bool,
    /// Whether the key is read where the comparison fails.
    pub(super) reads_else: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnlyIf {
    Always,
    Absent,
    ModifiedAt(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Put {
        value: Bytes,
        lease: i64,
        prev_kv: bool,
    },
    Delete {
        prev_kv: bool,
    },
}

/// Why a transaction cannot be done.
pub(super) const UNSUPPORTED: &str = "do such a transaction: it compares the revision of one key, \
     puts or deletes that key, and may read it, and nothing else";

/// The ranges of a transaction that compares and writes nothing.
pub(super) fn only_reads(txn: &TxnRequest) -> Option<Vec<RangeRequest>> {
    if !txn.compare.is_empty() || txn.success.is_empty() {
        return None;
    }
    let range = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => Some(range.clone()),
        _ => None,
    };
    txn.success.iter().map(range).collect()
}

/// The shape of a transaction; `None` where kine cannot do it exactly.
pub(super) fn of(txn: &TxnRequest) -> Option<Shape> {
    let (reads_first, write) = match txn.success.as_slice() {
        [write] => (None, write),
        [
            RequestOp {
                request: Some(Request::RequestRange(range)),
            },
            write,
        ] => (Some(range), write),
        _ => return None,
    };
    let (key, write) = write_of(write)?;
    let reads_else = match txn.failure.as_slice() {
        [] => None,
        [
            RequestOp {
                request: Some(Request::RequestRange(range)),
            },
        ] => Some(range),
        _ => return None,
    };
    let only_if = match txn.compare.as_slice() {
        [] => OnlyIf::Always,
        [compare] => comparison(compare, &key)?,
        _ => return None,
    };
    if reads_first.is_some() && only_if != OnlyIf::Always {
        return None;
    }
    let plain = |range: &RangeRequest| is_plain(range, &key);
    (reads_first.is_none_or(plain) && reads_else.is_none_or(plain)).then_some(Shape {
        only_if,
        write,
        reads_first: reads_first.is_some(),
        reads_else: reads_else.is_some(),
        key: key.clone(),
    })
}

fn write_of(op: &RequestOp) -> Option<(Bytes, Write)> {
    match op.request.as_ref()? {
        Request::RequestPut(put) if !put.ignore_value && !put.ignore_lease => {
            let PutRequest {
                key,
                value,
                lease,
                prev_kv,
                ..
            } = put.clone();
            Some((
                key,
                Write::Put {
                    value,
                    lease,
                    prev_kv,
                },
            ))
        }
        Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv,
        }) if range_end.is_empty() => Some((key.clone(), Write::Delete { prev_kv: *prev_kv })),
        _ => None,
    }
}

/// A key that is there has a version, and revisions at which it was created and modified.
fn comparison(compare: &Compare, key: &Bytes) -> Option<OnlyIf> {
    if compare.result() != CompareResult::Equal
        || compare.key != key
        || !compare.range_end.is_empty()
    {
        return None;
    }
    match (compare.target(), compare.target_union.as_ref()) {
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(at))) if *at > 0 => {
            Some(OnlyIf::ModifiedAt(*at))
        }
        (CompareTarget::Mod, None | Some(TargetUnion::ModRevision(0)))
        | (CompareTarget::Create, None | Some(TargetUnion::CreateRevision(0)))
        | (CompareTarget::Version, None | Some(TargetUnion::Version(0))) => Some(OnlyIf::Absent),
        _ => None,
    }
}

/// Whether a range reads the key as it is, and no more.
fn is_plain(range: &RangeRequest, key: &Bytes) -> bool {
    let plain = RangeRequest {
        key: key.clone(),
        limit: range.limit.clamp(0, 1),
        serializable: range.serializable,
        ..RangeRequest::default()
    };
    *range == plain
}
