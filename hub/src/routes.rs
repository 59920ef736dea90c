//! What the hub asks of the topology.

use std::sync::Arc;

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreSlot, UnifiedRev};
use keyloom_topology::Topology;

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
