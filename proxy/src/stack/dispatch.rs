//! From a path to what answers it.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response, header::CONTENT_TYPE};
use hyper::body::Incoming;
use keyloom_etcd_api::{Rpc, Shape, Status};
use tonic::body::Body;
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use super::{probe, reply, stream, unary};
use crate::services::Services;

/// A service of the gRPC ecosystem, as tonic makes it.
type Extra = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// gRPC's own services beside etcd's.
pub(crate) struct Extras {
    health: Extra,
    reflection: Extra,
    reflection_alpha: Extra,
    ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Extras {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extras").finish_non_exhaustive()
    }
}

impl Extras {
    /// `health` is a `grpc.health.v1` service, `ready` says whether calls can be answered.
    ///
    /// # Errors
    /// Where the descriptors of etcd's API cannot be read.
    pub(crate) fn new<H>(
        health: H,
        ready: impl Fn() -> bool + Send + Sync + 'static,
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
            ready: Arc::new(ready),
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    services: Arc<Services>,
    /// Shared: the stack is cloned for every call.
    extras: Arc<Extras>,
}

impl Dispatch {
    pub(super) fn new(services: Arc<Services>, extras: Extras) -> Self {
        Self {
            services,
            extras: Arc::new(extras),
        }
    }
}

impl Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let path = request.uri().path();
        if let Some(rpc) = Rpc::from_path(path) {
            let services = Arc::clone(&self.services);
            return Box::pin(async move {
                Ok(match rpc.shape() {
                    Shape::Unary => unary::answer(&services, rpc, request).await,
                    _ => stream::answer(services, rpc, request).await,
                })
            });
        }
        let extra = match path.trim_start_matches('/').split('/').next() {
            Some("grpc.health.v1.Health") => &self.extras.health,
            Some("grpc.reflection.v1.ServerReflection") => &self.extras.reflection,
            Some("grpc.reflection.v1alpha.ServerReflection") => &self.extras.reflection_alpha,
            _ => {
                let answer = unknown(&request, (self.extras.ready)());
                return Box::pin(async move { Ok(answer) });
            }
        };
        Box::pin(extra.clone().oneshot(request.map(Body::new)))
    }
}

fn unknown(request: &Request<Incoming>, ready: bool) -> Response<Body> {
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    match request.uri().path() {
        path if is_grpc => reply::refusal(&Status::unimplemented(format!("unknown method {path}"))),
        "/health" => probe::health(ready),
        _ => probe::not_found(),
    }
}
