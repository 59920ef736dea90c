//! A unary call: framing by tonic, messages as bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use keyloom_etcd_api::{RawCodec, Rpc};
use tokio::time::{Instant, timeout_at};
use tonic::{
    Status,
    body::Body,
    server::{Grpc, UnaryService},
};

use crate::services::{Context, Services};

/// etcd's `--max-request-bytes`, and the overhead that its server allows on top
/// (`grpcOverheadBytes` in `server/etcdserver/api/v3rpc/grpc.go`).
pub(super) const MAX_REQUEST: usize = 1536 * 1024 + 512 * 1024;

struct Call {
    services: Arc<Services>,
    rpc: Rpc,
    context: Context,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let services = Arc::clone(&self.services);
        let (rpc, context) = (self.rpc, self.context);
        Box::pin(async move {
            let answer = services.unary(rpc, request.into_inner(), context).await?;
            Ok(tonic::Response::new(answer))
        })
    }
}

/// Answers one call.
pub(super) async fn answer(
    services: Arc<Services>,
    rpc: Rpc,
    request: Request<Incoming>,
) -> Response<Body> {
    let context = Context {
        deadline: deadline_of(request.headers()),
        needs_leader: needs_leader(request.headers()),
    };
    let mut grpc = Grpc::new(RawCodec)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX);
    let answer = grpc.unary(
        Call {
            services,
            rpc,
            context,
        },
        request,
    );
    match context.deadline {
        None => answer.await,
        Some(deadline) => timeout_at(deadline, answer)
            .await
            .unwrap_or_else(|_| Status::deadline_exceeded("context deadline exceeded").into_http()),
    }
}

/// etcd's `hasleader: true` (`rpctypes.MetadataRequireLeaderKey`).
pub(super) fn needs_leader(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value.as_bytes() == b"true")
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, Requests).
pub(super) fn deadline_of(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    Instant::now().checked_add(timeout_of(text)?)
}

fn timeout_of(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("20M", Some(Duration::from_secs(1200))),
            ("2S", Some(Duration::from_secs(2))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("15u", Some(Duration::from_micros(15))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("123456789S", None),
            ("1X", None),
            ("1ä", None),
        ] {
            assert_eq!(timeout_of(text), expected, "{text:?}");
        }
    }
}
