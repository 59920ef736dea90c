//! What the hub asks of the ledger and of the topology.

use std::sync::Arc;

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{Ledger, StoreRev, StoreSlot, UnifiedRev};
use keyloom_topology::Topology;

/// The ledger, as far as the hub needs it. Every answer may come from another moment: each of these
/// only ever grows, so an older one is merely more careful.
pub trait Places {
    /// The largest `u` that may leave.
    fn head(&self) -> UnifiedRev;
    /// Just below the store's next visible revision above `r`, or the head.
    fn below_next(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev;
    /// Up to where somebody who was shown the store's events up to `r` has been shown everything of
    /// it: as [`Self::below_next`], and nowhere as long as that is not known.
    fn shown_up_to(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev;
    /// The `u` of a revision; none if it is hidden or not in the ledger.
    fn unified(&self, slot: StoreSlot, r: StoreRev) -> Option<UnifiedRev>;
    /// The store's largest revision at or below `u`.
    fn store_at(&self, slot: StoreSlot, u: UnifiedRev) -> StoreRev;
    /// Below which the store cannot be watched.
    fn floor(&self, slot: StoreSlot) -> UnifiedRev;
    /// Below which nothing can be watched.
    fn compacted(&self) -> UnifiedRev;
}

impl Places for Ledger {
    fn head(&self) -> UnifiedRev {
        Ledger::head(self)
    }

    fn below_next(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev {
        Ledger::below_next(self, slot, r)
    }

    fn shown_up_to(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev {
        Ledger::shown_up_to(self, slot, r)
    }

    fn unified(&self, slot: StoreSlot, r: StoreRev) -> Option<UnifiedRev> {
        Ledger::unified(self, slot, r)
    }

    fn store_at(&self, slot: StoreSlot, u: UnifiedRev) -> StoreRev {
        Ledger::store_at(self, slot, u)
    }

    fn floor(&self, slot: StoreSlot) -> UnifiedRev {
        Ledger::floor(self, slot)
    }

    fn compacted(&self) -> UnifiedRev {
        Ledger::compacted(self)
    }
}

/// Below which unified revision a range cannot be watched, because it moved there.
pub trait RangeFloors: std::fmt::Debug + Send + Sync {
    /// 0 where it never moved.
    fn of(&self, range: &KeyRange) -> UnifiedRev;
}

/// A topology, answering in the ledger's slots.
#[derive(Clone, Debug)]
pub struct Routes {
    topology: Topology,
    /// By store index.
    slots: Arc<[StoreSlot]>,
    floors: Option<Arc<dyn RangeFloors>>,
}

impl Routes {
    /// `slots` in the order of the topology's stores.
    #[must_use]
    pub fn new(topology: Topology, slots: impl IntoIterator<Item = StoreSlot>) -> Self {
        Self {
            topology,
            slots: slots.into_iter().collect(),
            floors: None,
        }
    }

    /// With the floors of what moved.
    #[must_use]
    pub fn with_floors(self, floors: Arc<dyn RangeFloors>) -> Self {
        Self {
            floors: Some(floors),
            ..self
        }
    }

    /// Below which the range cannot be watched.
    pub(crate) fn floor(&self, range: &KeyRange) -> UnifiedRev {
        let floors = self.floors.as_ref();
        floors.map(|floors| floors.of(range)).unwrap_or_default()
    }

    /// Where a key lives; `None` for Keyloom's own.
    pub(crate) fn route(&self, key: &[u8]) -> Option<StoreSlot> {
        let index = self.topology.route(key)?;
        self.slots.get(usize::from(index.0)).copied()
    }

    /// The stores that can hold a key of the range, sorted.
    pub(crate) fn span(&self, range: &KeyRange) -> Vec<StoreSlot> {
        let parts = self.topology.cover(range);
        let slots = parts
            .iter()
            .filter_map(|part| self.slots.get(usize::from(part.store.0)));
        let mut slots: Vec<_> = slots.copied().collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }
}
