//! Random programs on the ledger and on the model at once, through flushes and restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::edge::start;
use super::model::Model;
use crate::{Flush, HEAD, Ledger, Mark, Seal, StoreRev, StoreSlot, UnifiedRev};

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Store (modulo their number) moves on by that much.
    Observe(usize, i64),
    /// As many small observations of all stores in a scattered order.
    Scatter(u32),
    Hide(i64),
    Add(i64),
    Skip(i64),
    Compact(i64),
    Floor(usize, i64),
    /// At most so many transactions; what does not fit stays unfinished.
    Flush(usize),
    Restart,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..20_usize, 0..20_i64).prop_map(|(s, n)| Step::Observe(s, n)),
        2 => (0..20_usize, 200..1500_i64).prop_map(|(s, n)| Step::Observe(s, n)),
        6 => any::<u32>().prop_map(Step::Scatter),
        6 => (1..4_i64).prop_map(Step::Hide),
        1 => prop_oneof![Just(1), 2..9_i64, 400..900_i64].prop_map(Step::Add),
        1 => prop_oneof![1..9_i64, 200..1200_i64].prop_map(Step::Skip),
        1 => any::<i64>().prop_map(Step::Compact),
        1 => (0..20_usize, any::<i64>()).prop_map(|(s, u)| Step::Floor(s, u)),
        5 => (1..9_usize).prop_map(Step::Flush),
        2 => Just(Step::Restart),
    ]
}

/// A ledger, its model, and a default store that keeps its records.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) model: Model,
    pub(super) mark: Mark,
    pub(super) records: BTreeMap<String, Vec<u8>>,
    pub(super) head_revision: i64,
    /// The model as it was at the last complete flush.
    pub(super) persisted: Option<Model>,
    pub(super) seal: Seal,
}

impl World {
    pub(super) fn new(at: &[i64]) -> Self {
        Self {
            ledger: start(at),
            model: Model::start(at),
            mark: Mark::new(),
            records: BTreeMap::new(),
            head_revision: 0,
            persisted: None,
            seal: Seal::default(),
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match *step {
            Step::Observe(slot, n) => self.observe(slot % self.model.stores.len(), n),
            Step::Scatter(seed) => self.scatter(seed),
            Step::Hide(n) => self.hide(n),
            Step::Add(at) => {
                let name = format!("added {}", self.model.stores.len());
                self.ledger.add_store(&name, 0, StoreRev::new(at)).unwrap();
                self.model.add(at);
            }
            Step::Skip(n) => {
                self.model.head += n;
                self.ledger.skip_to(UnifiedRev::new(self.model.head));
            }
            Step::Compact(u) => {
                let u = u.rem_euclid(self.model.head + 1);
                self.ledger.compact(UnifiedRev::new(u));
                self.model.compacted = self.model.compacted.max(u);
            }
            Step::Floor(slot, u) => {
                let (slot, u) = (
                    slot % self.model.stores.len(),
                    u.rem_euclid(self.model.head + 1),
                );
                self.ledger
                    .raise_floor(StoreSlot::new(slot as u16), UnifiedRev::new(u));
                let floor = &mut self.model.stores[slot].floor;
                *floor = (*floor).max(u);
            }
            Step::Flush(most) => self.flush(most),
            Step::Restart => self.restart(),
        }
    }

    /// Whatever is new has a place above all that was there before.
    fn observe(&mut self, slot: usize, n: i64) {
        let (s, before) = (StoreSlot::new(slot as u16), self.ledger.head());
        let r = self.model.stores[slot].frontier;
        self.ledger.observe(s, StoreRev::new(r + n));
        self.model.observe(slot, r + n);
        for r in r + 1..=r + n {
            assert!(self.ledger.unified(s, StoreRev::new(r)).unwrap() > before);
        }
    }

    fn scatter(&mut self, seed: u32) {
        let mut x = seed | 1;
        for _ in 0..seed % 400 {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            match x % 8 {
                0 => self.hide(1),
                _ => self.observe((x >> 8) as usize % self.model.stores.len(), 1),
            }
        }
    }

    fn hide(&mut self, n: i64) {
        let r = self.model.stores[0].frontier + n;
        assert!(self.ledger.hide(StoreRev::new(r)));
        self.model.hide(r);
    }

    pub(super) fn flush(&mut self, most: usize) {
        for _ in 0..most {
            let flush = self.ledger.flush(&self.mark, &self.seal);
            assert_fits(&flush);
            let complete = flush.complete;
            if complete {
                self.persisted = Some(self.model.clone());
            }
            self.write(flush);
            if complete {
                return;
            }
        }
    }

    /// The write is one more revision of the default store, and a hidden one.
    fn write(&mut self, flush: Flush) {
        let revision = self.model.stores[0].frontier + 1;
        if flush.puts.iter().any(|(key, _)| key == HEAD) {
            self.head_revision = revision;
        }
        self.records.extend(flush.puts);
        for key in flush.deletes {
            assert!(self.records.remove(&key).is_some(), "{key} was not there");
        }
        self.mark = flush.mark;
        self.ledger.hide(StoreRev::new(revision));
        self.model.hide(revision);
    }

    /// Back to what was persisted, which is exactly the model of then.
    fn restart(&mut self) {
        let Some(persisted) = self.persisted.clone() else {
            return;
        };
        let records: Vec<_> = self.records.iter().collect();
        let restored = Ledger::restore(&records, StoreRev::new(self.head_revision)).unwrap();
        assert!(restored.hidden.contains(&StoreRev::new(self.head_revision)));
        assert!(
            restored
                .hidden
                .iter()
                .all(|r| self.model.hidden.contains(&r.get()))
        );
        assert!(!restored.ledger.needs_flush(&restored.mark));
        persisted.compare(&restored.ledger, 1 + persisted.head as usize / 100);
        (self.ledger, self.mark, self.model) = (restored.ledger, restored.mark, persisted);
        for r in restored.hidden {
            self.ledger.hide(r);
            self.model.hide(r.get());
        }
    }
}

fn assert_fits(flush: &Flush) {
    assert!(flush.puts.len() + flush.deletes.len() <= 10);
    assert!(
        flush
            .puts
            .iter()
            .map(|(_, record)| record.len())
            .sum::<usize>()
            <= 1 << 20
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every lookup is what the model says, at any time, before and after restarts.
    #[test]
    fn the_ledger_is_the_model(
        at in prop::collection::vec(1..30_i64, 1..20),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(&at);
        for step in &steps {
            world.run(step);
            world.model.compare(&world.ledger, 1 + world.model.head as usize / 3);
        }
        let step = 1 + world.model.head as usize / 100;
        world.model.compare(&world.ledger, step);
        world.flush(usize::MAX);
        world.restart();
        world.model.compare(&world.ledger, step);
    }

    /// `unified` and `store_exact` undo each other, and `below_next` is the last `u` of its revision.
    #[test]
    fn lookups_are_inverse_and_a_galois_pair(
        at in prop::collection::vec(1..30_i64, 1..6),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(&at);
        steps.iter().for_each(|step| world.run(step));
        let ledger = &world.ledger;
        for (slot, _) in ledger.stores() {
            for r in (1..=ledger.frontier(slot).get()).map(StoreRev::new) {
                if let Some(u) = ledger.unified(slot, r) {
                    prop_assert_eq!(ledger.store_exact(slot, u), Some(r));
                    prop_assert!(ledger.below_next(slot, r) >= u);
                }
                let last = ledger.below_next(slot, r);
                prop_assert!(ledger.store_at(slot, last) >= r);
                let next = UnifiedRev::new(last.get() + 1);
                prop_assert!(last == ledger.head() || ledger.store_exact(slot, next) > Some(r));
            }
            for u in (1..=ledger.head().get()).map(UnifiedRev::new) {
                if let Some(r) = ledger.store_exact(slot, u) {
                    prop_assert_eq!(ledger.unified(slot, r), Some(u));
                }
            }
        }
    }
}
