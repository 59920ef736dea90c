//! The order's part of a change of topology: stores come and go, and the change gets a place.

use bytes::Bytes;
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use super::{
    merged::Merged,
    standing::{NotEnrolled, StoreStanding, enroll},
};

/// Why a change cannot have its place now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RerouteError {
    #[error("something of store \"{store}\" is ordered that its watch has not delivered")]
    Lags { store: String },
    #[error(transparent)]
    NotEnrolled(#[from] NotEnrolled),
}

/// A store of which everything up to a revision is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownUpTo {
    pub(crate) store: String,
    pub(crate) slot: StoreSlot,
    pub(crate) upto: StoreRev,
}

/// The revisions of some stores take their places by delivery as long as this lives.
#[derive(Debug)]
pub(crate) struct ByDelivery<'m>(&'m Merged);

impl Drop for ByDelivery<'_> {
    fn drop(&mut self) {
        self.0
            .change(|ordered| ordered.sequence.by_delivery.clear());
    }
}

/// The place of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rerouted {
    /// Nothing happened at it, and other routes hold above it.
    pub(crate) at: UnifiedRev,
    /// The stores' slots, in the order of the stores.
    pub(crate) slots: Vec<StoreSlot>,
}

impl Merged {
    /// From now on revisions of these stores take their places when the stores' own watches deliver
    /// them; answers wait for that, so that nothing is ordered for long that is not delivered.
    pub(crate) fn by_delivery(&self, slots: impl IntoIterator<Item = StoreSlot>) -> ByDelivery<'_> {
        self.change(|ordered| ordered.sequence.by_delivery.extend(slots));
        ByDelivery(self)
    }

    /// Lets stores in and out, and gives the change a place if keys move. `accept` is told the
    /// place and gives the record to be written with the ledger; until that is done, nothing
    /// leaves.
    ///
    /// # Errors
    /// Where something of a store is ordered above what is `known` of it, or where a store cannot
    /// join.
    pub(crate) fn reroute(
        &self,
        known: &[KnownUpTo],
        stores: &[StoreStanding],
        leaving: &[StoreSlot],
        moves: bool,
        accept: impl FnOnce(UnifiedRev) -> Bytes,
    ) -> Result<Rerouted, RerouteError> {
        self.change(|ordered| {
            let ledger = &mut ordered.sequence.ledger;
            let lags = |known: &&KnownUpTo| ledger.frontier(known.slot) > known.upto;
            if let Some(KnownUpTo { store, .. }) = known.iter().find(lags) {
                return Err(RerouteError::Lags {
                    store: store.clone(),
                });
            }
            let slots = enroll(ledger, stores)?;
            for slot in leaving.iter().filter(|slot| !slots.contains(slot)) {
                ledger.retire(*slot);
            }
            if moves {
                let next = UnifiedRev::new(ledger.head().get() + 1);
                ledger.skip_to(next);
            }
            let at = ledger.head();
            ordered.leadership.accepted = Some(accept(at));
            ordered.leadership.must_record = true;
            Ok(Rerouted { at, slots })
        })
    }

    /// Has the accepted topology written with the ledger.
    pub(crate) fn accept(&self, record: Bytes) {
        self.change(|ordered| ordered.leadership.accepted = Some(record));
    }

    /// The cluster that a store was when it joined; 0 where that is not known.
    pub(crate) fn cluster_of(&self, slot: StoreSlot) -> u64 {
        let ordered = self.read();
        let store = ordered.sequence.ledger.store(slot);
        store.map_or(0, |store| store.cluster_id)
    }

    /// What a cluster that answers under this name at this revision is to the ledger.
    pub(crate) fn standing(&self, name: &str, cluster_id: u64, at: StoreRev) -> StoreStanding {
        StoreStanding::of(&self.read().sequence.ledger, name, cluster_id, at)
    }
}
