//! A streaming call: messages as bytes, both ways. Framed here, as unary calls are: tonic sets aside
//! a buffer for each direction, which an idle watch keeps for as long as it lives.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _, future,
    stream::{self, BoxStream},
};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keyloom_etcd_api::{
    EtcdError, Rpc, Status,
    framing::{Assembler, Pieces},
};
use tonic::body::Body;

use super::{
    call::Call,
    reply::{self, Messages},
    unary::refused,
};
use crate::{
    failure::Failure,
    services::{Context, Services},
};

/// Answers one call.
pub(super) async fn answer(services: Arc<Services>, rpc: Rpc, call: Call) -> Response<Body> {
    let requests = requests_of(call.request.into_body(), call.max_message).boxed();
    let context = call.context;
    match services.stream(rpc, requests, context.clone()).await {
        Ok(answers) => reply::stream(until_stopped(services, answers, context), call.permit),
        Err(failure) => refused(rpc, &context, &Status::from(failure)),
    }
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
    answers: BoxStream<'static, Result<Bytes, Failure>>,
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
