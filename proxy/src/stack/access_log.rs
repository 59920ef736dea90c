//! One line for each call, once its answer has left: who, what, how it ended, how long, how much.
//! Never a key or a value.
//!
//! Off unless `--access-log` is given; the lines have the level `info` and the target
//! `keyloom::access`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response, header::CONTENT_TYPE};
use hyper::body::{Frame, SizeHint};
use keyloom_etcd_api::Code;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::info;

use super::{
    call::{Arrived, CallKind},
    measure::code_in,
};
use crate::caller::Peer;

/// One connection's.
#[derive(Clone, Debug)]
pub(super) struct AccessLog {
    peer: Arc<Peer>,
}

impl AccessLog {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self { peer }
    }
}

impl<S> Layer<S> for AccessLog {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        let peer = Arc::clone(&self.peer);
        Logged { inner, peer }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Logged<S> {
    inner: S,
    peer: Arc<Peer>,
}

impl<S> Service<Arrived> for Logged<S>
where
    S: Service<Arrived, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Logging<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, arrived: Arrived) -> Self::Future {
        let line = Line {
            peer: Arc::clone(&self.peer),
            what: match arrived.kind {
                CallKind::Etcd(rpc) => rpc.path().to_owned(),
                CallKind::OtherGrpc | CallKind::Page => arrived.request.uri().path().to_owned(),
            },
            begun: Instant::now(),
            end: CallEnd::Gone,
            bytes: 0,
        };
        Logging {
            line: Some(line),
            answer: self.inner.call(arrived),
        }
    }
}

pin_project! {
    /// A call that is being answered.
    pub(super) struct Logging<F> {
        // With the answer's body once that has begun.
        line: Option<Line>,
        #[pin]
        answer: F,
    }
}

impl<F> Future for Logging<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.answer.poll(context));
        let Some(mut line) = this.line.take() else {
            return Poll::Ready(Ok(response));
        };
        let kind = response.headers().get(CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            line.end = CallEnd::Page(response.status().as_u16());
        }
        line.learn(response.headers());
        let response = response.map(|body| Body::new(LoggedBody { line, body }));
        Poll::Ready(Ok(response))
    }
}

/// What the line will say: written when it is dropped, however the call ends.
#[derive(Debug)]
struct Line {
    peer: Arc<Peer>,
    what: String,
    begun: Instant,
    end: CallEnd,
    /// Of the answer, as sent: messages and their frames, without headers.
    bytes: usize,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
enum CallEnd {
    /// The client went away before the end.
    Gone,
    /// A gRPC status.
    Status(Code),
    /// The status of a page.
    Page(u16),
}

impl Line {
    /// Reads how the call ended from headers or trailers.
    fn learn(&mut self, headers: &HeaderMap) {
        if let Some(code) = code_in(headers) {
            self.end = CallEnd::Status(code);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let code = match self.end {
            CallEnd::Gone => "client gone".to_owned(),
            CallEnd::Status(code) => format!("{code:?}"),
            CallEnd::Page(status) => status.to_string(),
        };
        let certificate = self.peer.certificate.as_ref();
        info!(
            target: "keyloom::access",
            caller = %self.peer,
            certificate = certificate.and_then(|names| names.name()),
            listener = %self.peer.listener,
            call = %self.what,
            %code,
            took_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            bytes = self.bytes,
            "answered"
        );
    }
}

/// The body of an answer that is counted.
struct LoggedBody {
    line: Line,
    body: Body,
}

impl hyper::body::Body for LoggedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        // A body of Keyloom's own ends with trailers, whatever went wrong: an error says no more.
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                this.line.bytes += data.len();
            } else if let Some(trailers) = frame.trailers_ref() {
                this.line.learn(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
