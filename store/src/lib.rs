//! The port: one trait that every kind of store stands behind. Pure: no socket and no clock.
//!
//! Messages cross it encoded, so that what concerns one store is handed on as bytes.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use keyloom_etcd_api::{Rpc, Status, framing::Pieces};

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
    fn call_in_pieces(&self, call: Call) -> BoxFuture<'static, Result<Pieces, CallError>> {
        let answer = self.call(call);
        Box::pin(async move { answer.await.map(Pieces::from) })
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

    /// Why the store cannot keep the ledger, and so cannot be the default store. Nothing is written
    /// to find that out.
    ///
    /// # Errors
    /// Where the store does not say what it is.
    fn refuses_the_ledger(&self) -> BoxFuture<'static, Result<Option<&'static str>, CallError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
