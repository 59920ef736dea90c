//! Several operations on one store as one call: the operation alone, or a transaction of them.

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{RangeRequest, RequestOp, TxnRequest, request_op::Request},
    wire::{RangeAnswer, WireError, range_responses_of_txn},
};
use prost::Message as _;

/// The operations that one transaction may have: etcd's default of `--max-txn-ops`.
pub(crate) const MAX_TXN_OPS: usize = 128;

/// The call that reads these ranges: a plain one for one range, so that the stores which know few
/// transactions serve it too.
pub(crate) fn range_call<'a>(
    requests: impl ExactSizeIterator<Item = &'a RangeRequest>,
) -> Option<(Rpc, Bytes)> {
    let mut ops = requests.cloned().map(Request::RequestRange);
    match (ops.next()?, ops.len()) {
        (Request::RequestRange(only), 0) => Some((Rpc::Range, only.encode_to_vec().into())),
        (first, _) => Some(txn_call(std::iter::once(first).chain(ops))),
    }
}

/// The call that runs these operations in one transaction.
pub(crate) fn txn_call(ops: impl Iterator<Item = Request>) -> (Rpc, Bytes) {
    let txn = TxnRequest {
        success: ops.map(op).collect(),
        ..TxnRequest::default()
    };
    (Rpc::Txn, txn.encode_to_vec().into())
}

/// One operation of a transaction.
pub(crate) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The answers to the call that [`range_call`] makes of `asked` ranges.
pub(crate) fn range_answers(asked: usize, answer: &Bytes) -> Result<Vec<RangeAnswer>, WireError> {
    if asked == 1 {
        return Ok(vec![RangeAnswer::parse(answer)?]);
    }
    range_responses_of_txn(answer)?
        .iter()
        .map(RangeAnswer::parse)
        .collect()
}

/// The first key behind `key`.
pub(crate) fn behind(key: &[u8]) -> Bytes {
    [key, b"\0"].concat().into()
}
