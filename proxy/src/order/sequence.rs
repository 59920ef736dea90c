//! The sequence: which revision of which store has which place, what was observed of the stores, and
//! which of them are believed. A follower of a leader has this and no [`Leadership`].
//!
//! [`Leadership`]: super::leadership::Leadership

use std::collections::{BTreeMap, BTreeSet};

use keyloom_ledger::{Ledger, StoreRev, StoreSlot, UnifiedRev};

use super::OrderError;

/// A store revision this far above the last known one is not believed: the ledger would count
/// every number in between. A restore with `etcdutl --bump-revision` moves by 2^30 by default.
const LARGEST_STEP: i64 = 1 << 36;

/// What an answer of a store says of its revisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) slot: StoreSlot,
    /// The header's revision.
    pub(crate) revision: StoreRev,
    /// Whether the call wrote, so that `revision` is its own.
    pub(crate) wrote: bool,
    /// What [`Merged::admit`] gave before the call; `None` for a serializable read, which may be
    /// behind.
    ///
    /// [`Merged::admit`]: super::Merged::admit
    pub(crate) known: Option<StoreRev>,
    /// Whether the store's own watch says so, and not an answer to a call.
    pub(crate) is_delivery: bool,
}

/// Where an answer has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) slot: StoreSlot,
    /// The store revision of the answer's header.
    pub(crate) revision: StoreRev,
    /// The header revision to send.
    pub(crate) unified: UnifiedRev,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) ledger: Ledger,
    /// Stores that are not believed, and why.
    shut_out: BTreeMap<StoreSlot, OrderError>,
    /// Stores whose revisions take their places when their watches deliver them.
    pub(super) by_delivery: BTreeSet<StoreSlot>,
}

impl Sequence {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            shut_out: BTreeMap::new(),
            by_delivery: BTreeSet::new(),
        }
    }

    /// The last revision of a store that has its place, where the store is believed.
    ///
    /// # Errors
    /// Why it was shut out.
    pub(super) fn admit(&self, slot: StoreSlot) -> Result<StoreRev, OrderError> {
        match self.shut_out.get(&slot) {
            Some(error) => Err(error.clone()),
            None => Ok(self.ledger.frontier(slot)),
        }
    }

    pub(super) fn shut_out(&mut self, slot: StoreSlot, why: OrderError) {
        self.shut_out.insert(slot, why);
    }

    pub(super) fn let_in(&mut self, slot: StoreSlot) {
        self.shut_out.remove(&slot);
    }

    /// Whether an answer can be true.
    ///
    /// # Errors
    /// Where it cannot, or shows that its store lost data.
    pub(super) fn check(&self, answered: Answered) -> Result<(), OrderError> {
        let (known, revision) = (self.ledger.frontier(answered.slot).get(), answered.revision);
        let answer = revision.get();
        if answer <= 0 || answer.saturating_sub(known) > LARGEST_STEP {
            return Err(OrderError::Nonsense {
                known,
                answered: answer,
            });
        }
        // A write takes a revision above everything that was there when it was sent.
        let is_below = |known: &StoreRev| revision < *known || answered.wrote && revision == *known;
        match answered.known.filter(is_below) {
            None => Ok(()),
            Some(known) => Err(OrderError::WentBack {
                known: known.get(),
                answered: answer,
            }),
        }
    }

    /// Whether the revision of an answer has its place already.
    pub(super) fn covers(&self, answered: Answered) -> bool {
        answered.revision <= self.ledger.frontier(answered.slot)
    }

    /// Whether an answer's revision must wait until its store's own watch delivers it.
    pub(super) fn waits_for_delivery(&self, answered: Answered) -> bool {
        !answered.is_delivery && self.by_delivery.contains(&answered.slot)
    }

    /// The place of an answer that is covered.
    ///
    /// # Errors
    /// Where a write has the revision of somebody else.
    pub(super) fn place(&self, answered: Answered) -> Result<Sequenced, OrderError> {
        let Answered { slot, revision, .. } = answered;
        let unified = if answered.wrote {
            self.ledger
                .unified(slot, revision)
                .ok_or_else(|| OrderError::Nonsense {
                    known: self.ledger.frontier(slot).get(),
                    answered: revision.get(),
                })?
        } else {
            self.ledger.below_next(slot, revision)
        };
        Ok(Sequenced {
            slot,
            revision,
            unified,
        })
    }
}
