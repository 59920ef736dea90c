//! What a store of a topology is to the ledger, and its place there: at a start as at a change.

use keyloom_ledger::{AddStoreError, Ledger, StoreRev, StoreSlot};
use tracing::info;

/// What a store of a topology is to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreStanding {
    /// The ledger has it.
    Known(StoreSlot),
    /// It left an earlier topology, and is now at this revision.
    Returns(StoreSlot, StoreRev),
    Joins {
        name: String,
        cluster_id: u64,
        at: StoreRev,
    },
    /// It is the same cluster as the store with this index.
    SameAs(usize),
}

/// Why a store has no place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("store \"{store}\" cannot join the ledger: {error}")]
pub(crate) struct NotEnrolled {
    pub(crate) store: String,
    pub(crate) error: AddStoreError,
}

impl StoreStanding {
    /// Of a cluster that answers under this name at this revision.
    pub(crate) fn of(ledger: &Ledger, name: &str, cluster_id: u64, at: StoreRev) -> Self {
        let known = ledger.slot(name);
        let known = known.and_then(|slot| Some((slot, ledger.store(slot)?)));
        match known {
            Some((slot, store)) if !store.retired => Self::Known(slot),
            Some((slot, store)) if store.cluster_id == cluster_id => Self::Returns(slot, at),
            _ => Self::Joins {
                name: name.to_owned(),
                cluster_id,
                at,
            },
        }
    }
}

/// Gives every store its place in the ledger; the slots are in the order of the stores.
///
/// # Errors
/// Where the ledger does not take one of them.
pub(crate) fn enroll(
    ledger: &mut Ledger,
    stores: &[StoreStanding],
) -> Result<Vec<StoreSlot>, NotEnrolled> {
    let mut own = Vec::with_capacity(stores.len());
    for store in stores {
        own.push(enroll_one(ledger, store)?);
    }
    let slots = stores.iter().zip(&own).map(|(store, slot)| {
        let slot = match store {
            // It may stand before the store that it is.
            StoreStanding::SameAs(first) => own.get(*first).copied().flatten(),
            _ => *slot,
        };
        slot.unwrap_or(StoreSlot::DEFAULT)
    });
    Ok(slots.collect())
}

fn enroll_one(
    ledger: &mut Ledger,
    store: &StoreStanding,
) -> Result<Option<StoreSlot>, NotEnrolled> {
    match store {
        StoreStanding::SameAs(_) => Ok(None),
        StoreStanding::Known(slot) => Ok(Some(*slot)),
        StoreStanding::Returns(slot, at) => {
            ledger.revive(*slot).map_err(|error| NotEnrolled {
                store: format!("slot {slot}"),
                error,
            })?;
            // Nobody has seen what was written to it meanwhile.
            if ledger.observe(*slot, *at) {
                ledger.raise_floor(*slot, ledger.head());
            }
            Ok(Some(*slot))
        }
        StoreStanding::Joins {
            name,
            cluster_id,
            at,
        } => {
            let added = ledger.add_store(name, *cluster_id, *at);
            let slot = added.map_err(|error| NotEnrolled {
                store: name.clone(),
                error,
            })?;
            info!(store = name, %slot, "the store joined the ledger");
            Ok(Some(slot))
        }
    }
}

#[cfg(test)]
mod tests {
    use keyloom_ledger::StoreStart;

    use super::*;

    fn ledger() -> Ledger {
        let store = |name: &str, cluster_id, at| StoreStart {
            name: name.to_owned(),
            cluster_id,
            at: StoreRev::new(at),
        };
        Ledger::start(&[store("default", 1, 10), store("b", 2, 7)])
    }

    fn of(ledger: &Ledger, name: &str, cluster_id: u64) -> StoreStanding {
        StoreStanding::of(ledger, name, cluster_id, StoreRev::new(9))
    }

    #[test]
    fn a_store_that_left_returns_as_the_same_cluster_only() {
        let mut ledger = ledger();
        let slot = ledger.slot("b").unwrap();
        assert_eq!(of(&ledger, "b", 2), StoreStanding::Known(slot));
        ledger.retire(slot);
        let returns = StoreStanding::Returns(slot, StoreRev::new(9));
        assert_eq!(of(&ledger, "b", 2), returns);
        let other = of(&ledger, "b", 3);
        assert!(matches!(other, StoreStanding::Joins { cluster_id: 3, .. }));
        // What came to it while it was away has a floor above it.
        assert_eq!(enroll(&mut ledger, &[returns]), Ok(vec![slot]));
        assert_eq!(ledger.floor(slot), ledger.head());
    }

    #[test]
    fn a_second_name_of_a_cluster_has_the_slot_of_the_first() {
        let mut ledger = ledger();
        let default = of(&ledger, "default", 1);
        let new = of(&ledger, "new", 4);
        let stores = [default, StoreStanding::SameAs(2), new];
        let slots = enroll(&mut ledger, &stores).unwrap();
        let added = ledger.slot("new").unwrap();
        assert_eq!(slots, [StoreSlot::DEFAULT, added, added]);
    }
}
