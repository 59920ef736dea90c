//! The order's part of a change of topology: stores come and go, and the change gets a place.

use bytes::Bytes;
use keyloom_ledger::{AddStoreError, StoreRev, StoreSlot, UnifiedRev};

use super::{merged::Merged, sequence::Sequence};
use crate::reload::Refusal;

/// What a store of the new topology is to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is served already.
    Stays(StoreSlot),
    /// It was served before, and stands here.
    Returns(StoreSlot, StoreRev),
    Joins {
        name: String,
        cluster_id: u64,
        at: StoreRev,
    },
    /// It is the same cluster as the store with this index.
    SameAs(usize),
}

/// A store of which everything up to a revision is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
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

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rerouted {
    /// The change's place: nothing happened at it, and other routes hold above it.
    pub(crate) at: UnifiedRev,
    /// The stores' slots, in the order of the arrivals.
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
    /// Where something of a store that was `looked` at is ordered above that, or where a store
    /// cannot join.
    pub(crate) fn reroute(
        &self,
        looked: &[Looked],
        arrivals: &[Arrival],
        leaving: &[StoreSlot],
        moves: bool,
        accept: impl FnOnce(UnifiedRev) -> Bytes,
    ) -> Result<Rerouted, Refusal> {
        self.change(|ordered| {
            let lags =
                |looked: &&Looked| ordered.sequence.ledger.frontier(looked.slot) > looked.upto;
            if let Some(Looked { store, .. }) = looked.iter().find(lags) {
                return Err(Refusal::Lags {
                    store: store.clone(),
                });
            }
            let slots = ordered.sequence.arrive(arrivals)?;
            for slot in leaving.iter().filter(|slot| !slots.contains(slot)) {
                ordered.sequence.ledger.retire(*slot);
            }
            if moves {
                let next = UnifiedRev::new(ordered.sequence.ledger.head().get() + 1);
                ordered.sequence.ledger.skip_to(next);
            }
            let at = ordered.sequence.ledger.head();
            ordered.leadership.accepted = Some(accept(at));
            ordered.leadership.must_record = true;
            Ok(Rerouted { at, slots })
        })
    }

    /// Has the accepted topology written with the ledger.
    pub(super) fn accept(&self, record: Bytes) {
        self.change(|ordered| ordered.leadership.accepted = Some(record));
    }

    /// The last store of that name that has left, and the cluster that it was.
    pub(crate) fn retired(&self, name: &str) -> Option<(StoreSlot, u64)> {
        let ordered = self.read();
        let slot = ordered.sequence.ledger.slot(name)?;
        let store = ordered
            .sequence
            .ledger
            .store(slot)
            .filter(|store| store.retired)?;
        Some((slot, store.cluster_id))
    }
}

impl Sequence {
    fn arrive(&mut self, arrivals: &[Arrival]) -> Result<Vec<StoreSlot>, Refusal> {
        let mut slots = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            slots.push(self.arrive_one(arrival)?);
        }
        let named = arrivals.iter().zip(&slots).map(|(arrival, slot)| {
            let first = match arrival {
                // It may stand before the one that it is.
                Arrival::SameAs(first) => slots.get(*first).copied().flatten(),
                _ => *slot,
            };
            first.unwrap_or(StoreSlot::DEFAULT)
        });
        Ok(named.collect())
    }

    fn arrive_one(&mut self, arrival: &Arrival) -> Result<Option<StoreSlot>, Refusal> {
        match arrival {
            Arrival::SameAs(_) => Ok(None),
            Arrival::Stays(slot) => Ok(Some(*slot)),
            Arrival::Returns(slot, at) => {
                let revived = self.ledger.revive(*slot);
                revived.map_err(|error| refused(&format!("slot {slot}"), &error))?;
                // What it wrote meanwhile, nobody has seen.
                if self.ledger.observe(*slot, *at) {
                    self.ledger.raise_floor(*slot, self.ledger.head());
                }
                Ok(Some(*slot))
            }
            Arrival::Joins {
                name,
                cluster_id,
                at,
            } => {
                let added = self.ledger.add_store(name, *cluster_id, *at);
                added.map(Some).map_err(|error| refused(name, &error))
            }
        }
    }
}

fn refused(name: &str, error: &AddStoreError) -> Refusal {
    Refusal::Join {
        name: name.to_owned(),
        error: error.to_string(),
    }
}
