//! A streaming call: framing by tonic, messages as bytes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use http::{Request, Response};
use hyper::body::Incoming;
use keyloom_etcd_api::{EtcdError, RawCodec, Rpc};
use tonic::{
    Status, Streaming,
    body::Body,
    server::{Grpc, StreamingService},
};

use super::unary::{MAX_REQUEST, needs_leader};
use crate::{
    failure::Failure,
    services::{Context, Services},
};

struct Call {
    services: Arc<Services>,
    rpc: Rpc,
    context: Context,
}

type Answers = BoxStream<'static, Result<Bytes, Status>>;

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let services = Arc::clone(&self.services);
        let (rpc, context) = (self.rpc, self.context);
        Box::pin(async move {
            let requests = until_error(request.into_inner()).boxed();
            let answers = services.stream(rpc, requests, context).await?;
            Ok(tonic::Response::new(until_stopped(
                services, answers, context,
            )))
        })
    }
}

/// Lets nothing out past the term, and ends when the instance does: the client then comes back to
/// whoever serves next.
fn until_stopped(
    services: Arc<Services>,
    answers: BoxStream<'static, Result<Bytes, Failure>>,
    context: Context,
) -> Answers {
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
            let answer = answer?;
            let order = Arc::clone(&services.world.load().order);
            context.until_may_leave(&order).await?;
            Ok(answer)
        }
    });
    guarded
        .take_until(stopping.cancelled_owned())
        .chain(end)
        .boxed()
}

/// A client that goes away ends its requests.
fn until_error(requests: Streaming<Bytes>) -> impl Stream<Item = Bytes> + Send + 'static {
    requests
        .take_while(|request| std::future::ready(request.is_ok()))
        .filter_map(|request| std::future::ready(request.ok()))
}

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
    let call = Call {
        services,
        rpc,
        context,
    };
    Grpc::new(RawCodec)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX)
        .streaming(call, request)
        .await
}
