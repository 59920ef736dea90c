//! Other routes: from one place of the order on, keys live elsewhere.

use std::collections::BTreeSet;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};
use keyloom_topology::Affected;

use super::Hub;
use crate::{Group, OrderView, Routes, TopicId, WatcherId, history::History, topic::Queue};

/// How many late writes are kept for whoever asks.
const MOST_LATE: usize = 64;

/// How many eras may wait for watchers that read slowly.
const MOST_ERAS: usize = 64;

/// While somebody reads slowly, how many deliveries pass between two looks.
const LOOK_EVERY: u32 = 64;

/// A change of routes.
#[derive(Debug)]
pub struct Reroute {
    /// The new routes hold above it; nothing above it was given out yet.
    pub at: UnifiedRev,
    pub routes: Routes,
    /// At least every key that lives elsewhere from then on.
    pub affected: Affected,
    /// Ranges in which keys come to be seen that were there before, without an event.
    pub gained: Vec<KeyRange>,
}

/// A write that came to a store after its key had moved away from there: no client can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    pub slot: StoreSlot,
    pub revision: StoreRev,
    pub key: Bytes,
}

impl Hub {
    /// Follows another store from now on, which has delivered everything up to `frontier`; one
    /// that is followed still goes on from where it is.
    pub fn add_store(&mut self, slot: StoreSlot, frontier: StoreRev) {
        let history = self.histories.entry(slot);
        history.or_insert_with(|| History::after(frontier));
    }

    /// The store has delivered everything that anybody will want of it. Watchers that still need
    /// what is not here any more are cancelled.
    pub fn remove_store(&mut self, slot: StoreSlot, order: &dyn OrderView) {
        self.histories.remove(&slot);
        let ids: Vec<_> = self.watchers.keys().copied().collect();
        for id in ids {
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            let topic = self.topics.get(&watcher.topic);
            let need = topic.and_then(|topic| {
                let above = topic.need(slot, watcher.cursor)?;
                Some((topic.queue(slot)?.from, order.store_at(slot, above)))
            });
            let misses = need.is_some_and(|(from, has)| has < from);
            if misses || watcher.chase(slot).is_some() {
                self.cancel(id, order.head());
            }
        }
        self.wake_restless();
    }

    /// Other routes that lead every key where it was.
    pub fn replace_routes(&mut self, routes: Routes) {
        self.eras.replace(routes);
    }

    /// Changes the routes.
    pub fn reroute(&mut self, change: Reroute, order: &dyn OrderView) {
        let Reroute {
            at,
            routes,
            affected,
            gained,
        } = change;
        let touched: Vec<_> = self
            .topics
            .iter()
            .filter(|(_, topic)| affected.touches(&topic.range))
            .map(|(id, _)| *id)
            .collect();
        self.eras.change(at, routes, affected);
        for id in touched {
            self.turn(id, at);
            let range = self.topics.get(&id).map(|topic| topic.range.clone());
            let gains = |range: &KeyRange| {
                gained
                    .iter()
                    .any(|gained| gained.intersection(range).is_some())
            };
            if range.is_some_and(|range| gains(&range)) {
                self.cancel_all(id, at);
            }
        }
        self.wake_restless();
        self.pass(order);
        while let Some(oldest) = self.eras.too_old(MOST_ERAS) {
            self.end_era(oldest);
        }
    }

    /// Whoever still needs an era that is long over starts again.
    fn end_era(&mut self, until: UnifiedRev) {
        let turning: Vec<_> = self.turning.iter().copied().collect();
        for id in turning {
            let Some(topic) = self.topics.get_mut(&id) else {
                continue;
            };
            if !topic.spans_until(until) {
                continue;
            }
            topic.passed(until);
            for watcher in topic.watchers.clone() {
                if self.cursor(watcher).is_some_and(|cursor| cursor < until) {
                    self.cancel(watcher, until);
                }
            }
        }
        self.eras.keep(|era| era > until);
    }

    fn turn(&mut self, id: TopicId, at: UnifiedRev) {
        let Some(topic) = self.topics.get_mut(&id) else {
            return;
        };
        let next = self.eras.span(&topic.range);
        let histories = &self.histories;
        topic.turn(at, next, |slot| {
            Some(Queue::behind(slot, histories.get(&slot)?))
        });
        self.turning.insert(id);
        self.ask_previous(id);
    }

    /// Every watcher of a topic starts again at `floor`.
    fn cancel_all(&mut self, id: TopicId, floor: UnifiedRev) {
        let watchers = self.topics.get(&id).map(|topic| topic.watchers.clone());
        for id in watchers.into_iter().flatten() {
            self.cancel(id, floor);
        }
    }

    fn cancel(&mut self, id: WatcherId, floor: UnifiedRev) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            let next = UnifiedRev::new(watcher.cursor.get().saturating_add(1));
            watcher.compacted = Some(floor.max(next));
            self.wake(id);
        }
    }

    /// Looks now and then whether an era is passed.
    pub(super) fn look_again(&mut self, order: &dyn OrderView) {
        if self.eras.is_one() {
            return;
        }
        if self.look_in > 0 {
            self.look_in -= 1;
            return;
        }
        self.pass(order);
        self.look_in = LOOK_EVERY;
    }

    /// Lets go of the eras that every watcher has passed.
    fn pass(&mut self, order: &dyn OrderView) {
        if self.eras.is_one() {
            return;
        }
        let turning: Vec<_> = self.turning.iter().copied().collect();
        for id in turning {
            let least = self.least_cursor(id, order);
            let Some(topic) = self.topics.get_mut(&id) else {
                self.turning.remove(&id);
                continue;
            };
            topic.passed(least);
            if !topic.is_turning() {
                self.turning.remove(&id);
            }
        }
        let (topics, turning) = (&self.topics, &self.turning);
        let still = |until| {
            let mut topics = turning.iter().filter_map(|id| topics.get(id));
            topics.any(|topic| topic.spans_until(until))
        };
        self.eras.keep(still);
        self.look_in = 0;
    }

    /// Up to where every watcher of a topic has everything. One to which nothing happens is moved
    /// on.
    fn least_cursor(&mut self, id: TopicId, order: &dyn OrderView) -> UnifiedRev {
        let watchers = self.topics.get(&id).map(|topic| topic.watchers.clone());
        let mut least = crate::eras::NOW;
        for id in watchers.into_iter().flatten() {
            let watcher = self.watchers.get(&id);
            if watcher.is_none_or(|watcher| watcher.compacted.is_some()) {
                continue;
            }
            let synced = self.synced(id, order);
            let cursor = synced.or_else(|| self.cursor(id)).unwrap_or_default();
            least = least.min(cursor);
        }
        // The span of now is never passed.
        least.min(order.head())
    }

    /// Keeps the writes that came after their keys had moved.
    pub(super) fn look_for_late(&mut self, slot: StoreSlot, group: &Group, order: &dyn OrderView) {
        if !self.eras.has_changed() {
            return;
        }
        let Some(at) = order.unified(slot, group.revision) else {
            return;
        };
        let puts = group.events.iter().filter(|event| !event.is_delete);
        for event in puts {
            if self.late.len() < MOST_LATE && self.eras.has_left(event.key(), slot, at) {
                self.late.push(Late {
                    slot,
                    revision: group.revision,
                    key: Bytes::copy_from_slice(event.key()),
                });
            }
        }
    }

    /// The late writes since the last time.
    pub fn take_late(&mut self) -> Vec<Late> {
        std::mem::take(&mut self.late)
    }

    /// The stores that somebody can still need.
    #[must_use]
    pub fn stores(&self) -> BTreeSet<StoreSlot> {
        self.histories.keys().copied().collect()
    }
}
