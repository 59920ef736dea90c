//! One span for each call: from its arrival until its answer has left, however long a stream takes.
//!
//! Off unless the log or the export of traces asks for it ([`telemetry`]): then a call pays for a look
//! at one number. The fields have OpenTelemetry's names.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Frame, SizeHint};
use keyloom_etcd_api::Code;
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{
    Instrument as _, Span, debug, debug_span,
    field::{Empty, display},
    instrument::Instrumented,
};

use super::{
    call::{Arrived, CallKind},
    measure::code_in,
};
use crate::telemetry;

#[derive(Clone, Copy, Debug)]
pub(super) struct Trace;

impl<S> Layer<S> for Trace {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Traced<S> {
    inner: S,
}

impl<S> Service<Arrived> for Traced<S>
where
    S: Service<Arrived, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Tracing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, arrived: Arrived) -> Self::Future {
        let span = span_of(&arrived);
        let answer = span.in_scope(|| self.inner.call(arrived));
        Tracing {
            answer: answer.instrument(span),
        }
    }
}

/// Pages have none: probes would drown what is looked for.
fn span_of(arrived: &Arrived) -> Span {
    let path = match arrived.kind {
        CallKind::Etcd(rpc) => rpc.path(),
        CallKind::OtherGrpc => arrived.request.uri().path(),
        CallKind::Page => return Span::none(),
    };
    let span = debug_span!(
        target: telemetry::TARGET,
        "call",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = Empty,
        rpc.method = Empty,
        rpc.grpc.status_code = Empty,
        client.address = Empty,
        user_agent.original = Empty,
        keyloom.caller = Empty,
        keyloom.listener = Empty,
    );
    if !span.is_disabled() {
        telemetry::record_path(&span, path);
        telemetry::continue_trace(&span, arrived.request.headers());
    }
    span
}

/// Adds to the span of a call who makes it.
pub(super) fn record_caller(caller: &crate::caller::Caller) {
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    span.record("keyloom.caller", display(caller));
    span.record("keyloom.listener", &*caller.peer.listener);
    if let Some(address) = &caller.peer.address {
        span.record("client.address", display(address));
    }
    let agent = caller.user_agent.as_ref();
    if let Some(agent) = agent.and_then(|agent| agent.to_str().ok()) {
        span.record("user_agent.original", agent);
    }
}

pin_project! {
    /// A call that is being answered.
    pub(super) struct Tracing<F> {
        #[pin]
        answer: Instrumented<F>,
    }
}

impl<F> Future for Tracing<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = self.project().answer;
        let Ok(response) = ready!(answer.as_mut().poll(context));
        let span = answer.span();
        if span.is_disabled() {
            return Poll::Ready(Ok(response));
        }
        let code = code_in(response.headers()).unwrap_or(Code::Ok);
        span.in_scope(|| debug!(target: telemetry::TARGET, ?code, "answered"));
        let span = span.clone();
        record_end(&span, response.headers());
        Poll::Ready(Ok(response.map(|body| Body::new(TracedBody { span, body }))))
    }
}

/// Records how a call ended, where headers or trailers say so.
fn record_end(span: &Span, headers: &HeaderMap) {
    let Some(code) = code_in(headers) else {
        return;
    };
    span.record("rpc.grpc.status_code", code.number());
    if is_servers_fault(code) {
        span.record("otel.status_code", "ERROR");
    }
}

/// The codes that OpenTelemetry's conventions for gRPC servers call errors; the others are a
/// client's doing.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The body of an answer, within the call's span.
struct TracedBody {
    span: Span,
    body: Body,
}

impl hyper::body::Body for TracedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let this = &mut *self;
        let entered = this.span.enter();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        drop(entered);
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            record_end(&this.span, trailers);
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
