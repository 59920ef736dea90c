//! Lists over several stores, the hub, and merged watches: `proxy/src/services/merged.rs`,
//! `proxy/src/feeds/follow.rs`, `hub/src/merge.rs`, `hub/src/stream/create.rs`.
//!
//! What a watcher takes is read from the stores' logs up to what the hub has delivered: the hub's
//! history in memory and a chase of the store's own are one thing here.

use std::cmp::Ordering;

use crate::{
    told::{Broken, Value},
    variant::Without,
    world::{Cache, Change, DEFAULT, Entry, Instance, KEYS, Phase, Rev, STORES, Slot, U, World},
};

impl Instance {
    /// The largest `u` at which every store of the span has delivered what it has there.
    fn bound(&self, without: Without, span: &[Slot]) -> U {
        let newest = self.newest(without);
        if without == Without::Bound {
            return newest;
        }
        let shown = span.iter().map(|slot| self.shown_up_to(without, *slot));
        shown.fold(newest, U::min)
    }

    /// `Ledger::shown_up_to`
    fn shown_up_to(&self, without: Without, slot: Slot) -> U {
        let below = self.ledger.below_next(slot, self.delivered[slot]);
        let known = self.ledger.settled[slot] && below + 1 >= self.ledger.floor[slot];
        if known || without == Without::AbsentHeld {
            below
        } else {
            0
        }
    }

    /// `Hub::returned`, where the store's watch must go on elsewhere.
    fn is_below_floor(&self, slot: Slot) -> bool {
        self.ledger.below_next(slot, self.delivered[slot]) + 1 < self.ledger.floor[slot]
    }
}

impl World {
    /// The hub's watch of a store delivers the next revision.
    pub fn deliver(&mut self, without: Without, instance: usize, slot: Slot) -> Option<()> {
        let store = &self.stores[slot];
        let (cluster, last, begin) = (store.cluster, store.revision(), store.compacted);
        let at = &mut self.instances[instance];
        if at.phase != Phase::Serving || at.shut_out[slot] || at.stopped {
            return None;
        }
        // `recognise`
        if cluster != at.clusters[slot] && without != Without::ClusterSeen {
            at.shut_out[slot] = true;
            self.seen.shut_out = true;
            return Some(());
        }
        if begin > at.delivered[slot] + 1 {
            return self.lost(without, instance, slot, begin);
        }
        if at.is_below_floor(slot) && without != Without::ReturnCancels {
            let floor = at.ledger.floor[slot];
            at.delivered[slot] = at.ledger.store_at(slot, floor);
            self.cancel_below(instance, slot, floor);
            return Some(());
        }
        let next = at.delivered[slot] + 1;
        if next > last {
            return None;
        }
        at.sequence(without, slot, next)?;
        at.delivered[slot] = next;
        Some(())
    }

    /// `lost`: the store was compacted above what its watch had delivered.
    fn lost(&mut self, without: Without, instance: usize, slot: Slot, begin: Rev) -> Option<()> {
        let at = &mut self.instances[instance];
        at.sequence(without, slot, begin)?;
        if self.told_compaction_only() {
            self.check(Err(Broken::Overtaken));
        }
        let at = &mut self.instances[instance];
        let last_lost = begin - 1;
        let floor = at.ledger.below_next(slot, last_lost) + 1;
        let had = at.ledger.below_next(slot, at.delivered[slot]) + 1;
        at.lost[slot] = (at.delivered[slot], last_lost);
        at.delivered[slot] = last_lost;
        if had >= floor || without == Without::LossRaisesFloor {
            return Some(());
        }
        at.ledger.raise_floor(slot, floor);
        at.must_record = true;
        self.seen.floor_raised = true;
        // `cancel_below`: who has not taken everything below the floor starts again.
        self.cancel_below(instance, slot, floor);
        Some(())
    }

    fn told_compaction_only(&self) -> bool {
        !self.others_compacted()
    }

    pub(crate) fn cancel_below(&mut self, instance: usize, slot: Slot, floor: U) {
        let nonce = self.instances[instance].nonce;
        let ledger = self.instances[instance].ledger.clone();
        let spans: Vec<_> = self
            .caches
            .iter()
            .map(|cache| self.span(instance, &cache.keys))
            .collect();
        let spanning = self.caches.iter_mut().zip(spans);
        let open =
            spanning.filter(|(cache, span)| cache.watching == Some(nonce) && span.contains(&slot));
        for (cache, _) in open {
            let (cursor, _) = cache.has.unwrap_or_default();
            if ledger.below_next(slot, ledger.store_at(slot, cursor)) + 1 < floor {
                cache.watching = None;
                cache.has = None;
                self.seen.cancelled = true;
            }
        }
    }

    /// A cache reads its range at the head: `Merged::snapshot`, and each store at its revision.
    pub fn list(&mut self, without: Without, instance: usize, cache: usize) -> Option<()> {
        let Cache {
            keys, has: None, ..
        } = self.caches[cache].clone()
        else {
            return None;
        };
        let at = &self.instances[instance];
        let u = at.newest(without);
        if !at.may_leave(without) || self.is_shut_out(without, instance, &keys) {
            return None;
        }
        let has = self.cut(instance, &keys, u)?;
        self.budget.lists = self.budget.lists.checked_sub(1)?;
        for key in &keys {
            let told = self.told.answer(u, false, has[*key], self.told.began(*key));
            self.check(told);
        }
        self.tell_cut(u, &keys, has);
        self.caches[cache].has = Some((u, has));
        Some(())
    }

    /// A range at an old revision.
    pub fn old_list(
        &mut self,
        without: Without,
        instance: usize,
        cache: usize,
        u: U,
    ) -> Option<()> {
        let keys = self.caches[cache].keys.clone();
        let at = &self.instances[instance];
        if !at.may_leave(without)
            || self.is_shut_out(without, instance, &keys)
            || u > at.newest(without)
        {
            return None;
        }
        if u < self.floor(instance, &keys, 0) {
            return None;
        }
        let has = self.cut(instance, &keys, u)?;
        self.budget.old_lists = self.budget.old_lists.checked_sub(1)?;
        if u < self.told.compacted {
            self.check(Err(Broken::CompactedRead));
        }
        self.tell_cut(u, &keys, has);
        Some(())
    }

    /// `stream/create.rs`: a cache watches from what it has.
    pub fn watch(&mut self, without: Without, instance: usize, cache: usize) -> Option<()> {
        let Cache {
            keys,
            has: Some((cursor, _)),
            watching: None,
        } = self.caches[cache].clone()
        else {
            return None;
        };
        let at = &self.instances[instance];
        if !at.may_leave(without) {
            return None;
        }
        self.budget.watches = self.budget.watches.checked_sub(1)?;
        let start = cursor + 1;
        let ledger = &at.ledger;
        let is_gone = |slot: &Slot| {
            // A chase would begin below what the store still has.
            let needs = ledger.store_at(*slot, cursor) + 1;
            needs < self.stores[*slot].compacted && needs <= at.delivered[*slot]
        };
        let gone = self.span(instance, &keys).iter().any(is_gone);
        let above = u8::from(without != Without::WatchAboveChange);
        let below = start < self.floor(instance, &keys, above) && without != Without::WatchFloor;
        let nonce = at.nonce;
        let cache = &mut self.caches[cache];
        if below || gone {
            cache.has = None;
            self.seen.cancelled = true;
        } else {
            cache.watching = Some(nonce);
        }
        Some(())
    }

    /// `merge`: a watcher takes the next revision, or is told its progress.
    pub fn take_next(&mut self, without: Without, cache: usize) -> Option<()> {
        let Cache {
            keys,
            has: Some((cursor, mut has)),
            watching: Some(nonce),
        } = self.caches[cache].clone()
        else {
            return None;
        };
        let instance = self.of(nonce)?;
        let at = &self.instances[instance];
        if !at.may_leave(without) {
            return None;
        }
        let bound = at.bound(without, &self.watched_span(instance, &keys));
        let event = (cursor + 1..=bound).find_map(|u| self.event(without, instance, &keys, u));
        let Some((u, key, value)) = event else {
            // Progress.
            if bound <= cursor {
                return None;
            }
            self.tell_cut(bound, &keys, has);
            self.has_all(instance, &keys, bound, has);
            self.caches[cache].has = Some((bound, has));
            return Some(());
        };
        if value <= has[key] {
            self.check(Err(Broken::Repeated));
        }
        has[key] = value;
        let told = self.told.write(u, value.id());
        self.check(told);
        self.tell_cut(u, &keys, has);
        self.has_all(instance, &keys, u, has);
        self.caches[cache].has = Some((u, has));
        Some(())
    }

    /// The stores of a range before and after a change of routes.
    fn watched_span(&self, instance: usize, keys: &[usize]) -> Vec<Slot> {
        let at = &self.instances[instance];
        let lives = |key: usize, slot: Slot| {
            at.route(key) == slot || at.route_at(key, at.ledger.moved_at) == slot
        };
        (0..STORES)
            .filter(|slot| keys.iter().any(|key| lives(*key, *slot)))
            .collect()
    }

    /// What a watch over these keys hears of at `u`: the stores' logs, as the routes of then see
    /// them.
    fn event(
        &self,
        without: Without,
        instance: usize,
        keys: &[usize],
        u: U,
    ) -> Option<(U, usize, Value)> {
        let at = &self.instances[instance];
        let (slot, r) = (0..STORES).find_map(|slot| Some((slot, at.ledger.exact(slot, u)?)))?;
        if without == Without::Bound && r > at.delivered[slot] {
            return None;
        }
        let (above, upto) = at.lost[slot];
        if r > above && r <= upto {
            return None;
        }
        match self.stores[slot].entry(r)? {
            Entry::Event { key, id, delete } => {
                let counts = keys.contains(key) && at.route_at(*key, u) == slot;
                counts.then(|| (u, *key, Value::of((*id, !delete))))
            }
            Entry::Own => None,
        }
    }

    /// Whether a cache that stands at `u` has what the stores had there.
    fn has_all(&mut self, instance: usize, keys: &[usize], u: U, has: [Value; KEYS]) {
        for key in keys {
            let slot = self.instances[instance].route_at(*key, u);
            // After a compaction the present still tells of the past.
            let r = self.instances[instance].ledger.store_at(slot, u);
            if r < self.stores[slot].compacted {
                continue;
            }
            let truth = self.read_at(instance, *key, u);
            match truth.map(|truth| truth.cmp(&has[*key])) {
                Some(Ordering::Greater) => self.check(Err(Broken::Skipped)),
                // It has something that is not there.
                Some(Ordering::Less) => self.check(Err(Broken::Torn)),
                Some(Ordering::Equal) | None => {}
            }
        }
    }

    fn cut(&self, instance: usize, keys: &[usize], u: U) -> Option<[Value; KEYS]> {
        let mut has = [Value::default(); KEYS];
        for key in keys {
            has[*key] = self.read_at(instance, *key, u)?;
        }
        Some(has)
    }

    pub(crate) fn tell_cut(&mut self, u: U, keys: &[usize], has: [Value; KEYS]) {
        for key in keys {
            let told = self.told.fact(u, *key, has[*key]);
            self.check(told);
        }
    }

    /// Below which a range can be neither read nor watched; a watch of what moved begins above the
    /// change.
    fn floor(&self, instance: usize, keys: &[usize], above: U) -> U {
        let at = &self.instances[instance];
        let moved = keys.contains(&crate::world::MOVING) && at.ledger.moved_at > 0;
        let of_range = if moved { at.ledger.moved_at + above } else { 0 };
        let span = self.span(instance, keys);
        let stores = span.iter().map(|slot| at.ledger.floor[*slot]);
        stores.fold(at.ledger.compacted.max(of_range), U::max)
    }

    fn is_shut_out(&self, without: Without, instance: usize, keys: &[usize]) -> bool {
        let at = &self.instances[instance];
        self.span(instance, keys).iter().any(|slot| {
            let store = &self.stores[*slot];
            let stranger = store.cluster != at.clusters[*slot];
            let back = store.revision() < at.ledger.frontier(*slot);
            at.shut_out[*slot]
                || store.has_caught_up()
                || stranger && without != Without::ClusterSeen
                || back && without != Without::WentBackSeen
        })
    }

    /// Watches that would gain keys without an event start again.
    pub(crate) fn cancel_all(&mut self, instance: usize, key: usize) {
        let nonce = self.instances[instance].nonce;
        let open = |cache: &&mut Cache| cache.watching == Some(nonce) && cache.keys.contains(&key);
        for cache in self.caches.iter_mut().filter(open) {
            cache.watching = None;
            cache.has = None;
            self.seen.cancelled = true;
        }
    }

    /// Whether a change of routes is on its way, which holds lists at old routes.
    pub fn is_changing(&self, instance: usize) -> bool {
        self.instances[instance].change != Change::None
    }

    fn others_compacted(&self) -> bool {
        self.seen.compacted_by_others
    }

    /// Whether the hub of an instance can still deliver from where it is.
    pub fn hub_is_behind(&self, instance: usize) -> bool {
        self.instances[instance].delivered[DEFAULT] + 1 < self.stores[DEFAULT].compacted
    }
}
