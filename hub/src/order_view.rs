//! What the hub asks of the ledger.

use keyloom_ledger::{Ledger, StoreRev, StoreSlot, UnifiedRev};

/// The ledger, as far as the hub needs it. Every answer may come from another moment: each of these
/// only ever grows, so an older one is merely more careful.
pub trait OrderView {
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

impl OrderView for Ledger {
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
