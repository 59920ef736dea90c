//! The operator's endpoint: probes, metrics, and what is served, over plain HTTP.
//!
//! Every page is a text, and JSON where that is asked for by `Accept: application/json` or
//! `?format=json`. It is a second listener with the connections of the first (`listen::serve`).
//! Bounds: [`CONNECTIONS`] at once, the next waits in the kernel's queue; headers must come within
//! ten seconds; an answer that is not taken is cut off [`DRAIN`] after the end was asked for.

mod exposition;
mod page;
mod probes;
mod topology;

use std::{sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, response::Response, routing::get};
use parking_lot::RwLock;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio_util::sync::CancellationToken;

use crate::{
    bringup::FileStatus,
    gauges::Gauges,
    instance::Instance,
    listen::{self, Accept, Limits},
    stores::Stores,
};
use page::Format;

/// Probes, a scraper and a few operators: far below what the pages could take from the clients.
const CONNECTIONS: usize = 256;

/// How long answers may be taken after the end was asked for.
const DRAIN: Duration = Duration::from_secs(1);

/// What the pages show.
pub(crate) struct Shared {
    registry: Registry,
    gauges: Gauges,
    stores: Arc<Stores>,
    topology: FileStatus,
    instance: RwLock<Option<Arc<Instance>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(mut registry: Registry, stores: Arc<Stores>, topology: FileStatus) -> Self {
        let gauges = Gauges::register(&mut registry);
        Self {
            registry,
            gauges,
            stores,
            topology,
            instance: RwLock::new(None),
        }
    }

    /// How many connections of clients are open: to be kept by the listeners.
    pub(crate) fn connections(&self) -> Gauge {
        self.gauges.connections.clone()
    }

    /// The instance serves from now on.
    pub(crate) fn ready(&self, instance: Arc<Instance>) {
        *self.instance.write() = Some(instance);
    }

    /// Lets go of the instance, so that it can end.
    pub(crate) fn release(&self) {
        *self.instance.write() = None;
    }

    fn readiness(&self) -> Result<(), String> {
        match &*self.instance.read() {
            Some(instance) => instance.ready(),
            None => Err("starting: waiting for the stores or for the leadership".to_owned()),
        }
    }
}

impl Shared {
    /// What serves; `None` while nothing does.
    fn instance(&self) -> Option<Arc<Instance>> {
        self.instance.read().clone()
    }

    /// All metrics in the format of OpenMetrics.
    pub(crate) fn metrics_page(&self) -> Result<String, std::fmt::Error> {
        let gauges = self.instance().map(|instance| instance.gauges());
        self.gauges.look(&gauges.unwrap_or_default());
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Every page, and where its answer is made.
fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .route("/stores", get(probes::stores))
        .route("/usage", get(probes::usage))
        .route("/topology", get(topology::topology))
        .route("/topology/status", get(topology::status))
        .route("/topology/strays", get(topology::strays))
        .fallback(no_page)
        .method_not_allowed_fallback(not_get)
        .with_state(shared)
}

async fn no_page(format: Format) -> Response {
    let pages = "pages: /livez /readyz /metrics /stores /usage /topology /topology/status \
                 /topology/strays";
    format.refuse(StatusCode::NOT_FOUND, pages)
}

async fn not_get(format: Format) -> Response {
    format.refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET")
}

/// Serves the pages until `stop` is cancelled.
pub(crate) async fn serve(listener: Box<dyn Accept>, shared: Arc<Shared>, stop: CancellationToken) {
    let limits = Limits {
        connections: CONNECTIONS,
        streams: 100,
        listener: "admin".into(),
        ..Limits::default()
    };
    let router = router(shared);
    let pages = move |_peer| router.clone();
    let served = listen::serve(listener, None, pages, limits, stop.clone());
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = served => {}
        () = late => {}
    }
}

#[cfg(test)]
mod tests;
