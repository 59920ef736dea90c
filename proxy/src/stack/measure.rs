//! One count and one duration for each call.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response};
use keyloom_etcd_api::{Code, Rpc};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};

use super::call::{Arrived, CallKind};
use crate::metrics::Metrics;

#[derive(Clone, Debug)]
pub(super) struct Measure {
    metrics: Arc<Metrics>,
}

impl Measure {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for Measure {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        let metrics = Arc::clone(&self.metrics);
        Measured { inner, metrics }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Measured<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Arrived> for Measured<S>
where
    S: Service<Arrived, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Measuring<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, arrived: Arrived) -> Self::Future {
        let call = match arrived.kind {
            CallKind::Etcd(rpc) => Some((rpc, Instant::now())),
            CallKind::OtherGrpc | CallKind::Page => None,
        };
        Measuring {
            call,
            metrics: Arc::clone(&self.metrics),
            answer: self.inner.call(arrived),
        }
    }
}

pin_project! {
    /// A call that is being answered.
    pub(super) struct Measuring<F> {
        // Which call, and since when; none for what is not etcd's.
        call: Option<(Rpc, Instant)>,
        metrics: Arc<Metrics>,
        #[pin]
        answer: F,
    }
}

impl<F> Future for Measuring<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.answer.poll(context));
        if let Some((rpc, begun)) = *this.call {
            let code = code_of(&response);
            this.metrics.called(rpc, code, begun.elapsed());
        }
        Poll::Ready(Ok(response))
    }
}

/// The code of an answer that is an error from the start; the end of a stream is not seen here.
fn code_of(response: &Response<Body>) -> Code {
    code_in(response.headers()).unwrap_or(Code::Ok)
}

/// The code that headers or trailers name.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get("grpc-status")?;
    let number = code.to_str().ok().and_then(|code| code.parse().ok());
    Some(number.map_or(Code::Unknown, Code::from_number))
}
