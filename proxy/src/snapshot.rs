//! What one request works with: a topology, its stores and their order, in one snapshot.

mod floors;
mod gate;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use keyloom_ledger::{StoreSlot, UnifiedRev};
use keyloom_store::Store;
use keyloom_topology::{StoreIndex, Topology};

use crate::order::{Merged, Order};

pub(crate) use floors::{Floors, KeptFloor};
pub(crate) use gate::{Gate, Holding, Superseded, Traffic, UnderWay};

/// One store of the snapshot.
#[derive(Clone, Debug)]
pub(crate) struct ServingStore {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn Store>,
    /// The store's place in the ledger, which outlives topologies.
    pub(crate) slot: StoreSlot,
    /// Whether a backend before it is the same cluster: no key routes to it.
    pub(crate) is_alias: bool,
    /// The cluster that the store is; an answer of another one is not believed.
    pub(crate) cluster_id: u64,
    /// The writes under way to it, under whichever snapshot.
    pub(crate) traffic: Arc<Traffic>,
}

/// A topology and its stores. Swapped whole; a request loads it once and keeps it.
#[derive(Debug)]
pub(crate) struct ServingSnapshot {
    pub(crate) topology: Topology,
    /// In the order of the topology's stores.
    pub(crate) backends: Vec<ServingStore>,
    /// Counts the snapshots, so that what was remembered under one is not used under another.
    pub(crate) generation: u64,
    /// Below which ranges that moved cannot be read or watched.
    pub(crate) floors: Floors,
    /// Who orders the revisions of these stores.
    pub(crate) order: Order,
    pub(crate) validity: Validity,
}

/// How long a snapshot may be answered from.
#[derive(Debug)]
pub(crate) struct Validity {
    /// The largest unified revision that an answer may carry.
    until: AtomicI64,
    /// Whether another snapshot took its place.
    replaced: AtomicBool,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            until: AtomicI64::new(i64::MAX),
            replaced: AtomicBool::new(false),
        }
    }
}

impl Validity {
    /// Another snapshot takes its place, with other routes above `last`. To be called while the
    /// order gives out nothing above it.
    pub(crate) fn end_at(&self, last: UnifiedRev) {
        self.until.store(last.get(), Ordering::SeqCst);
    }

    /// Another snapshot took its place.
    pub(crate) fn replace(&self) {
        self.replaced.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    /// Whether what was found under this snapshot holds at `u`.
    pub(crate) fn covers(&self, u: UnifiedRev) -> bool {
        u.get() <= self.until.load(Ordering::SeqCst)
    }
}

impl ServingSnapshot {
    /// The first snapshot.
    pub(crate) fn first(topology: Topology, backends: Vec<ServingStore>, order: Order) -> Self {
        Self {
            topology,
            backends,
            generation: 0,
            floors: Floors::default(),
            order,
            validity: Validity::default(),
        }
    }

    /// The member behind a store index of this snapshot's topology.
    pub(crate) fn member(&self, index: StoreIndex) -> Option<&ServingStore> {
        self.backends.get(usize::from(index.0))
    }

    /// Every store once, also where two backends are one cluster.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &ServingStore> {
        self.backends.iter().filter(|member| !member.is_alias)
    }

    /// The store that takes what no route claims.
    pub(crate) fn default_member(&self) -> Option<&ServingStore> {
        self.backends.first()
    }

    /// The order of several stores.
    pub(crate) fn merged(&self) -> Option<&Arc<Merged>> {
        match &self.order {
            Order::Native => None,
            Order::Merged(order) => Some(order),
        }
    }

    /// The slots of the members, in the order of the topology's stores.
    pub(crate) fn slots(&self) -> impl Iterator<Item = StoreSlot> {
        self.backends.iter().map(|member| member.slot)
    }
}
