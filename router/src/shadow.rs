//! Messages of etcd that hold key-values, or whole answers, as the bytes that they came as.
//!
//! A sub-message and a byte string look the same on the wire, so what is declared as bytes here
//! is neither decoded nor copied, and the fields in it that this program does not know survive.

use bytes::Bytes;
use keyloom_etcd_api::{etcdserverpb::ResponseHeader, wire::Header};

/// `etcdserverpb.DeleteRangeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeleteRangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub(crate) deleted: i64,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(crate) prev_kvs: Vec<Bytes>,
}

/// `etcdserverpb.TxnResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(crate) responses: Vec<ResponseOp>,
}

/// `etcdserverpb.ResponseOp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResponseOp {
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub(crate) response: Option<Response>,
}

/// The answers that a `ResponseOp` can hold, encoded.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Response {
    #[prost(bytes = "bytes", tag = "1")]
    Range(Bytes),
    #[prost(bytes = "bytes", tag = "2")]
    Put(Bytes),
    #[prost(bytes = "bytes", tag = "3")]
    DeleteRange(Bytes),
    #[prost(bytes = "bytes", tag = "4")]
    Txn(Bytes),
}

/// A header as etcd's message.
pub(crate) fn response_header(header: Header) -> ResponseHeader {
    ResponseHeader {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    }
}
