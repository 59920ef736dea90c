//! The questions that the router asks of a topology.

use keyloom_etcd_api::KeyRange;
use keyloom_topology::{Part, StoreIndex, Topology};

/// What the router must know of a topology. A trait, so that the properties of this crate are
/// checked against keyspaces cut at random, not only against cuts that a topology file can say.
///
/// `route` and `cover` agree: a key routes to the one store whose part of `cover` holds it.
pub trait Routes {
    /// The store of a key; `None` only for Keyloom's reserved keys.
    fn route(&self, key: &[u8]) -> Option<StoreIndex>;

    /// The parts of a range, at most one for each store.
    fn cover(&self, range: &KeyRange) -> Vec<Part>;

    /// The store that takes what no route claims.
    fn default_store(&self) -> StoreIndex;

    /// The name of a store, for texts.
    fn name(&self, store: StoreIndex) -> &str;
}

impl Routes for Topology {
    fn route(&self, key: &[u8]) -> Option<StoreIndex> {
        Self::route(self, key)
    }

    fn cover(&self, range: &KeyRange) -> Vec<Part> {
        Self::cover(self, range)
    }

    fn default_store(&self) -> StoreIndex {
        StoreIndex::DEFAULT
    }

    fn name(&self, store: StoreIndex) -> &str {
        let spec = self.stores().get(usize::from(store.0));
        spec.map_or("", |spec| &spec.name)
    }
}
