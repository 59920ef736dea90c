//! The order as the hub sees it. Each question takes the ledger's lock for itself: what the hub
//! asks only ever grows.

use keyloom_hub::OrderView;
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use super::merged::Merged;

impl OrderView for Merged {
    /// What is not reserved yet may not leave.
    fn head(&self) -> UnifiedRev {
        self.read().head()
    }

    fn below_next(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev {
        self.read().sequence.ledger.below_next(slot, r)
    }

    fn shown_up_to(&self, slot: StoreSlot, r: StoreRev) -> UnifiedRev {
        self.read().sequence.ledger.shown_up_to(slot, r)
    }

    fn unified(&self, slot: StoreSlot, r: StoreRev) -> Option<UnifiedRev> {
        self.read().sequence.ledger.unified(slot, r)
    }

    fn store_at(&self, slot: StoreSlot, u: UnifiedRev) -> StoreRev {
        self.read().sequence.ledger.store_at(slot, u)
    }

    fn floor(&self, slot: StoreSlot) -> UnifiedRev {
        self.read().sequence.ledger.floor(slot)
    }

    fn compacted(&self) -> UnifiedRev {
        self.read().sequence.ledger.compacted()
    }
}

impl Merged {
    /// The last revision of a store that has its place.
    pub(crate) fn frontier(&self, slot: StoreSlot) -> StoreRev {
        self.read().sequence.ledger.frontier(slot)
    }

    /// The store's history begins at `floor`. Nothing leaves until that is written to the ledger.
    pub(crate) fn raise_floor(&self, slot: StoreSlot, floor: UnifiedRev) {
        self.change(|ordered| {
            ordered.sequence.ledger.raise_floor(slot, floor);
            ordered.leadership.must_record = true;
        });
        self.nudge.notify_one();
    }
}
