//! The port: one trait that every kind of store stands behind. Pure: no socket and no clock.
//!
//! Messages cross it encoded, so that what concerns one store is handed on as bytes.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use http::uri::PathAndQuery;
use keyloom_etcd_api::{Metadata, Rpc, Shape, Status, framing::Pieces, unknown_call};

/// Which of a store's connections a call takes. Calls of one lane can delay each other, calls of
/// different lanes cannot (etcd issues 15402 and 17529: large reads starve watches).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small calls.
    Unary,
    /// Ranges that may answer with megabytes.
    Bulk,
    /// Streams that live long.
    Watch,
}

/// One unary call to a store.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which call of etcd's API.
    pub rpc: Rpc,
    /// What the caller sends beside the message: tokens above all. The store's own token is sent
    /// where it holds none.
    pub metadata: Metadata,
    /// The encoded request.
    pub message: Bytes,
    /// Which connections it takes.
    pub lane: Lane,
    /// When the caller stops waiting; the store's own limit applies where it is sooner.
    pub deadline: Option<Instant>,
    /// Whether the call changes nothing, so that another endpoint may be asked again. A call that
    /// writes is sent again only where it is certain that it never left.
    pub idempotent: bool,
}

/// Why a call to a store has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The store answered with an error: it goes to the client as it is.
    #[error("{0}")]
    Refused(Status),
    /// The request never reached the store: nothing happened there.
    #[error("not reached: {0}")]
    NotSent(String),
    /// The request may have reached the store, and nothing is known of what became of it.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The deadline passed. Nothing is known of what became of the request.
    #[error("no answer in time")]
    TimedOut,
}

/// The answer to a unary call, with what came beside it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub message: Pieces,
    pub metadata: Metadata,
    pub trailers: Metadata,
}

impl From<Pieces> for Answer {
    fn from(message: Pieces) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }
}

/// A call by its path alone: messages both ways, whatever they mean. A unary call is a stream of
/// one. It is sent once, since it may write.
pub struct OpenCall {
    /// `/service/method`.
    pub path: PathAndQuery,
    /// As in [`Call`].
    pub metadata: Metadata,
    pub requests: Requests,
    /// When the caller stops waiting; the store is told.
    pub deadline: Option<Instant>,
}

impl fmt::Debug for OpenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCall")
            .field("path", &self.path)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// What a call by its path answers.
pub struct OpenAnswer {
    pub metadata: Metadata,
    /// An error is the last item.
    pub parts: BoxStream<'static, Result<Part, CallError>>,
}

impl fmt::Debug for OpenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAnswer")
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

impl From<Answers> for OpenAnswer {
    fn from(answers: Answers) -> Self {
        Self {
            metadata: Metadata::default(),
            parts: answers.map(|answer| answer.map(Part::Message)).boxed(),
        }
    }
}

/// One part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Message(Bytes),
    /// What came with the end of a call that went well. The last part, if it comes.
    Trailers(Metadata),
}

/// The encoded requests of a streaming call.
pub type Requests = BoxStream<'static, Bytes>;

/// The encoded answers of a streaming call. An error is the last item.
pub type Answers = BoxStream<'static, Result<Bytes, CallError>>;

/// A store: one backend that speaks etcd's v3 API with its own revision counter.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Makes one unary call. Dropping the future gives up waiting; a request that was sent may
    /// still take effect.
    ///
    /// # Errors
    /// [`CallError`] says whether the call may have taken effect.
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// As [`Store::call`], for answers that are long and handed on as they are.
    fn call_in_pieces(&self, call: Call) -> BoxFuture<'static, Result<Answer, CallError>> {
        let answer = self.call(call);
        Box::pin(async move { Ok(Pieces::from(answer.await?).into()) })
    }

    /// Makes a call by its path, known or not. Returns when the store begins to answer. A store that
    /// is no server of gRPC has the streams that [`Store::stream`] opens, and no others.
    ///
    /// # Errors
    /// As [`Store::stream`]; a path that the store does not have is refused as grpc-go does it.
    fn open(&self, call: OpenCall) -> BoxFuture<'static, Result<OpenAnswer, CallError>> {
        let path = call.path.path();
        match Rpc::from_path(path).filter(|rpc| rpc.shape() != Shape::Unary) {
            Some(rpc) => {
                let answers = self.stream(rpc, call.requests);
                Box::pin(async move { Ok(answers.await?.into()) })
            }
            None => {
                let refused = CallError::Refused(unknown_call(path));
                Box::pin(std::future::ready(Err(refused)))
            }
        }
    }

    /// Opens a streaming call ([`Rpc::Watch`], [`Rpc::LeaseKeepAlive`], [`Rpc::Snapshot`]).
    /// Dropping the answers ends it. It is open before its first answer, and may be opened before
    /// its first request; what fails after that is the last answer.
    ///
    /// # Errors
    /// Where the stream could not be opened.
    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>>;

    /// The same store with connections of its own, for a caller on another runtime: connections are
    /// driven where they are opened, and wait while that runtime is busy. `None` where the calls of
    /// this one are carried by no caller's runtime.
    fn with_own_connections(&self) -> Option<Arc<dyn Store>> {
        None
    }

    /// From now on the store's watches are read for many clients at once: while much comes they may
    /// be read in few and large pieces, each up to about 1 ms late. Without this every event is read
    /// as soon as it comes.
    fn throttle_watches(&self) {}

    /// Why the store cannot keep the ledger, and so cannot be the default store. Nothing is written
    /// to find that out.
    ///
    /// # Errors
    /// Where the store does not say what it is.
    fn refuses_the_ledger(&self) -> BoxFuture<'static, Result<Option<&'static str>, CallError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
