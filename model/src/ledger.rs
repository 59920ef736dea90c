//! The ledger, as plainly as it can be said: a list, and what is searched in it.
//!
//! What `ledger/` keeps in planes and chunks is here a `Vec`. `tests/same_ledger.rs` holds the two
//! against each other: every translation, and every recovery.

use crate::world::{DEFAULT, Rev, STORES, Slot, U};

/// What a unified revision stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Hole,
    Of(Slot),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// From `u` = 2 on: at 1 every store is empty.
    pub order: Vec<Place>,
    /// Of each revision of the default store from 2 on, whether it is hidden.
    pub own: Vec<bool>,
    pub floor: [U; STORES],
    pub compacted: U,
    /// Whether the store's place is known; one that was absent when the order was lost owes a
    /// [`Self::return_of`].
    pub settled: [bool; STORES],
    /// The place of the last change of routes; 0 where there was none.
    pub moved_at: U,
    /// Counts the changes that a recovery could not see from the stores' revisions.
    pub structure: u8,
}

/// What became of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    Clean,
    Known,
    Lost,
}

/// What a start is told beside the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restored {
    pub ledger: Ledger,
    pub clean: bool,
    pub reserved: U,
    /// Own writes that the persisted ledger may not know of.
    pub hidden: Vec<Rev>,
}

/// A store is below what the ledger has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack(pub Slot);

/// The parts of the recovery that can be left out, to see what they are for.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    pub floors: bool,
    pub hole: bool,
}

// === impl Ledger ===

impl Ledger {
    pub fn start() -> Self {
        Self {
            order: Vec::new(),
            own: Vec::new(),
            floor: [0; STORES],
            compacted: 0,
            settled: [true; STORES],
            moved_at: 0,
            structure: 0,
        }
    }

    pub fn head(&self) -> U {
        small(self.order.len()) + 1
    }

    pub fn frontier(&self, slot: Slot) -> Rev {
        let n = match slot {
            DEFAULT => self.own.len(),
            _ => self
                .order
                .iter()
                .filter(|at| **at == Place::Of(slot))
                .count(),
        };
        small(n) + 1
    }

    pub fn observe(&mut self, slot: Slot, r: Rev) -> bool {
        if !self.settled[slot] || r <= self.frontier(slot) {
            return false;
        }
        while self.frontier(slot) < r {
            self.order.push(Place::Of(slot));
            if slot == DEFAULT {
                self.own.push(false);
            }
        }
        true
    }

    pub fn hide(&mut self, r: Rev) {
        if r > self.frontier(DEFAULT) {
            self.observe(DEFAULT, r - 1);
            self.own.push(true);
        }
    }

    pub fn is_hidden(&self, r: Rev) -> bool {
        r >= 2 && self.own.get(usize::from(r) - 2) == Some(&true)
    }

    pub fn skip_to(&mut self, u: U) {
        self.structure += 1;
        while self.head() < u {
            self.order.push(Place::Hole);
        }
    }

    pub fn raise_floor(&mut self, slot: Slot, u: U) {
        self.structure += 1;
        self.floor[slot] = self.floor[slot].max(u.min(self.head()));
    }

    pub fn compact(&mut self, u: U) {
        self.compacted = self.compacted.max(u.min(self.head()));
    }

    /// The `u` of a revision, which must be in the ledger.
    pub fn unified(&self, slot: Slot, r: Rev) -> Option<U> {
        if r <= 1 {
            return (r == 1).then_some(1);
        }
        (2..=self.head()).find(|u| self.exact(slot, *u) == Some(r))
    }

    /// The revision of the store that has exactly this `u`.
    pub fn exact(&self, slot: Slot, u: U) -> Option<Rev> {
        if u <= 1 {
            return (u == 1).then_some(1);
        }
        let at = usize::from(u) - 2;
        if self.order.get(at) != Some(&Place::Of(slot)) {
            return None;
        }
        let before = self.order.iter().take(at);
        let nth = before.filter(|place| **place == Place::Of(slot)).count();
        if slot != DEFAULT {
            return Some(small(nth) + 2);
        }
        let visible = self.own.iter().enumerate().filter(|(_, hidden)| !**hidden);
        visible.map(|(at, _)| small(at) + 2).nth(nth)
    }

    /// The revision at which to read the store for a cut at `u`.
    pub fn store_at(&self, slot: Slot, u: U) -> Rev {
        let next = (u + 1..=self.head()).find_map(|u| self.exact(slot, u));
        next.map_or_else(|| self.frontier(slot), |r| r - 1)
    }

    /// The header of an answer at `r` that wrote nothing.
    pub fn below_next(&self, slot: Slot, r: Rev) -> U {
        let next = (2..=self.head()).find(|u| self.exact(slot, *u).is_some_and(|at| at > r));
        next.map_or_else(|| self.head(), |u| u - 1)
    }

    /// Whether nothing may be given out before a complete flush.
    pub fn must_flush(&self, mark: &Self, mark_is_clean: bool) -> bool {
        mark_is_clean || mark.structure != self.structure
    }

    /// A store that could not be asked when the order was lost is back.
    pub fn return_of(&mut self, slot: Slot, r: Rev, care: Care) -> Result<bool, WentBack> {
        if r < self.frontier(slot) {
            return Err(WentBack(slot));
        }
        self.structure += 1;
        self.settled[slot] = true;
        if !self.observe(slot, r) {
            return Ok(false);
        }
        self.close_lost();
        if care.floors {
            self.raise_floor(slot, self.head());
        }
        Ok(true)
    }

    fn close_lost(&mut self) {
        self.skip_to(self.head() + 1);
    }
}

/// Rule 6. `observed` has a revision of each store that answered.
///
/// # Errors
/// Where a store went back.
pub fn recover(
    restored: Restored,
    observed: [Option<Rev>; STORES],
    care: Care,
) -> Result<(Ledger, Order), WentBack> {
    let Restored {
        mut ledger,
        clean,
        reserved,
        hidden,
    } = restored;
    for (slot, found) in observed.iter().enumerate() {
        if found.is_some_and(|r| r < ledger.frontier(slot)) {
            return Err(WentBack(slot));
        }
    }
    if hidden
        .iter()
        .any(|r| observed[DEFAULT].is_some_and(|found| *r > found))
    {
        return Err(WentBack(DEFAULT));
    }
    let was_settled = ledger.settled;
    let asked = |slot: Slot| observed[slot].filter(|_| was_settled[slot]);
    let advanced: Vec<Slot> = (0..STORES)
        .filter(|slot| {
            let unknown = asked(*slot).map_or(0, |r| r.saturating_sub(ledger.frontier(*slot)));
            let known = hidden
                .iter()
                .filter(|r| **r > ledger.frontier(*slot))
                .count();
            unknown > if *slot == DEFAULT { small(known) } else { 0 }
        })
        .collect();
    let absent: Vec<Slot> = (0..STORES)
        .filter(|slot| was_settled[*slot] && observed[*slot].is_none())
        .collect();
    let order = match clean {
        true => Order::Clean,
        false if absent.is_empty() && advanced.len() <= 1 => Order::Known,
        false => Order::Lost,
    };
    if order == Order::Lost && care.hole {
        ledger.skip_to(reserved);
    }
    for slot in 0..STORES {
        let Some(r) = asked(slot) else { continue };
        if slot == DEFAULT {
            hidden.iter().for_each(|r| ledger.hide(*r));
        }
        ledger.observe(slot, r);
    }
    if order == Order::Lost {
        if !advanced.is_empty() {
            ledger.close_lost();
        }
        for slot in advanced.into_iter().filter(|_| care.floors) {
            ledger.raise_floor(slot, ledger.head());
        }
        for slot in absent {
            ledger.settled[slot] = false;
        }
    }
    for (slot, found) in observed.iter().enumerate() {
        if let Some(r) = found.filter(|_| !ledger.settled[slot]) {
            ledger.return_of(slot, r, care)?;
        }
    }
    Ok((ledger, order))
}

/// Everything in a model is small.
pub(crate) fn small(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}
