//! One call of the KV service and its answer, typed. What programs are made of, what the model
//! executes, and what histories record.

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest,
        TxnResponse, request_op::Request, response_op::Response,
    },
};
use prost::{DecodeError, Message as _};

/// A request to the KV service.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

/// An answer of the KV service.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
}

impl Step {
    /// Reads an encoded request; `None` where `rpc` is not a call of the KV service.
    ///
    /// # Errors
    /// Where `encoded` is not a request of this kind.
    pub fn decode(rpc: Rpc, encoded: Bytes) -> Option<Result<Self, DecodeError>> {
        Some(match rpc {
            Rpc::Range => RangeRequest::decode(encoded).map(Self::Range),
            Rpc::Put => PutRequest::decode(encoded).map(Self::Put),
            Rpc::DeleteRange => DeleteRangeRequest::decode(encoded).map(Self::DeleteRange),
            Rpc::Txn => TxnRequest::decode(encoded).map(Self::Txn),
            Rpc::Compact => CompactionRequest::decode(encoded).map(Self::Compact),
            _ => return None,
        })
    }

    /// The call that carries the request.
    #[must_use]
    pub const fn rpc(&self) -> Rpc {
        match self {
            Self::Range(_) => Rpc::Range,
            Self::Put(_) => Rpc::Put,
            Self::DeleteRange(_) => Rpc::DeleteRange,
            Self::Txn(_) => Rpc::Txn,
            Self::Compact(_) => Rpc::Compact,
        }
    }

    /// The request as it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Range(request) => request.encode_to_vec(),
            Self::Put(request) => request.encode_to_vec(),
            Self::DeleteRange(request) => request.encode_to_vec(),
            Self::Txn(request) => request.encode_to_vec(),
            Self::Compact(request) => request.encode_to_vec(),
        }
        .into()
    }

    /// Whether the request cannot change a key, whatever it finds.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Range(_) => true,
            Self::Txn(txn) => txn_only_reads(txn),
            Self::Put(_) | Self::DeleteRange(_) | Self::Compact(_) => false,
        }
    }

    /// Whether the request reads and is content with what a member has, however old.
    #[must_use]
    pub fn may_be_stale(&self) -> bool {
        match self {
            Self::Range(range) => range.serializable,
            Self::Txn(txn) => {
                // One without any operation too: etcd reads what it compares from the member.
                txn.success.iter().chain(&txn.failure).all(|op| {
                    matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable)
                })
            }
            Self::Put(_) | Self::DeleteRange(_) | Self::Compact(_) => false,
        }
    }
}

fn txn_only_reads(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(_)) | None => true,
            Some(Request::RequestTxn(txn)) => txn_only_reads(txn),
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        })
}

impl Answer {
    /// Reads an encoded answer; `None` where `rpc` is not a call of the KV service.
    ///
    /// # Errors
    /// Where `encoded` is not an answer of this kind.
    pub fn decode(rpc: Rpc, encoded: Bytes) -> Option<Result<Self, DecodeError>> {
        Some(match rpc {
            Rpc::Range => RangeResponse::decode(encoded).map(Self::Range),
            Rpc::Put => PutResponse::decode(encoded).map(Self::Put),
            Rpc::DeleteRange => DeleteRangeResponse::decode(encoded).map(Self::DeleteRange),
            Rpc::Txn => TxnResponse::decode(encoded).map(Self::Txn),
            Rpc::Compact => CompactionResponse::decode(encoded).map(Self::Compact),
            _ => return None,
        })
    }

    /// The answer as it goes over the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Range(answer) => answer.encode_to_vec(),
            Self::Put(answer) => answer.encode_to_vec(),
            Self::DeleteRange(answer) => answer.encode_to_vec(),
            Self::Txn(answer) => answer.encode_to_vec(),
            Self::Compact(answer) => answer.encode_to_vec(),
        }
        .into()
    }

    /// The outermost header.
    #[must_use]
    pub fn header(&self) -> Option<&ResponseHeader> {
        match self {
            Self::Range(answer) => answer.header.as_ref(),
            Self::Put(answer) => answer.header.as_ref(),
            Self::DeleteRange(answer) => answer.header.as_ref(),
            Self::Txn(answer) => answer.header.as_ref(),
            Self::Compact(answer) => answer.header.as_ref(),
        }
    }

    /// The outermost header, to be changed.
    pub fn header_mut(&mut self) -> &mut Option<ResponseHeader> {
        match self {
            Self::Range(answer) => &mut answer.header,
            Self::Put(answer) => &mut answer.header,
            Self::DeleteRange(answer) => &mut answer.header,
            Self::Txn(answer) => &mut answer.header,
            Self::Compact(answer) => &mut answer.header,
        }
    }

    /// The revision in the outermost header; 0 where there is none.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header().map_or(0, |header| header.revision)
    }
    /// Whether it says that keys were changed.
    #[must_use]
    pub fn wrote(&self) -> bool {
        match self {
            Self::Put(_) => true,
            Self::DeleteRange(delete) => delete.deleted > 0,
            Self::Txn(txn) => any_wrote(&txn.responses),
            Self::Range(_) | Self::Compact(_) => false,
        }
    }
}

fn any_wrote(responses: &[ResponseOp]) -> bool {
    responses.iter().any(|response| match &response.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(delete)) => delete.deleted > 0,
        Some(Response::ResponseTxn(txn)) => any_wrote(&txn.responses),
        Some(Response::ResponseRange(_)) | None => false,
    })
}
