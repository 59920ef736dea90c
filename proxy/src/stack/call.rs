//! A request on its way through the layers, and what they have found out about it.

use http::{Request, header::CONTENT_TYPE};
use hyper::body::Incoming;
use keyloom_etcd_api::{Rpc, Shape};

use super::admission::InFlight;
use crate::services::Context;

/// What a request asks for, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A call of etcd's API.
    Etcd(Rpc),
    /// A call of another gRPC service.
    OtherGrpc,
    /// A page over plain HTTP.
    Page,
}

impl CallKind {
    /// Whether many messages may follow one another, for as long as the client likes.
    pub(super) fn is_stream(self) -> bool {
        match self {
            Self::Etcd(rpc) => rpc.shape() != Shape::Unary,
            Self::OtherGrpc => true,
            Self::Page => false,
        }
    }
}

/// A request whose caller is not known yet.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) kind: CallKind,
    pub(super) request: Request<Incoming>,
}

impl Arrived {
    pub(super) fn new(request: Request<Incoming>) -> Self {
        let content = request.headers().get(CONTENT_TYPE);
        let kind = match Rpc::from_path(request.uri().path()) {
            Some(rpc) => CallKind::Etcd(rpc),
            None if content
                .is_some_and(|content| content.as_bytes().starts_with(b"application/grpc")) =>
            {
                CallKind::OtherGrpc
            }
            None => CallKind::Page,
        };
        Self { kind, request }
    }
}

/// A request, and who makes it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: CallKind,
    pub(super) request: Request<Incoming>,
    pub(super) context: Context,
    /// Held until the answer has left, or its client has gone.
    pub(super) permit: Option<InFlight>,
    /// How many bytes a message of the request may have.
    pub(super) max_message: usize,
}
