//! The layers that every request of a client passes.
//!
//! One line a layer, outermost first. Each is a concrete type over the next: a request costs one
//! box, at the dispatch, whatever the number of layers.

mod call;
mod trace;
mod measure;
mod access_log;
mod identify;
mod admission;
mod bounds;
mod authenticate;
mod dispatch;
mod unary;
mod stream;
mod plain_http;
mod reply;

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::{Service, ServiceBuilder};

use crate::{caller::Peer, metrics::Metrics, services::Services};

pub(crate) use admission::Admission;
pub use admission::AdmissionLimits;
use call::Arrived;
pub(crate) use dispatch::Extras;
pub(crate) use plain_http::HttpPages;

/// What the layers of all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    pub(crate) services: Arc<Services>,
    pub(crate) extras: Arc<Extras>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Arc<Admission>,
    /// The largest request, in bytes, that etcd's `--max-request-bytes` allows.
    pub(crate) max_request_bytes: usize,
    /// Whether each call is written to the access log.
    pub(crate) access_log: bool,
}

impl Stack {
    /// The stack of one connection.
    pub(crate) fn of(
        &self,
        peer: &Arc<Peer>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    >
    + Clone
    + Send
    + 'static
    + use<> {
        let access_log = access_log::AccessLog::new(Arc::clone(peer));
        ServiceBuilder::new()
            // Looks the path up once, for all layers below.
            .map_request(Arrived::new)
            // Opens the span in which everything else happens, and ends it when the answer has left.
            .layer(trace::Trace)
            // Counts and times what becomes of a call, refusals of the layers below included.
            .layer(measure::Measure::new(Arc::clone(&self.metrics)))
            // Writes a line when the answer has left; outside of what can refuse the call.
            .option_layer(self.access_log.then_some(access_log))
            // Says who calls: what follows decides by it.
            .layer(identify::Identify::new(Arc::clone(peer)))
            // Turns away what is too much before it takes memory or a store's time.
            .layer(self.admission.layer(peer))
            // Ends a call when its client has stopped waiting; says how large a request may be.
            .layer(bounds::Bounds::new(self.max_request_bytes))
            // Decides who may pass; nothing of the request's body is read before.
            .layer(authenticate::Authenticate::new(
                authenticate::Policy::Everybody,
            ))
            // Calls of etcd and of gRPC's own services; pages over HTTP/1. Answers leave through
            // the fence of the leadership, which stands in `services`: it must ask the order under
            // which the answer was made, and only the handler knows which that was.
            .service(dispatch::Dispatch::new(
                Arc::clone(&self.services),
                Arc::clone(&self.extras),
            ))
    }
}
