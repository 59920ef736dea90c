//! A store behind etcd endpoints.
//!
//! The way of a call, one file per step:
//!
//! | step | file |
//! |---|---|
//! | admitted: breaker, calls in flight, deadline | `call.rs`, `breaker.rs` |
//! | given a token, and a new one where it is refused | `session.rs` |
//! | round the endpoints, as often as is safe | `call.rs`, `tour.rs`, `fault.rs`, `refusal.rs` |
//! | one try at one endpoint, on a connection of its lane | `endpoint.rs`, `slot.rs`, `connector.rs` |
//! | the answer put together | `answer.rs` |
//!
//! `store.rs` holds what the calls share. Beside it `prober.rs` looks after endpoints in trouble, and `stream.rs` opens streams.
//!
//! What is promised: a write is sent again only where it is certain that the store has not seen
//! it whole (`fault.rs` says when that is), and every status that the store sent reaches the
//! caller with its code, text and details. HTTP/2 is h2's, without hyper or tonic
//! above it: see `etcd-api/src/framing.rs` for why, and a call costs no task and no channel.

mod answer;
mod backoff;
mod breaker;
mod call;
mod config;
mod connector;
mod endpoint;
mod fault;
mod health;
mod metrics;
mod prober;
mod refusal;
mod session;
mod skip_verify;
mod slot;
mod store;
mod stream;
mod timeout;
mod tls;
mod tour;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_etcd_api::Rpc;

pub use config::{ConfigError, Connections, Credentials, EtcdEndpoint, EtcdStoreConfig, Limits};
pub use health::{EndpointHealth, EndpointState};
pub use metrics::Metrics;
pub use tls::{TlsConfig, TlsError, TlsPem};

use keyloom_environment::{Dial, Random};
use keyloom_store::{Answer, Answers, Call, CallError, OpenAnswer, OpenCall, Requests, Store};

/// What a store takes from outside.
#[derive(Clone, Debug)]
pub struct Environment {
    pub dial: Arc<dyn Dial>,
    pub random: Arc<dyn Random>,
}

/// A store behind one or more etcd endpoints.
///
/// Connections are opened when they are first needed, and closed when the last clone is dropped
/// and the calls under way have ended. Wants a tokio runtime around its calls.
#[derive(Clone)]
pub struct EtcdStore {
    core: Arc<store::Core>,
    made: Arc<Made>,
}

/// What a store was made of, so that another one can be made.
struct Made {
    config: EtcdStoreConfig,
    environment: Environment,
    metrics: Metrics,
}

impl EtcdStore {
    /// Sets a store up. Nothing is dialled yet.
    ///
    /// # Errors
    /// Where the configuration cannot be meant.
    pub fn new(
        config: EtcdStoreConfig,
        environment: &Environment,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let made = Made {
            config,
            environment: environment.clone(),
            metrics: metrics.clone(),
        };
        Ok(Self::of(Arc::new(made), None))
    }

    /// The same store with connections of its own, for another thread of the same callers. What one
    /// learns of the endpoints both know: one that answers again is asked by both.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::of(Arc::clone(&self.made), Some(&self.core))
    }

    fn of(made: Arc<Made>, beside: Option<&store::Core>) -> Self {
        let config = made.config.clone();
        let core = store::Core::new(config, &made.environment, &made.metrics, beside);
        Self {
            core: Arc::new(core),
            made,
        }
    }

    /// The store's name in the topology.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// How the endpoints do, in the order of the configuration.
    #[must_use]
    pub fn health(&self) -> Vec<EndpointHealth> {
        self.core.health()
    }

    /// Why calls are turned away at once, if they are: nothing that was sent to the store lately
    /// was answered.
    #[must_use]
    pub fn turned_away(&self) -> Option<Arc<str>> {
        self.core.admit().err()
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("EtcdStore");
        shown
            .field("name", &self.core.name)
            .field("endpoints", &self.health())
            .finish()
    }
}

impl Store for EtcdStore {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let answer = call::call(&core, call).await?;
            Ok(answer.message.into_bytes())
        })
    }

    fn call_in_pieces(&self, call: Call) -> BoxFuture<'static, Result<Answer, CallError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { call::call(&core, call).await })
    }

    fn open(&self, call: OpenCall) -> BoxFuture<'static, Result<OpenAnswer, CallError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { stream::open_call(core, call).await })
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { stream::open(core, rpc, requests).await })
    }

    fn throttle_watches(&self) {
        self.core.throttle.set();
    }

    fn with_own_connections(&self) -> Option<Arc<dyn Store>> {
        // Whoever finds an endpoint well again finds it for both.
        Some(Arc::new(self.beside()))
    }
}
