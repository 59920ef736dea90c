//! Rule 6: what a start makes of the persisted ledger and of what the stores now say.
//!
//! ```text
//! clean                               -> Clean   others wrote meanwhile: appended, order is free
//! all answered, at most one advanced  -> Known   what was handed out is what is appended now
//! else                                -> Lost    ... | hole up to reserved | lost runs | empty u |
//! ```
//!
//! A default store that came from a backup brought an old ledger with it: that is the last case too,
//! with what was reserved raised past all that can have been given out.
//!
//! A store that was not there while the order was lost is *unsettled*: nothing was handed out for it
//! since, so it counts neither as asked nor as advanced in a later recovery; when it returns, what it
//! has is appended as a lost run of its own.
//!
//! Invariants:
//! 1. After an unclean end no `u` up to `reserved` is given a meaning that it may not have had.
//! 2. A store whose revisions were put in another order than was seen has a floor above all of them.
//! 3. What comes out is persisted before anything is served from it.

use keyloom_planted::{Bug, planted};

use crate::persist::{Mark, Restored};
use crate::{Ledger, StoreRev, StoreSlot, UnifiedRev};

/// A store is below what the ledger has of it: it lost writes, or it is another store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store in slot {slot} is at revision {found}, but the ledger has seen {known}")]
pub struct WentBack {
    pub slot: StoreSlot,
    pub known: StoreRev,
    pub found: StoreRev,
}

/// Why there is nothing to serve from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecoverError {
    /// May be tried again without that store, which then waits for its return.
    #[error(transparent)]
    WentBack(#[from] WentBack),
    #[error("the default store, which holds the ledger, was not asked")]
    NoDefaultStore,
}

/// What became of the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Clean,
    Known,
    /// The lost runs, if there were any, are closed by this `u`.
    Lost {
        closed_by: Option<UnifiedRev>,
    },
}

#[derive(Clone, Debug)]
pub struct Recovery {
    pub ledger: Ledger,
    /// To flush from: the recovery is not persisted yet.
    pub mark: Mark,
    pub order: Order,
    /// Stores whose floor was raised.
    pub raised: Vec<StoreSlot>,
    /// Stores that owe a [`Ledger::return_of`].
    pub absent: Vec<StoreSlot>,
}

/// Recovers from a restored ledger. `observed` has a linearizable revision of each store that
/// answered, read after the ledger was; the leadership must be held.
pub fn recover(
    restored: Restored,
    observed: &[(StoreSlot, StoreRev)],
) -> Result<Recovery, RecoverError> {
    let Restored {
        ledger,
        clean,
        lost,
        reserved,
        mut hidden,
        mark,
        ..
    } = restored;
    hidden.sort_unstable();
    let mut work = Work {
        ledger,
        hidden,
        raised: Vec::new(),
    };
    let answers = work.answers(observed)?;
    let absent = work.absent(&answers);
    let advanced = answers
        .iter()
        .filter(|(slot, r)| work.is_advanced(*slot, *r))
        .count();
    let order = if lost {
        work.append_lost(&answers, &absent, reserved)
    } else if clean {
        work.append_all(&answers);
        Order::Clean
    } else if absent.is_empty() && (advanced <= 1 || planted(Bug::OrderGuessed)) {
        work.append_all(&answers);
        Order::Known
    } else {
        work.append_lost(&answers, &absent, reserved)
    };
    work.take_back(observed)?;
    let ledger = work.ledger;
    let absent = ledger.unsettled().collect();
    Ok(Recovery {
        ledger,
        mark,
        order,
        raised: work.raised,
        absent,
    })
}

struct Work {
    ledger: Ledger,
    /// Known hidden revisions above the default store's frontier, in order.
    hidden: Vec<StoreRev>,
    raised: Vec<StoreSlot>,
}

impl Work {
    /// The observed revisions of the stores whose order counts, by slot, none of which went back.
    fn answers(
        &self,
        observed: &[(StoreSlot, StoreRev)],
    ) -> Result<Vec<(StoreSlot, StoreRev)>, RecoverError> {
        let mut answers = Vec::new();
        for (slot, info) in self.ledger.stores() {
            let Some((_, found)) = observed.iter().find(|(at, _)| *at == slot) else {
                continue;
            };
            self.ledger.check_back(slot, *found)?;
            if info.settled && !info.retired {
                answers.push((slot, *found));
            }
        }
        let Some((StoreSlot::DEFAULT, found)) = answers.first() else {
            return Err(RecoverError::NoDefaultStore);
        };
        match self.hidden.last() {
            // The ledger's own record is newer than what the store says of itself.
            Some(known) if known > found => Err(WentBack {
                slot: StoreSlot::DEFAULT,
                known: *known,
                found: *found,
            }
            .into()),
            _ => Ok(answers),
        }
    }

    /// Stores whose order counts and that did not answer.
    fn absent(&self, answers: &[(StoreSlot, StoreRev)]) -> Vec<StoreSlot> {
        let stores = self
            .ledger
            .stores()
            .filter(|(_, info)| info.settled && !info.retired);
        let absent = stores.filter(|(slot, _)| !answers.iter().any(|(at, _)| at == slot));
        absent.map(|(slot, _)| slot).collect()
    }

    /// Whether the store has visible revisions that are not in the ledger.
    fn is_advanced(&self, slot: StoreSlot, r: StoreRev) -> bool {
        let frontier = self.ledger.frontier(slot);
        let hidden = self
            .hidden
            .iter()
            .filter(|h| slot == StoreSlot::DEFAULT && **h > frontier);
        r.get() - frontier.get() > hidden.count() as i64
    }

    fn append_all(&mut self, answers: &[(StoreSlot, StoreRev)]) {
        for (slot, r) in answers {
            if *slot == StoreSlot::DEFAULT {
                for hidden in &self.hidden {
                    self.ledger.hide(*hidden);
                }
            }
            self.ledger.observe(*slot, *r);
        }
    }

    fn append_lost(
        &mut self,
        answers: &[(StoreSlot, StoreRev)],
        absent: &[StoreSlot],
        reserved: UnifiedRev,
    ) -> Order {
        let advanced = answers
            .iter()
            .filter(|(slot, r)| self.is_advanced(*slot, *r));
        self.raised = advanced.map(|(slot, _)| *slot).collect();
        if !planted(Bug::RevisionsReused) {
            self.ledger.skip_to(reserved);
        }
        self.append_all(answers);
        let closed_by = (!self.raised.is_empty()).then(|| self.ledger.close_lost());
        let raised = self.raised.iter();
        for slot in raised.filter(|_| !planted(Bug::FloorForgotten)) {
            self.ledger.raise_floor(*slot, self.ledger.head());
        }
        for slot in absent {
            self.ledger.change(*slot, |store| store.settled = false);
        }
        Order::Lost { closed_by }
    }

    /// Stores that an earlier recovery missed, and that are back.
    fn take_back(&mut self, observed: &[(StoreSlot, StoreRev)]) -> Result<(), WentBack> {
        for slot in self.ledger.unsettled().collect::<Vec<_>>() {
            let Some((_, r)) = observed.iter().find(|(at, _)| *at == slot) else {
                continue;
            };
            if self.ledger.return_of(slot, *r)?.is_some() {
                self.raised.push(slot);
            }
        }
        Ok(())
    }
}

// === impl Ledger ===

impl Ledger {
    /// A store that could not be asked when the order was lost has returned, and stands at `r`. If it
    /// has something new, that is appended as a lost run and its new floor is given. See
    /// [`Self::must_flush`].
    pub fn return_of(
        &mut self,
        slot: StoreSlot,
        r: StoreRev,
    ) -> Result<Option<UnifiedRev>, WentBack> {
        self.check_back(slot, r)?;
        if self.store(slot).is_none_or(|store| store.settled) {
            return Ok(None);
        }
        self.structure += 1;
        self.change(slot, |store| store.settled = true);
        if !self.observe(slot, r) {
            return Ok(None);
        }
        let floor = self.close_lost();
        self.raise_floor(slot, floor);
        Ok(Some(floor))
    }

    /// Stores that owe a [`Self::return_of`].
    pub fn unsettled(&self) -> impl Iterator<Item = StoreSlot> {
        let stores = self
            .stores()
            .filter(|(_, store)| !store.settled && !store.retired);
        stores.map(|(slot, _)| slot)
    }

    /// The empty `u` after a lost run: whoever starts there has seen all of it or none.
    fn close_lost(&mut self) -> UnifiedRev {
        self.skip_to(UnifiedRev::new(self.head().get() + 1));
        self.head()
    }

    fn check_back(&self, slot: StoreSlot, found: StoreRev) -> Result<(), WentBack> {
        let known = self.frontier(slot);
        if found < known {
            Err(WentBack { slot, known, found })
        } else {
            Ok(())
        }
    }
}
