//! Requests above the limit get the error that etcd's server (grpc-go) gives them: kube-apiserver
//! and others match its code.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Code, Status, body::Body};
use tower::Service;

#[derive(Clone, Debug)]
pub(super) struct Oversized<S> {
    inner: S,
}

impl<S> Oversized<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Incoming>> for Oversized<S>
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
        self.inner
            .call(request)
            .map(|answer| {
                let response = answer?;
                let status = Status::from_header_map(response.headers());
                Ok(match status.as_ref().and_then(as_grpc_go) {
                    Some(status) => status.into_http(),
                    None => response,
                })
            })
            .boxed()
    }
}

/// `recvMsg` in grpc-go's `rpc_util.go` says it in these words.
fn as_grpc_go(status: &Status) -> Option<Status> {
    if status.code() != Code::OutOfRange {
        return None;
    }
    let rest = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")?;
    let (size, limit) = rest.split_once(" bytes, the limit is: ")?;
    let limit = limit.strip_suffix(" bytes")?;
    let text = format!("grpc: received message larger than max ({size} vs. {limit})");
    Some(Status::resource_exhausted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_s_error_becomes_grpc_go_s() {
        let codec = Status::out_of_range(
            "Error, decoded message length too large: found 9 bytes, the limit is: 5 bytes",
        );
        let status = as_grpc_go(&codec).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (9 vs. 5)"
        );
    }

    #[test]
    fn etcd_s_own_out_of_range_stays() {
        let compacted = Status::from(keyloom_etcd_api::EtcdError::Compacted);
        assert!(as_grpc_go(&compacted).is_none());
    }
}
