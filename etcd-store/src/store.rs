//! What the calls of a store share, and what they learn for each other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use super::{
    Environment,
    breaker::Breaker,
    config::{EtcdEndpoint, EtcdStoreConfig, Limits},
    connector::Connector,
    endpoint::{Endpoint, News, Setback},
    fault::Fault,
    health::{EndpointHealth, EndpointState},
    prober, refusal,
    session::Session,
    tour::Tour,
};
use crate::metrics::{Metrics, StoreMetrics};
use keyloom_environment::{Random, Throttle};
use keyloom_store::{CallError, Lane};

/// A store's state, shared by its calls.
pub(super) struct Core {
    pub(super) name: Arc<str>,
    pub(super) endpoints: Vec<Endpoint>,
    /// What is known of the store, as the endpoints' health, is shared with those beside this one.
    pub(super) breaker: Arc<Mutex<Breaker>>,
    pub(super) limits: Limits,
    pub(super) random: Arc<dyn Random>,
    pub(super) session: Option<Session>,
    /// Whether a prober is there.
    pub(super) probing: AtomicBool,
    pub(super) metrics: Arc<StoreMetrics>,
    /// Of the connections for watches.
    pub(super) throttle: Throttle,
    pub(super) permits: Semaphore,
    /// How many wait for a permit.
    pub(super) waiting: AtomicUsize,
    /// Where the next call's round begins.
    turn: AtomicUsize,
}

impl Core {
    /// Takes a configuration that was checked. One beside another has connections of its own, and
    /// both know what one of them learns.
    pub(super) fn new(
        config: EtcdStoreConfig,
        environment: &Environment,
        metrics: &Metrics,
        beside: Option<&Self>,
    ) -> Self {
        let metrics = Arc::new(metrics.of_store(&config.name));
        let tls = config.tls.map(|tls| TlsConnector::from(tls.client));
        let throttle = Throttle::default();
        let health = |place: usize| {
            let other = beside.and_then(|core| core.endpoints.get(place));
            other.map_or_else(Arc::default, |endpoint| Arc::clone(&endpoint.health))
        };
        let endpoint = |(place, endpoint): (usize, EtcdEndpoint)| {
            let connector = Connector {
                dial: Arc::clone(&environment.dial),
                address: endpoint.address,
                tls: tls.clone().zip(endpoint.server_name),
                throttle: throttle.clone(),
            };
            let (authority, connections) = (endpoint.authority, config.connections);
            Endpoint::new(connector, authority, connections, health(place), &metrics)
        };
        Self {
            name: config.name.into(),
            endpoints: config
                .endpoints
                .into_iter()
                .enumerate()
                .map(endpoint)
                .collect(),
            breaker: beside.map_or_else(Arc::default, |core| Arc::clone(&core.breaker)),
            limits: config.limits,
            random: Arc::clone(&environment.random),
            session: config.credentials.map(Session::new),
            probing: AtomicBool::new(false),
            metrics: Arc::clone(&metrics),
            throttle: throttle.clone(),
            permits: Semaphore::new(config.limits.max_in_flight.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn health(&self) -> Vec<EndpointHealth> {
        let health = |endpoint: &Endpoint| EndpointHealth {
            address: endpoint.connector.address.clone(),
            state: endpoint.health.state(),
            last_error: endpoint.health.last_error(),
        };
        self.endpoints.iter().map(health).collect()
    }

    /// # Errors
    /// What the caller is told, where the breaker admits nobody.
    pub(super) fn admit(&self) -> Result<(), Arc<str>> {
        let admitted = self.breaker.lock().admit();
        admitted.map_err(|cause| format!("store {} does not answer: {cause}", self.name).into())
    }

    /// A new round of the endpoints. Calls begin at each in turn, as etcd's own client does.
    pub(super) fn tour(&self) -> Tour {
        Tour::new(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// The next endpoint of a round for a call of a lane, with its place.
    pub(super) fn next_of(&self, tour: &mut Tour, lane: Lane) -> Option<(usize, &Endpoint)> {
        let state = |place: usize| {
            let endpoint = self.endpoints.get(place);
            endpoint.map_or(EndpointState::Unreachable, |endpoint| endpoint.state(lane))
        };
        let place = tour.next(self.endpoints.len(), state)?;
        Some((place, self.endpoints.get(place)?))
    }

    /// What is said when no endpoint can be asked.
    pub(super) fn unreachable(&self) -> CallError {
        let mut text = format!("store {} cannot be reached", self.name);
        for endpoint in &self.endpoints {
            if let Some(error) = endpoint.health.last_error() {
                text.push_str("; ");
                text.push_str(&error);
            }
        }
        CallError::NotSent(text)
    }

    /// Names the store and the endpoint in a fault that did not come from the store itself.
    pub(super) fn named(&self, endpoint: &Endpoint, fault: Fault) -> Fault {
        let name = |cause: String| {
            format!(
                "store {}: {}: {cause}",
                self.name, endpoint.connector.address
            )
        };
        match fault {
            Fault::Refused(_) => fault,
            Fault::Unsent(cause) => Fault::Unsent(name(cause)),
            Fault::Lost(cause) => Fault::Lost(name(cause)),
        }
    }
}

// === What tries teach ===

/// An endpoint answered a call.
pub(super) fn answered(core: &Core, endpoint: &Endpoint) {
    endpoint.health.answered();
    core.breaker.lock().answered();
}

/// A try failed: puts down what it shows, and gives the fault with its names.
pub(super) fn learn(core: &Arc<Core>, endpoint: &Endpoint, setback: Setback) -> Fault {
    match &setback.fault {
        Fault::Refused(status) if refusal::is_of_the_endpoint(status) => {
            core.breaker.lock().answered();
            let cause = format!("{}: {}", endpoint.connector.address, status.message());
            endpoint.health.failed(EndpointState::Unwell, cause.into());
            prober::look_after(core);
        }
        Fault::Refused(_) => answered(core, endpoint),
        Fault::Unsent(cause) | Fault::Lost(cause) => match setback.news {
            News::Nothing => {}
            News::Unreachable => trouble(core, endpoint, EndpointState::Unreachable, cause),
            News::Broke => trouble(core, endpoint, EndpointState::Unwell, cause),
        },
    }
    core.named(endpoint, setback.fault)
}

/// The transport to an endpoint failed.
pub(super) fn trouble(core: &Arc<Core>, endpoint: &Endpoint, state: EndpointState, cause: &str) {
    let address = &endpoint.connector.address;
    let (store, now) = (&core.name, state);
    // What lasts is said once.
    if endpoint.health.state() == state {
        tracing::debug!(%store, endpoint = %address, cause, ?now, "endpoint still fails");
    } else {
        tracing::warn!(%store, endpoint = %address, cause, ?now, "endpoint failed; it is probed until it answers");
    }
    let cause: Arc<str> = format!("{address}: {cause}").into();
    endpoint.health.failed(state, Arc::clone(&cause));
    core.breaker.lock().failed(cause);
    prober::look_after(core);
}
