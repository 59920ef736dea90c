//! What one request works with: a topology and its stores, in one snapshot.

use std::sync::Arc;

use keyloom_ledger::StoreSlot;
use keyloom_store::Store;
use keyloom_topology::{StoreIndex, Topology};

/// One store of the snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) store: Arc<dyn Store>,
    /// The store's place in the ledger, which outlives topologies.
    pub(crate) slot: StoreSlot,
    /// Whether a backend before it is the same cluster: no key routes to it.
    pub(crate) is_alias: bool,
    /// The cluster that the store is; an answer of another one is not believed.
    pub(crate) cluster_id: u64,
}

/// A topology and its stores. Swapped whole; a request loads it once and keeps it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) topology: Topology,
    /// In the order of the topology's stores.
    pub(crate) members: Vec<Member>,
    /// Counts the snapshots, so that what was remembered under one is not used under another.
    pub(crate) generation: u64,
}

impl World {
    /// The member behind a store index of this snapshot's topology.
    pub(crate) fn member(&self, index: StoreIndex) -> Option<&Member> {
        self.members.get(usize::from(index.0))
    }

    /// Every store once, also where two backends are one cluster.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_alias)
    }

    /// The store that takes what no route claims.
    pub(crate) fn default_member(&self) -> Option<&Member> {
        self.members.first()
    }
}
