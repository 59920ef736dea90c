//! A unary call: one message in, one out, both as bytes.
//!
//! Framed here and not by tonic, which copies both and clones the services for it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keyloom_etcd_api::{
    Rpc, Status,
    framing::{Assembler, FramingError, Pieces},
};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

use super::reply;
use crate::services::{Context, Services};

/// etcd's `--max-request-bytes`, and the overhead that its server allows on top
/// (`grpcOverheadBytes` in `server/etcdserver/api/v3rpc/grpc.go`).
pub(super) const MAX_REQUEST: usize = 1536 * 1024 + 512 * 1024;

/// Answers one call.
pub(super) async fn answer(
    services: &Services,
    rpc: Rpc,
    request: Request<Incoming>,
) -> Response<Body> {
    let context = Context {
        deadline: deadline_of(request.headers()),
        needs_leader: needs_leader(request.headers()),
    };
    let answer = async {
        let message = message_of(request.into_body()).await?;
        Ok(services.unary(rpc, message, context).await?)
    };
    let answer = match context.deadline {
        None => answer.await,
        Some(deadline) => timeout_at(deadline, answer)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded"))),
    };
    match answer {
        Ok(message) => reply::single(message),
        Err(status) => reply::refusal(&status),
    }
}

/// etcd's `hasleader: true` (`rpctypes.MetadataRequireLeaderKey`).
pub(super) fn needs_leader(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value.as_bytes() == b"true")
}

/// The one message of a request, once the request has ended.
async fn message_of(mut body: Incoming) -> Result<Bytes, Status> {
    let mut pieces = Assembler::up_to(MAX_REQUEST);
    let mut message = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
        // What follows the message says nothing.
        if let (None, Ok(piece)) = (&message, frame.into_data()) {
            pieces.push(piece);
            message = pieces.take().map_err(refusal)?.map(Pieces::into_bytes);
        }
    }
    message.ok_or_else(|| Status::internal("Missing request message."))
}

/// As grpc-go says it (`recvMsg` and `checkRecvPayload` in its `rpc_util.go`): kube-apiserver and
/// others match the code.
fn refusal(error: FramingError) -> Status {
    match error {
        FramingError::TooLong(size) => Status::resource_exhausted(format!(
            "grpc: received message larger than max ({size} vs. {MAX_REQUEST})"
        )),
        FramingError::Compressed => {
            Status::unimplemented("grpc: Decompressor is not installed for the request's encoding")
        }
    }
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
