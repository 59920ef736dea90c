//! One change of the topology: checked whole, then applied or refused.
//!
//! ```text
//!   open and ask its stores ─► what moves? ── nothing ───────────────────────────────┐
//!                                  │                                                 │
//!              watch what moves on the hub; do moved keys exist, at one revision     │
//!              of their store? (nothing is held yet) ── yes ──► refused              │
//!                                  │ no                                              │
//!              hold writes to what moves, wait for those under way ── too long ──► refused
//!                                  │                                                 │
//!              has one come since, by the stores' watches? ── yes, or not known in time ──► refused
//!                                  │ no                                              │
//!              other routes from one unified revision on  ◄──────────────────────────┘
//!                                  │
//!              written to the ledger ─► the gate opens
//! ```
//!
//! Nothing leaves between the change and its record, so a crash leaves either topology whole.

mod amid;
mod check;
mod commit;
mod prepare;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use keyloom_topology::Topology;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use amid::{LastCheck, LookingOut};
use prepare::Prepared;

use super::{
    accepted::{Accepted, AcceptedError},
    strays::count,
};
use crate::{
    metrics::TopologyMetrics,
    order::{NotEnrolled, RerouteError},
    services::Services,
    snapshot::ServingSnapshot,
    stores::OpenStores,
};

/// How long a change waits for the writes under way to what moves.
const DRAIN: Duration = Duration::from_secs(10);

/// Why a topology was refused. The one before serves on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("store \"{store}\": {error}")]
    Open { store: String, error: String },
    /// It is not known what the store is, or what it holds.
    #[error("store \"{store}\" does not answer: {error}")]
    Unreachable { store: String, error: String },
    #[error(
        "store \"{store}\" is cluster {known:x}, but cluster {found:x} answers at its new endpoint: \
         correct the endpoint, or give the new cluster another name"
    )]
    Stranger {
        store: String,
        known: u64,
        found: u64,
    },
    #[error(
        "store \"{from}\" has keys that would route to store \"{to}\", and no client would see them any \
         more: {count}, for example {}. Move or delete them first, or keep their route",
        .example.escape_ascii()
    )]
    Hides {
        count: u64,
        from: String,
        to: String,
        example: Bytes,
    },
    #[error("writes on store \"{store}\" to keys that move were still running after {DRAIN:?}")]
    Busy { store: String },
    #[error(
        "the watch of store \"{store}\" has not delivered what was written there before the change, so \
         Keyloom does not know whether keys that move came meanwhile"
    )]
    Lags { store: String },
    /// A cluster has one name in the ledger.
    #[error(
        "store \"{store}\" is not in the file, and store \"{other}\" is the same cluster: the ledger knows \
         the cluster as \"{store}\", so keep that backend"
    )]
    Renamed { store: String, other: String },
    #[error("store \"{name}\" cannot be the default store: {why}")]
    NoLedger { name: String, why: &'static str },
    #[error("store \"{name}\" cannot join the ledger: {error}")]
    Join { name: String, error: String },
    #[error(transparent)]
    TooLarge(#[from] AcceptedError),
    #[error(
        "this adds a second store, and Keyloom serves one store without a ledger: restart Keyloom with \
         this file"
    )]
    SecondStore,
    #[error("the ledger could not be written: {0}")]
    Ledger(String),
}

impl From<RerouteError> for Refusal {
    fn from(error: RerouteError) -> Self {
        match error {
            RerouteError::Lags { store } => Self::Lags { store },
            RerouteError::NotEnrolled(NotEnrolled { store, error }) => Self::Join {
                name: store,
                error: error.to_string(),
            },
        }
    }
}

impl Refusal {
    /// Whether the same topology may be accepted later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Hides { .. }
                | Self::Busy { .. }
                | Self::Lags { .. }
                | Self::Open { .. }
        )
    }
}

/// What became of a topology that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is what is served already.
    Unchanged,
    /// Everything is served as it says. `moved` tells whether keys route elsewhere.
    Changed { moved: bool },
}

/// Applies topologies, one after the other.
#[derive(Debug)]
pub(crate) struct Reconfigurer {
    services: Arc<Services>,
    open: Arc<dyn OpenStores>,
    metrics: TopologyMetrics,
    turn: tokio::sync::Mutex<()>,
    /// How many changes were applied.
    changes: watch::Sender<u64>,
}

impl Reconfigurer {
    pub(crate) fn new(
        services: Arc<Services>,
        open: Arc<dyn OpenStores>,
        metrics: TopologyMetrics,
    ) -> Self {
        Self {
            services,
            open,
            metrics,
            turn: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Serves as `topology` says from now on, or refuses it and serves as before.
    pub(crate) async fn apply(&self, topology: Topology) -> Result<Applied, Refusal> {
        let _turn = self.turn.lock().await;
        let snapshot = self.services.snapshot.load_full();
        let applied = self.change(&snapshot, topology).await;
        let now = self.services.snapshot.load_full();
        let mut used: Vec<_> = now
            .backends
            .iter()
            .map(|each| Arc::clone(&each.store))
            .collect();
        if let Some(runtime) = &self.services.runtime {
            // A store that has left is followed up to its end.
            used.extend(runtime.feeds().read_from());
        }
        self.open.keep(&used).await;
        applied
    }

    /// Tells of every change that is applied from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Counts the keys that no client sees.
    pub(crate) async fn count_strays(&self) {
        let snapshot = self.services.snapshot.load_full();
        if snapshot.merged().is_none() {
            return;
        }
        for (store, found) in count(&snapshot).await {
            match found {
                Ok(found) => {
                    self.metrics.strays(&store, found.count);
                    if let Some(example) = found.example {
                        warn!(
                            store,
                            count = found.count,
                            example = %example.escape_ascii(),
                            "the store holds keys that route elsewhere: no client sees them; \
                             `keyloom topology strays` lists them"
                        );
                    }
                }
                Err(error) => debug!(store, error, "strays could not be counted"),
            }
        }
    }

    async fn change(
        &self,
        snapshot: &Arc<ServingSnapshot>,
        topology: Topology,
    ) -> Result<Applied, Refusal> {
        let prepared = self.prepare(snapshot, topology).await?;
        if prepared.is_what_is_served(snapshot) {
            return Ok(Applied::Unchanged);
        }
        if snapshot.merged().is_some() {
            Accepted::fitting(&prepared.topology, snapshot.floors.clone())?;
        }
        let moved = prepared.moves_keys();
        if snapshot.merged().is_none() {
            if prepared.clusters().len() > 1 {
                self.check(snapshot, &prepared).await?;
                return Err(Refusal::SecondStore);
            }
            self.replace_native(snapshot, prepared);
        } else if moved {
            self.move_keys(snapshot, prepared).await?;
        } else {
            self.commit(snapshot, prepared, LastCheck::default())
                .await?;
        }
        let now = self.services.snapshot.load_full();
        self.metrics.took(now.generation);
        self.changes.send_replace(now.generation);
        info!(
            generation = now.generation,
            moved, "serving the new topology"
        );
        Ok(Applied::Changed { moved })
    }
}

impl Reconfigurer {
    /// A change that moves keys. Writes to them wait only for what the stores' watches tell: every
    /// key is looked for before they are held.
    async fn move_keys(
        &self,
        snapshot: &Arc<ServingSnapshot>,
        prepared: Prepared,
    ) -> Result<(), Refusal> {
        let runtime = self.services.runtime.as_deref();
        let looking_out = LookingOut::begin(runtime, &prepared.affected);
        let mut checked = self.check(snapshot, &prepared).await?;
        let holding = self.hold(snapshot, &prepared).await?;
        if looking_out.saw_all() {
            self.sequence_present(snapshot, &checked).await?;
        } else {
            warn!("too many keys changed during the check; checking all again while writes wait");
            looking_out.begin_again(&prepared.affected);
            checked = self.check(snapshot, &prepared).await?;
        }
        self.commit(snapshot, prepared, checked).await?;
        drop((looking_out, holding));
        Ok(())
    }
}

/// Names of stores, each once.
fn names<'n>(names: impl IntoIterator<Item = &'n String>) -> BTreeSet<&'n str> {
    names.into_iter().map(String::as_str).collect()
}
