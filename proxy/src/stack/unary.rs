//! A unary call: one message in, one out, both as bytes.
//!
//! Framed here and not by tonic, which copies both and clones the services for it.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keyloom_etcd_api::{
    Rpc, Status,
    framing::{Assembler, FramingError, Pieces},
};
use tonic::body::Body;
use tracing::debug;

use super::{call::Call, reply};
use crate::services::{Answer, Context, Services};

/// Answers one call.
pub(super) async fn answer(services: &Services, rpc: Rpc, mut call: Call) -> Response<Body> {
    call.context.metadata = services.metadata(call.request.headers());
    let permit = call.permit;
    let answer: Result<Answer, Status> = async {
        let message = message_of(call.request.into_body(), call.max_message).await?;
        Ok(services.unary(rpc, message, &call.context).await?)
    }
    .await;
    match answer {
        Ok(message) => reply::single(message, permit),
        Err(status) => refused(rpc, &call.context, &status),
    }
}

/// The answer to a call that failed: told to the log, for whoever looks for the cause.
pub(super) fn refused(rpc: Rpc, context: &Context, status: &Status) -> Response<Body> {
    let (code, why) = (status.code(), status.message());
    debug!(caller = %context.caller, rpc = rpc.name(), ?code, why, "the call failed");
    reply::refusal(status)
}

/// The one message of a request, once the request has ended.
async fn message_of(mut body: Incoming, max: usize) -> Result<Bytes, Status> {
    let mut pieces = Assembler::up_to(max);
    let mut message = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
        // What follows the message says nothing.
        if let (None, Ok(piece)) = (&message, frame.into_data()) {
            pieces.push(piece);
            message = pieces
                .take()
                .map_err(|error| refusal(error, max))?
                .map(Pieces::into_bytes);
        }
    }
    message.ok_or_else(|| Status::internal("Missing request message."))
}

/// As grpc-go says it (`recvMsg` and `checkRecvPayload` in its `rpc_util.go`): kube-apiserver and
/// others match the code.
fn refusal(error: FramingError, max: usize) -> Status {
    match error {
        FramingError::TooLong(size) => Status::resource_exhausted(format!(
            "grpc: received message larger than max ({size} vs. {max})"
        )),
        FramingError::Compressed => {
            Status::unimplemented("grpc: Decompressor is not installed for the request's encoding")
        }
    }
}
