//! One span, one count and one duration for each call.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use hyper::body::Incoming;
use keyloom_etcd_api::{Code, Rpc};
use tokio::time::Instant;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{Instrument as _, debug, debug_span};

use crate::metrics::Metrics;

#[derive(Clone, Debug)]
pub(super) struct Observe {
    metrics: Arc<Metrics>,
}

impl Observe {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Observed<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Request<Incoming>> for Observed<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let Some(rpc) = Rpc::from_path(request.uri().path()) else {
            return self.inner.call(request).boxed();
        };
        let begun = Instant::now();
        let metrics = Arc::clone(&self.metrics);
        let span = debug_span!("call", rpc = rpc.name());
        let answer = self.inner.call(request);
        async move {
            let response = answer.await?;
            let code = code_of(&response);
            let took = begun.elapsed();
            metrics.called(rpc, code, took);
            debug!(code = ?code, took_us = took.as_micros(), "answered");
            Ok(response)
        }
        .instrument(span)
        .boxed()
    }
}

/// The code of an answer that is an error from the start; the end of a stream is not seen here.
fn code_of(response: &Response<Body>) -> Code {
    let code = response.headers().get("grpc-status");
    let number = code.map_or(Some(0), |code| code.to_str().ok()?.parse().ok());
    number.map_or(Code::Unknown, Code::from_number)
}
