//! One Keyloom over stores that are already there, without listeners: what the program serves, and
//! what tests of the whole stack drive.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use keyloom_environment::Random;
use keyloom_etcd_api::{Rpc, Status};
use keyloom_hub::HubGauges;
use keyloom_store::{Part, Requests, Store};
use keyloom_topology::Topology;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    bringup::{self, Applied, Reconfigurer, Refusal, Start, StrayCursor, Strays},
    feeds::WatchOptions,
    metrics::TopologyMetrics,
    order::{Keeping, LeadershipOptions, Order, OrderError, RenewOn},
    services::{Context, Services, Settings},
    stores::OpenStores,
};

/// How long a status waits for a store.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last write of the ledger may take.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Why an instance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology names other stores than were given.
    #[error("the topology has {topology} stores, but {given} were given")]
    Stores { topology: usize, given: usize },
    /// The ledger and the stores do not fit together.
    #[error(transparent)]
    Order(#[from] bringup::BringUpError),
    /// It was told to stop before the stores had answered, or before the leadership was free.
    #[error("stopped before it could serve")]
    Stopped,
}

/// What an instance takes besides topology and stores.
#[derive(Clone, Debug)]
pub struct Options {
    pub random: Arc<dyn Random>,
    /// How long a successor waits after this instance was last seen; with one store there is none.
    pub leadership_duration: Duration,
    /// Where the leadership is renewed.
    pub renew_on: RenewOn,
    /// Over several stores; with one store its watches are its own.
    pub watch: WatchOptions,
    /// Opens the stores of topologies that come later.
    pub open: Arc<dyn OpenStores>,
    pub metrics: TopologyMetrics,
}

/// A running Keyloom.
#[derive(Debug)]
pub struct Instance {
    pub(crate) services: Arc<Services>,
    reconfigurer: Arc<Reconfigurer>,
    stop: CancellationToken,
    /// Until the instance ends.
    keeping: Mutex<Option<Keeping>>,
}

impl Instance {
    /// Asks every store where it stands, restores or starts the ledger, and serves from then on.
    /// Stores are in the order of the topology's; one that does not answer is asked until it does
    /// or `stop` is cancelled.
    ///
    /// # Errors
    /// [`StartError`], which says what to mend.
    pub async fn start(
        topology: Topology,
        stores: Vec<Arc<dyn Store>>,
        options: Options,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let specs = topology.stores();
        if specs.len() != stores.len() {
            return Err(StartError::Stores {
                topology: specs.len(),
                given: stores.len(),
            });
        }
        let start = Start {
            stores: specs
                .iter()
                .map(|spec| spec.name.clone())
                .zip(stores)
                .collect(),
            topology,
            random: options.random,
            leadership: LeadershipOptions {
                duration: options.leadership_duration,
                renew_on: options.renew_on,
            },
            open: Arc::clone(&options.open),
            stop: stop.clone(),
        };
        let started = tokio::select! {
            started = bringup::start(start) => started?,
            () = stop.cancelled() => return Err(StartError::Stopped),
        };
        let settings = Settings {
            status_timeout: STATUS_TIMEOUT,
            watch: options.watch,
        };
        let (keeper, keeping) = started.keeper.unzip();
        let metrics = options.metrics.clone();
        let services = Services::new(
            started.snapshot,
            started.identity,
            settings,
            keeper,
            metrics,
        );
        let services = Arc::new(services);
        let reconfigurer = Reconfigurer::new(Arc::clone(&services), options.open, options.metrics);
        let reconfigurer = Arc::new(reconfigurer);
        Ok(Self {
            services,
            reconfigurer,
            stop,
            keeping: Mutex::new(keeping),
        })
    }

    /// Answers one unary call.
    ///
    /// # Errors
    /// The status that a client gets.
    pub async fn unary(
        &self,
        rpc: Rpc,
        message: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        Ok(self
            .services
            .unary(rpc, message, &Context::until(deadline))
            .await?
            .into_bytes())
    }

    /// Answers one streaming call.
    ///
    /// # Errors
    /// The status that a client gets, here or as the last answer.
    pub async fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> Result<BoxStream<'static, Result<Bytes, Status>>, Status> {
        self.stream_with(rpc, requests, Context::until(None)).await
    }

    /// [`Self::stream`] of a client that wants to hear it when there is no leader: here, when this
    /// instance's leadership is over.
    ///
    /// # Errors
    /// The same.
    pub async fn stream_that_needs_leader(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> Result<BoxStream<'static, Result<Bytes, Status>>, Status> {
        let context = Context {
            needs_leader: true,
            ..Context::until(None)
        };
        self.stream_with(rpc, requests, context).await
    }

    async fn stream_with(
        &self,
        rpc: Rpc,
        requests: Requests,
        context: Context,
    ) -> Result<BoxStream<'static, Result<Bytes, Status>>, Status> {
        let answer = self.services.stream(rpc, requests, context).await?;
        let messages = answer.parts.filter_map(async |part| match part {
            Ok(Part::Message(message)) => Some(Ok(message)),
            Ok(Part::Trailers(_)) => None,
            Err(failure) => Some(Err(failure.into())),
        });
        Ok(messages.boxed())
    }

    /// Serves as `topology` says from now on, or refuses it and serves as before.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn apply(&self, topology: Topology) -> Result<Applied, Refusal> {
        self.reconfigurer.apply(topology).await
    }

    /// What applies topologies.
    pub(crate) fn reconfigurer(&self) -> Arc<Reconfigurer> {
        Arc::clone(&self.reconfigurer)
    }

    /// The topology that is served.
    pub(crate) fn topology(&self) -> Topology {
        self.services.snapshot.load().topology.clone()
    }

    /// How many changes of topology were taken.
    pub(crate) fn generation(&self) -> u64 {
        self.services.snapshot.load().generation
    }

    /// Keys that a store holds and that route elsewhere, behind a place.
    pub(crate) async fn strays(&self, from: Option<StrayCursor>) -> Result<Strays, String> {
        bringup::strays(&self.services.snapshot.load_full(), from).await
    }

    /// Counts them all, for the metrics.
    pub(crate) async fn count_strays(&self) {
        self.reconfigurer.count_strays().await;
    }

    /// What its watches have at this moment; nothing with one store, whose watches pass through.
    pub(crate) fn gauges(&self) -> HubGauges {
        let runtime = self.services.runtime.as_ref();
        let gauges = runtime.map(|runtime| runtime.feeds().with(|hub, _| hub.gauges()));
        gauges.unwrap_or_default()
    }

    /// Tells clients of the member list where to come.
    pub fn advertise(&self, client_urls: Vec<String>) {
        // The first one stands: listeners are opened once.
        let _again = self.services.client_urls.set(client_urls);
    }

    /// Whether an answer may leave now.
    ///
    /// # Errors
    /// Why it may not.
    pub fn ready(&self) -> Result<(), String> {
        match &self.services.snapshot.load().order {
            Order::Native => Ok(()),
            Order::Merged(order) => match order.may_leave() {
                // In a moment.
                Ok(()) | Err(OrderError::Recording) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Whether the instance can ever answer again.
    ///
    /// # Errors
    /// What stopped it.
    pub fn alive(&self) -> Result<(), String> {
        match &self.services.snapshot.load().order {
            Order::Native => Ok(()),
            Order::Merged(order) => order.stopped().map_or(Ok(()), Err),
        }
    }

    /// Waits until the instance can never answer again, and says what stopped it.
    pub(crate) async fn until_stopped(&self) -> String {
        match &self.services.runtime {
            Some(runtime) => runtime.order.until_stopped().await,
            None => std::future::pending().await,
        }
    }

    /// Ends at once and writes nothing more, as if the process had been killed.
    pub fn abort(self) {
        if let Some(keeping) = self.keeping.lock().take() {
            keeping.abort();
        }
    }

    /// Writes the rest of the ledger and ends. Nothing is answered any more.
    pub async fn stop(&self) {
        self.stop.cancel();
        let keeping = self.keeping.lock().take();
        if let Some(mut keeping) = keeping {
            // Its result is logged by the task itself; after this time the next start recovers.
            drop(tokio::time::timeout(LAST_WRITE, keeping.until_ended()).await);
        }
    }
}
