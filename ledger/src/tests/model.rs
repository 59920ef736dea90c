//! The slow model: each store's visible revisions with their `u` in a list, searched from its
//! beginning. Its lookups are the definitions, word for word.

use std::collections::BTreeSet;

use crate::{Ledger, StoreRev, StoreSlot, UnifiedRev};

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) head: i64,
    pub(super) compacted: i64,
    pub(super) stores: Vec<Store>,
    pub(super) hidden: BTreeSet<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) frontier: i64,
    pub(super) floor: i64,
    /// (r, u)
    pub(super) visible: Vec<(i64, i64)>,
}

impl Store {
    fn at(identity: i64) -> Self {
        Self {
            frontier: identity,
            floor: 0,
            visible: (1..=identity).map(|r| (r, r)).collect(),
        }
    }
}

impl Model {
    pub(super) fn start(at: &[i64]) -> Self {
        let stores = at.iter().map(|r| Store::at(*r)).collect();
        Self {
            head: *at.iter().max().unwrap(),
            compacted: -1,
            stores,
            ..Self::default()
        }
    }

    pub(super) fn observe(&mut self, slot: usize, r: i64) {
        let store = &mut self.stores[slot];
        while store.frontier < r {
            store.frontier += 1;
            self.head += 1;
            store.visible.push((store.frontier, self.head));
        }
    }

    pub(super) fn hide(&mut self, r: i64) {
        if r > self.stores[0].frontier {
            self.observe(0, r - 1);
            self.stores[0].frontier = r;
            self.hidden.insert(r);
        }
    }

    pub(super) fn add(&mut self, at: i64) {
        self.stores.push(Store::at(1));
        let slot = self.stores.len() - 1;
        self.observe(slot, at);
        if at > 1 {
            self.stores[slot].floor = self.head;
        }
    }

    fn unified(&self, slot: usize, r: i64) -> Option<i64> {
        self.stores[slot]
            .visible
            .iter()
            .find(|(at, _)| *at == r)
            .map(|(_, u)| *u)
    }

    fn store_exact(&self, slot: usize, u: i64) -> Option<i64> {
        self.stores[slot]
            .visible
            .iter()
            .find(|(_, at)| *at == u)
            .map(|(r, _)| *r)
    }

    fn store_at(&self, slot: usize, u: i64) -> i64 {
        let store = &self.stores[slot];
        let next = store.visible.iter().find(|(_, at)| *at > u);
        next.map_or(store.frontier, |(r, _)| r - 1).max(1)
    }

    fn below_next(&self, slot: usize, r: i64) -> i64 {
        let next = self.stores[slot]
            .visible
            .iter()
            .find(|(at, _)| *at > r.max(1));
        next.map_or(self.head, |(_, u)| u - 1)
    }

    /// Compares every lookup at `u` and `r`, for every store.
    pub(super) fn compare_at(&self, ledger: &Ledger, at: i64) {
        let (u, r) = (UnifiedRev::new(at), StoreRev::new(at));
        for slot in 0..self.stores.len() {
            let s = StoreSlot::new(slot as u16);
            let what = format!("store {slot} at {at}");
            assert_eq!(
                ledger.unified(s, r).map(UnifiedRev::get),
                self.unified(slot, at),
                "{what}"
            );
            let exact = ledger.store_exact(s, u).map(StoreRev::get);
            assert_eq!(exact, self.store_exact(slot, at), "exact, {what}");
            assert_eq!(
                ledger.store_at(s, u).get(),
                self.store_at(slot, at),
                "store_at, {what}"
            );
            assert_eq!(
                ledger.below_next(s, r).get(),
                self.below_next(slot, at),
                "next, {what}"
            );
        }
        assert_eq!(
            ledger.is_hidden(r),
            self.hidden.contains(&at),
            "hidden at {at}"
        );
    }

    /// Compares what is not a lookup, and lookups at and around every `step`th place and the edges.
    pub(super) fn compare(&self, ledger: &Ledger, step: usize) {
        assert_eq!(ledger.head().get(), self.head);
        assert_eq!(ledger.compacted().get(), self.compacted);
        assert_eq!(ledger.stores().count(), self.stores.len());
        for (slot, store) in self.stores.iter().enumerate() {
            let s = StoreSlot::new(slot as u16);
            assert_eq!(ledger.frontier(s).get(), store.frontier);
            assert_eq!(ledger.floor(s).get(), store.floor);
        }
        let edges = self
            .stores
            .iter()
            .flat_map(|s| [s.frontier, s.frontier + 1]);
        let places = (0..=self.head)
            .step_by(step)
            .chain(edges)
            .chain([self.head, self.head + 1]);
        places.for_each(|at| self.compare_at(ledger, at));
    }
}
