//! A streaming call: messages as bytes, both ways. Framed here, as unary calls are: tonic sets aside
//! a buffer for each direction, which an idle watch keeps for as long as it lives.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _, future,
    stream::{self, BoxStream},
};
use http::{Response, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keyloom_etcd_api::{
    EtcdError, Rpc, Status,
    framing::{Assembler, Pieces},
};
use keyloom_store::Part;
use tonic::body::Body;

use super::{
    admission::InFlight,
    bounds::deadline_of,
    call::Call,
    reply::{self, Messages},
    unary::refused,
};
use crate::{
    failure::Failure,
    services::{Context, Services, StreamAnswer},
};

/// Answers one call.
pub(super) async fn answer(services: Arc<Services>, rpc: Rpc, call: Call) -> Response<Body> {
    let mut context = call.context;
    context.metadata = services.metadata(call.request.headers());
    let requests = requests_of(call.request.into_body(), call.max_message).boxed();
    match services.stream(rpc, requests, context.clone()).await {
        Ok(answer) => respond(services, answer, context, call.permit),
        Err(failure) => refused(rpc, &context, &Status::from(failure)),
    }
}

/// Answers one call that is none of etcd's known ones. A unary call is a stream of one.
pub(super) async fn answer_unknown(services: Arc<Services>, call: Call) -> Response<Body> {
    let mut context = call.context;
    let headers = call.request.headers();
    context.metadata = services.metadata(headers);
    context.deadline = deadline_of(headers);
    // A request's URI always has a path.
    let path = call.request.uri().path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let requests = requests_of(call.request.into_body(), call.max_message).boxed();
    match services.unknown(path, requests, context.clone()).await {
        Ok(answer) => respond(services, answer, context, call.permit),
        Err(failure) => reply::refusal(&failure.into()),
    }
}

fn respond(
    services: Arc<Services>,
    answer: StreamAnswer,
    context: Context,
    permit: Option<InFlight>,
) -> Response<Body> {
    let parts = until_stopped(services, answer.parts, context);
    reply::stream(parts, &answer.metadata, permit)
}

/// The requests of a client. One that goes away, or sends what is no message, ends them.
fn requests_of(body: Incoming, max: usize) -> impl Stream<Item = Bytes> + Send + 'static {
    let pieces = Assembler::up_to(max);
    stream::unfold((body, pieces), |(mut body, mut pieces)| async move {
        loop {
            if let Some(request) = pieces.take().ok()? {
                return Some((Pieces::into_bytes(request), (body, pieces)));
            }
            if let Ok(piece) = body.frame().await?.ok()?.into_data() {
                pieces.push(piece);
            }
        }
    })
}

/// Lets nothing out past the leadership, and ends when the instance does: the client then comes back to
/// whoever serves next.
fn until_stopped(
    services: Arc<Services>,
    answers: BoxStream<'static, Result<Part, Failure>>,
    context: Context,
) -> Messages {
    let (stopping, stopped) = (services.stopping.clone(), services.stopping.clone());
    let end = stream::once(future::ready(())).filter_map(move |()| {
        let end = stopped
            .is_cancelled()
            .then(|| Err(EtcdError::Stopped.into()));
        future::ready(end)
    });
    let guarded = answers.then(move |answer| {
        let (services, context) = (Arc::clone(&services), context.clone());
        async move {
            let order = services.snapshot.load().order.clone();
            context.until_may_leave(&order).await?;
            Ok(answer?)
        }
    });
    guarded
        .take_until(stopping.cancelled_owned())
        .chain(end)
        .boxed()
}
