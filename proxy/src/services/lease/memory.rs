//! What is remembered of leases: which stores have which.
//!
//! Memory saves calls and decides nothing that it could decide wrongly: what is not remembered is
//! asked of the stores, and a store that contradicts it is believed. It is bounded
//! ([`MOST_LEASES`]); what is forgotten is unknown again, as everything is after a restart.
//!
//! Answers arrive late: a store says that it does not have a lease, and meanwhile another call has
//! granted it there. So every change has a number, and what was heard counts only where nothing
//! has changed since it was asked ([`Memory::asked`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keyloom_ledger::StoreSlot;
use parking_lot::Mutex;

/// How many leases are remembered, at least; at most twice as many.
const MOST_LEASES: usize = 1 << 14;

/// Whether a store has a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Held {
    /// Nobody has said.
    #[default]
    Unknown,
    Yes,
    No,
}

/// The number of the last change when something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked(u64);

#[derive(Clone, Copy, Debug)]
struct LeaseOnStore {
    held: Held,
    changed: u64,
}

#[derive(Clone, Debug, Default)]
struct Lease {
    stores: BTreeMap<StoreSlot, LeaseOnStore>,
    /// What holds for the stores that are not named.
    others: Held,
    /// Whether a store lost it before its time, and its keys with it.
    lost: bool,
}

impl Lease {
    fn held(&self, slot: StoreSlot) -> Held {
        self.stores
            .get(&slot)
            .map_or(self.others, |known| known.held)
    }
}

/// The leases that are remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
}

/// Two generations: what was not used while the young one filled goes with the old one.
#[derive(Debug, Default)]
struct Inner {
    young: HashMap<i64, Lease>,
    old: HashMap<i64, Lease>,
    changes: u64,
    /// The change at which something was last forgotten.
    forgotten: u64,
    /// The stores that let a keep-alive wait in vain and have not answered one since.
    late: BTreeSet<StoreSlot>,
}

impl Memory {
    /// To be taken before a store is asked whether it has a lease.
    pub(super) fn asked(&self) -> Asked {
        Asked(self.inner.lock().changes)
    }

    pub(super) fn held(&self, id: i64, slot: StoreSlot) -> Held {
        let mut inner = self.inner.lock();
        inner
            .find(id)
            .map_or(Held::Unknown, |lease| lease.held(slot))
    }

    /// Whether a store lost the lease before its time.
    pub(super) fn is_lost(&self, id: i64) -> bool {
        let mut inner = self.inner.lock();
        inner.find(id).is_some_and(|lease| lease.lost)
    }

    /// The lease is new: only the default store has it.
    pub(super) fn granted(&self, id: i64) {
        let mut inner = self.inner.lock();
        inner.forget(id);
        let lease = Lease {
            others: Held::No,
            ..Lease::default()
        };
        inner.put(id, lease);
    }

    /// Something is about to happen, or has happened, on a store.
    pub(super) fn set(&self, id: i64, slot: StoreSlot, held: Held) {
        let mut inner = self.inner.lock();
        inner.changes += 1;
        let changed = inner.changes;
        let known = LeaseOnStore { held, changed };
        inner.find_or_new(id).stores.insert(slot, known);
    }

    /// A store has said whether it has the lease. One that had it for sure and has it no more lost
    /// it: its keys are gone, and clients must hear that the lease is.
    pub(super) fn heard(&self, id: i64, slot: StoreSlot, asked: Asked, has: bool) {
        let mut inner = self.inner.lock();
        if inner.forgotten > asked.0 {
            return;
        }
        let lease = inner.find_or_new(id);
        let changed = lease.stores.get(&slot).map_or(0, |known| known.changed);
        if changed > asked.0 {
            return;
        }
        lease.lost |= !has && lease.held(slot) == Held::Yes;
        let held = if has { Held::Yes } else { Held::No };
        lease.stores.insert(slot, LeaseOnStore { held, changed });
    }

    /// The lease has ended, or nothing is known of it any more.
    pub(super) fn forget(&self, id: i64) {
        self.inner.lock().forget(id);
    }

    // === stores that do not answer keep-alives ===

    pub(super) fn is_late(&self, slot: StoreSlot) -> bool {
        self.inner.lock().late.contains(&slot)
    }

    pub(super) fn set_late(&self, slot: StoreSlot, late: bool) {
        let mut inner = self.inner.lock();
        if late {
            inner.late.insert(slot);
        } else {
            inner.late.remove(&slot);
        }
    }
}

impl Inner {
    fn find(&mut self, id: i64) -> Option<&mut Lease> {
        if let Some(lease) = self.old.remove(&id) {
            self.put(id, lease);
        }
        self.young.get_mut(&id)
    }

    fn find_or_new(&mut self, id: i64) -> &mut Lease {
        if self.find(id).is_none() {
            self.put(id, Lease::default());
        }
        self.young.entry(id).or_default()
    }

    fn put(&mut self, id: i64, lease: Lease) {
        if self.young.len() >= MOST_LEASES {
            if !self.old.is_empty() {
                self.changes += 1;
                self.forgotten = self.changes;
            }
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, lease);
    }

    fn forget(&mut self, id: i64) {
        self.changes += 1;
        self.forgotten = self.changes;
        self.young.remove(&id);
        self.old.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: StoreSlot = StoreSlot::DEFAULT;

    #[test]
    fn what_was_heard_counts_only_where_nothing_changed_since_it_was_asked() {
        let memory = Memory::default();
        let asked = memory.asked();
        memory.set(1, B, Held::Yes);
        memory.heard(1, B, asked, false);
        assert_eq!(memory.held(1, B), Held::Yes);
        memory.heard(1, B, memory.asked(), false);
        assert_eq!(memory.held(1, B), Held::No);
        assert!(memory.is_lost(1));
    }

    #[test]
    fn what_was_heard_of_a_forgotten_lease_does_not_count() {
        let memory = Memory::default();
        let asked = memory.asked();
        memory.set(1, B, Held::Yes);
        memory.forget(1);
        memory.heard(1, B, asked, false);
        assert_eq!(memory.held(1, B), Held::Unknown);
        assert!(!memory.is_lost(1));
    }

    #[test]
    fn a_lease_that_was_never_there_is_not_lost() {
        let memory = Memory::default();
        memory.heard(1, B, memory.asked(), false);
        assert_eq!((memory.held(1, B), memory.is_lost(1)), (Held::No, false));
        memory.granted(2);
        assert_eq!(memory.held(2, B), Held::No);
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let memory = Memory::default();
        memory.set(-1, B, Held::Yes);
        for id in 0..5 * i64::try_from(MOST_LEASES).unwrap() {
            memory.granted(id);
            assert_eq!(memory.held(-1, B), Held::Yes);
        }
        let inner = memory.inner.lock();
        assert!(inner.young.len() <= MOST_LEASES && inner.old.len() <= MOST_LEASES);
        assert!(!inner.young.contains_key(&0) && !inner.old.contains_key(&0));
    }
}
