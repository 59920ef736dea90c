//! The joined answers as messages.
//!
//! Key-values go in as they were read. Inner headers of a transaction are as etcd makes them
//! (`server/etcdserver/txn/txn.go`): those of operations have a revision and nothing else, that of
//! a nested transaction has nothing.

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::ResponseHeader,
    wire::{Header, RawKv, encode_range_answer},
};
use prost::Message as _;

use crate::{
    delete::PartDeleted,
    join::Joined,
    shadow::{self, Response, ResponseOp, response_header},
};

/// One answered operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    Range(Joined),
    Txn(TxnAnswer),
}

/// An answered transaction that only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnAnswer {
    pub succeeded: bool,
    /// In the order of the operations of the branch that ran.
    pub responses: Vec<OpAnswer>,
}

/// What was deleted on all stores together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    pub deleted: i64,
    /// In the order of keys.
    pub prev_kvs: Vec<RawKv>,
}

/// Sums what was deleted in the parts of a range. Revisions of previous key-values are
/// unified already.
#[must_use]
pub fn join_deleted(parts: Vec<PartDeleted>) -> Deleted {
    let deleted = parts
        .iter()
        .fold(0, |sum: i64, part| sum.saturating_add(part.deleted));
    let mut prev_kvs: Vec<RawKv> = parts.into_iter().flat_map(|part| part.prev_kvs).collect();
    prev_kvs.sort_by(|a, b| a.key.cmp(&b.key));
    Deleted { deleted, prev_kvs }
}

/// An encoded `RangeResponse`.
#[must_use]
pub fn range_response(header: Header, joined: Joined) -> Bytes {
    let kvs = joined.kvs.into_iter().map(|kv| kv.encoded);
    encode_range_answer(header, kvs, joined.more, joined.count)
}

/// An encoded `DeleteRangeResponse`.
#[must_use]
pub fn delete_range_response(header: Header, deleted: Deleted) -> Bytes {
    let response = shadow::DeleteRangeResponse {
        header: Some(response_header(header)),
        deleted: deleted.deleted,
        prev_kvs: deleted.prev_kvs.into_iter().map(|kv| kv.encoded).collect(),
    };
    response.encode_to_vec().into()
}

/// An encoded `TxnResponse`.
#[must_use]
pub fn txn_response(header: Header, answer: TxnAnswer) -> Bytes {
    txn(response_header(header), header.revision, answer)
}

/// `revision` is what the headers of the operations have.
fn txn(header: ResponseHeader, revision: i64, answer: TxnAnswer) -> Bytes {
    let responses = answer.responses.into_iter().map(|op| ResponseOp {
        response: Some(match op {
            OpAnswer::Range(joined) => {
                let header = Header {
                    revision,
                    ..Header::default()
                };
                Response::Range(range_response(header, joined))
            }
            OpAnswer::Txn(nested) => {
                Response::Txn(txn(ResponseHeader::default(), revision, nested))
            }
        }),
    });
    let response = shadow::TxnResponse {
        header: Some(header),
        succeeded: answer.succeeded,
        responses: responses.collect(),
    };
    response.encode_to_vec().into()
}

#[cfg(test)]
mod tests;
