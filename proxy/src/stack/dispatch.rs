//! From a route to what answers it.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use keyloom_etcd_api::Shape;
use tonic::body::Body;
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    call::{Call, CallKind},
    plain_http::HttpPages,
    reply, stream, unary,
};
use crate::services::Services;

/// A service of the gRPC ecosystem, as tonic makes it.
type Extra = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// What is served beside etcd's calls.
pub(crate) struct Extras {
    health: Extra,
    reflection: Extra,
    reflection_alpha: Extra,
    pages: HttpPages,
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras").finish_non_exhaustive()
    }
}

impl Extras {
    /// `health` is a `grpc.health.v1` service.
    ///
    /// # Errors
    /// Where the descriptors of etcd's API cannot be read.
    pub(crate) fn new<H>(
        health: H,
        pages: HttpPages,
    ) -> Result<Self, tonic_reflection::server::Error>
    where
        H: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        H::Future: Send,
    {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(keyloom_etcd_api::FILE_DESCRIPTOR_SET)
        };
        Ok(Self {
            health: BoxCloneSyncService::new(health),
            reflection: BoxCloneSyncService::new(builder().build_v1()?),
            reflection_alpha: BoxCloneSyncService::new(builder().build_v1alpha()?),
            pages,
        })
    }

    /// The service of its own that Keyloom has at a path.
    fn service(&self, path: &str) -> Option<&Extra> {
        match path.trim_start_matches('/').split('/').next()? {
            "grpc.health.v1.Health" => Some(&self.health),
            "grpc.reflection.v1.ServerReflection" => Some(&self.reflection),
            "grpc.reflection.v1alpha.ServerReflection" => Some(&self.reflection_alpha),
            _ => None,
        }
    }

    /// Answers a call of a service that is not etcd's: by Keyloom itself, or by the store.
    async fn call(&self, services: Arc<Services>, call: Call) -> Response<Body> {
        let Some(service) = self.service(call.request.uri().path()) else {
            return stream::answer_unknown(services, call).await;
        };
        let answer = service.clone().oneshot(call.request.map(Body::new));
        let Ok(answer) = answer.await;
        answer.map(|body| reply::holding(body, call.permit))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    services: Arc<Services>,
    extras: Arc<Extras>,
}

impl Dispatch {
    pub(super) fn new(services: Arc<Services>, extras: Arc<Extras>) -> Self {
        Self { services, extras }
    }
}

impl Service<Call> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let services = Arc::clone(&self.services);
        match call.kind {
            CallKind::Etcd(rpc) if rpc.shape() == Shape::Unary => {
                Box::pin(async move { Ok(unary::answer(&services, rpc, call).await) })
            }
            CallKind::Etcd(rpc) => {
                Box::pin(async move { Ok(stream::answer(services, rpc, call).await) })
            }
            CallKind::OtherGrpc => {
                let extras = Arc::clone(&self.extras);
                Box::pin(async move { Ok(extras.call(services, call).await) })
            }
            CallKind::Page => {
                let extras = Arc::clone(&self.extras);
                Box::pin(async move { Ok(extras.pages.answer(&services, call.request).await) })
            }
        }
    }
}
