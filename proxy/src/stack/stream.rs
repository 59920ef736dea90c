//! A streaming call: messages as bytes, both ways. Framed here, as unary calls are: tonic sets aside
//! a buffer for each direction, which an idle watch keeps for as long as it lives.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _, future,
    stream::{self, BoxStream},
};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    framing::{Assembler, Pieces},
};
use tonic::body::Body;

use super::{
    reply::{self, Messages},
    unary::{MAX_REQUEST, needs_leader},
};
use crate::{
    failure::Failure,
    services::{Context, Services},
};

/// Answers one call.
pub(super) async fn answer(
    services: Arc<Services>,
    rpc: Rpc,
    request: Request<Incoming>,
) -> Response<Body> {
    let context = Context {
        needs_leader: needs_leader(request.headers()),
        ..Context::until(None)
    };
    let requests = requests_of(request.into_body()).boxed();
    match services.stream(rpc, requests, context).await {
        Ok(answers) => reply::stream(until_stopped(services, answers, context)),
        Err(failure) => reply::refusal(&failure.into()),
    }
}

/// The requests of a client. One that goes away, or sends what is no message, ends them.
fn requests_of(body: Incoming) -> impl Stream<Item = Bytes> + Send + 'static {
    let pieces = Assembler::up_to(MAX_REQUEST);
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
        let services = Arc::clone(&services);
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
