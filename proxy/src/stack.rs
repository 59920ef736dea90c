//! The layers that every call passes, outermost first.

mod observe;
mod dispatch;
mod unary;
mod stream;
mod reply;
mod probe;

use std::sync::Arc;

use tower::ServiceBuilder;

use crate::{listen::Stack, metrics::Metrics, services::Services};

pub(crate) use dispatch::Extras;

/// The stack of one listener.
pub(crate) fn stack(services: Arc<Services>, extras: Extras, metrics: Arc<Metrics>) -> Stack {
    let stack = ServiceBuilder::new()
        // A span, a count and a duration for each call, whatever becomes of it.
        .layer(observe::Observe::new(metrics))
        // gRPC by path; probes over HTTP/1.
        .service(dispatch::Dispatch::new(services, extras));
    crate::listen::erase(stack)
}
