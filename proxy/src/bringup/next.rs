//! The stores of the next snapshot: of a start's first one as of a change's.

use std::sync::Arc;

use keyloom_ledger::StoreSlot;
use keyloom_store::Store;

use crate::{
    order::StoreStanding,
    snapshot::{ServingStore, Traffic},
};

/// A store that is opened and asked, and of which it is known what it is to the ledger.
#[derive(Clone, Debug)]
pub(super) struct NextStore {
    pub(super) name: String,
    pub(super) store: Arc<dyn Store>,
    /// 0 for a store that has not answered since the start and that the ledger does not know.
    pub(super) cluster_id: u64,
    pub(super) standing: StoreStanding,
    /// The writes under way to it, where it is served already.
    pub(super) traffic: Arc<Traffic>,
}

impl NextStore {
    /// Whether it is another store under a second name.
    pub(super) fn is_alias(&self) -> bool {
        matches!(self.standing, StoreStanding::SameAs(_))
    }

    /// Where it is the same cluster as another one, that one stands for it.
    pub(super) fn stand_in(&mut self, index: usize, same_as: usize) {
        if same_as != index {
            self.standing = StoreStanding::SameAs(same_as);
        }
    }
}

/// What the stores are to the ledger.
pub(super) fn standings(stores: &[NextStore]) -> Vec<StoreStanding> {
    stores.iter().map(|store| store.standing.clone()).collect()
}

/// The stores as they are served, in these slots.
pub(super) fn serving(stores: &[NextStore], slots: &[StoreSlot]) -> Vec<ServingStore> {
    let stores = stores.iter().zip(slots).map(|(store, slot)| ServingStore {
        name: store.name.clone(),
        store: Arc::clone(&store.store),
        slot: *slot,
        is_alias: store.is_alias(),
        cluster_id: store.cluster_id,
        traffic: Arc::clone(&store.traffic),
    });
    stores.collect()
}
