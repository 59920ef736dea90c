//! Chases: begun where the history no longer reaches back, fed, met, ended.

use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};
use keyloom_planted::{Bug, planted};

use super::{Hub, Need, TakeError, take::first_above};
use crate::{ChaseId, Group, OrderView, WatcherId, chase::Chase, event::Entry, topic::Queue};

/// How an upstream watch of a chase goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Read on, above this revision.
    Continue(StoreRev),
    /// Read nothing until [`crate::Signals::resumed`] has the chase.
    Pause,
    /// It met the hub, or nobody needs it any more.
    Done,
}

impl Hub {
    /// Takes whole revisions of a chase's store, in order. The ledger covers them already.
    ///
    /// # Errors
    /// Where it does not.
    pub fn chase_take(
        &mut self,
        id: ChaseId,
        groups: Vec<Group>,
        order: &dyn OrderView,
    ) -> Result<Flow, TakeError> {
        let Some(watcher) = self.chases.get(&id).copied() else {
            return Ok(Flow::Done);
        };
        let mut taken = Ok(());
        for group in groups {
            taken = self.chase_one(id, watcher, group, order);
            if taken.is_err() {
                break;
            }
        }
        self.meet(watcher);
        self.wake(watcher);
        taken.map(|()| self.chase_flow(id))
    }

    fn chase_one(
        &mut self,
        id: ChaseId,
        watcher: WatcherId,
        group: Group,
        order: &dyn OrderView,
    ) -> Result<(), TakeError> {
        let Some((chase, topic)) = self.chase_mut(id, watcher) else {
            return Ok(());
        };
        let (slot, revision) = (chase.slot, group.revision);
        if revision <= chase.delivered {
            return Err(TakeError::Repeated(revision));
        }
        let range = self.topics.get(&topic).map(|topic| topic.range.clone());
        let placed = self.place(slot, group, order)?;
        let entry = placed
            .zip(range)
            .and_then(|(placed, range)| Entry::pick(&placed, |key| range.contains(key)));
        if let Some((chase, _)) = self.chase_mut(id, watcher) {
            chase.delivered = revision;
            entry.into_iter().for_each(|entry| chase.push(entry));
        }
        Ok(())
    }

    fn chase_mut(
        &mut self,
        id: ChaseId,
        watcher: WatcherId,
    ) -> Option<(&mut Chase, crate::TopicId)> {
        let watcher = self.watchers.get_mut(&watcher)?;
        let topic = watcher.topic;
        let chase = watcher.chases.iter_mut().find(|chase| chase.id == id)?;
        Some((chase, topic))
    }

    /// Ends upstream what has met the hub's history.
    fn meet(&mut self, id: WatcherId) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        let topic = self.topics.get(&watcher.topic);
        for chase in watcher.chases.iter_mut().filter(|chase| !chase.met) {
            let history = self.histories.get(&chase.slot);
            let kept = history.map(|history| history.kept);
            let queue = topic.and_then(|topic| topic.queue(chase.slot));
            let from = kept.min(queue.map(|queue| queue.from));
            let plain = queue.filter(|_| watcher.previous).map(|queue| queue.plain);
            let from = from.map(|from| from.max(plain.unwrap_or_default()));
            if from.is_some_and(|from| from <= chase.delivered) {
                chase.met = true;
                self.chases.remove(&chase.id);
            }
        }
    }

    /// By the store's word, everything of the chase's range up to `upto` was taken; the ledger
    /// covers it.
    pub fn chase_upto(&mut self, id: ChaseId, upto: StoreRev) -> Flow {
        let Some(watcher) = self.chases.get(&id).copied() else {
            return Flow::Done;
        };
        if let Some((chase, _)) = self.chase_mut(id, watcher) {
            chase.delivered = chase.delivered.max(upto);
        }
        self.meet(watcher);
        self.wake(watcher);
        self.chase_flow(id)
    }

    /// How a chase goes on.
    pub fn chase_flow(&mut self, id: ChaseId) -> Flow {
        let most = self.bounds.chase_bytes;
        let watcher = self.chases.get(&id).copied();
        match watcher.and_then(|watcher| self.chase_mut(id, watcher)) {
            None => Flow::Done,
            Some((chase, _)) => {
                if chase.is_full(most) {
                    Flow::Pause
                } else {
                    Flow::Continue(chase.delivered)
                }
            }
        }
    }

    /// The store no longer has what a chase needs: its history begins at `at`, which the ledger
    /// covers.
    pub fn chase_compacted(&mut self, id: ChaseId, at: StoreRev, order: &dyn OrderView) {
        let Some(watcher) = self.chases.get(&id).copied() else {
            return;
        };
        let Some(slot) = self.chase_mut(id, watcher).map(|(chase, _)| chase.slot) else {
            return;
        };
        let last_lost = StoreRev::new(at.get() - 1);
        let floor = first_above(slot, last_lost, order);
        self.cancel_below(watcher, slot, floor, order);
        // Where the watcher misses nothing, only hidden revisions were lost: on behind them.
        if let Some((chase, _)) = self.chase_mut(id, watcher) {
            chase.delivered = chase.delivered.max(last_lost);
        }
        self.meet(watcher);
        self.wake(watcher);
    }

    /// Cancels a watcher that needs something of a store below `floor`. Hidden revisions are
    /// nothing that it needs.
    pub(super) fn cancel_below(
        &mut self,
        id: WatcherId,
        slot: StoreSlot,
        floor: UnifiedRev,
        order: &dyn OrderView,
    ) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        let topic = self.topics.get(&watcher.topic);
        let Some(needs) = topic.and_then(|topic| topic.need(slot, watcher.cursor)) else {
            return;
        };
        let chased = watcher.chase(slot).map(|chase| chase.delivered);
        let has = order.store_at(slot, needs);
        let has = chased.map_or(has, |chased| chased.max(has));
        if first_above(slot, has, order) < floor && !planted(Bug::CompactionLosesEvents) {
            // Starting at the floor must be worth it.
            let next = UnifiedRev::new(watcher.cursor.get().saturating_add(1));
            watcher.compacted = Some(floor.max(next));
            self.wake(id);
        }
    }

    /// Sees to it that what the watcher needs next comes from somewhere.
    pub(super) fn supply(&mut self, id: WatcherId, order: &dyn OrderView) {
        self.meet(id);
        let Some(watcher) = self.watchers.get(&id) else {
            return;
        };
        let Some(topic) = self.topics.get(&watcher.topic) else {
            return;
        };
        let cursor = watcher.cursor;
        let needs = topic.stores().filter_map(|slot| {
            let above = topic.need(slot, cursor)?;
            Some((slot, order.store_at(slot, above)))
        });
        for (slot, has) in needs.collect::<Vec<_>>() {
            self.supply_from(id, slot, has);
        }
        let is_chasing = self.watchers.get(&id).map(|w| !w.chases.is_empty());
        if is_chasing == Some(true) {
            self.chasing.insert(id);
        } else {
            self.chasing.remove(&id);
        }
    }

    /// `has` is what the watcher took from the store, chases left aside.
    fn supply_from(&mut self, id: WatcherId, slot: StoreSlot, has: StoreRev) {
        let (Some(watcher), Some(history)) =
            (self.watchers.get_mut(&id), self.histories.get(&slot))
        else {
            return;
        };
        let chase = watcher.chases.iter().position(|chase| chase.slot == slot);
        let chase = chase.and_then(|at| Some((at, watcher.chases.get(at)?)));
        let needs_after = match chase {
            Some((_, chase)) if !chase.met => return,
            Some((_, chase)) => chase.delivered.max(has),
            None => has,
        };
        let is_over = chase.is_some_and(|(_, chase)| chase.delivered <= has);
        // What the topic has stays whole while the history rolls on over other keys.
        let topic = self.topics.get_mut(&watcher.topic);
        let queue = topic.as_ref().and_then(|topic| topic.queue(slot));
        // What came without what it replaced is not here for whoever wants that.
        let is_plain = |queue: &Queue| watcher.previous && needs_after < queue.plain;
        let is_plain = queue.is_some_and(is_plain);
        let is_here = !is_plain && queue.is_some_and(|queue| queue.from <= needs_after);
        let is_lost = is_plain || (!is_here && needs_after < history.kept);
        if let Some((at, _)) = chase.filter(|_| is_over || is_lost) {
            watcher.chases.remove(at);
        }
        if is_lost {
            self.begin_chase(id, slot, has);
        } else if let Some(topic) = topic.filter(|_| !is_here) {
            topic.reach(slot, needs_after, history);
            // Some of it may have to wait for another store.
            self.held.insert(watcher.topic);
            if watcher.previous && topic.queue(slot).is_some_and(|it| needs_after < it.plain) {
                self.supply_from(id, slot, has);
            }
        }
    }

    fn begin_chase(&mut self, id: WatcherId, slot: StoreSlot, after: StoreRev) {
        let chase = ChaseId(self.next_id());
        if let Some(watcher) = self.watchers.get_mut(&id)
            && let Some(topic) = self.topics.get(&watcher.topic)
        {
            let with_previous = watcher.previous;
            watcher.chases.push(Chase::after(chase, slot, after));
            self.chases.insert(chase, id);
            self.signals.needs.push(Need {
                chase,
                slot,
                after,
                range: topic.range.clone(),
                with_previous,
            });
        }
    }

    /// Nobody needs the chase any more.
    pub(super) fn end_chase(&mut self, id: ChaseId) {
        if self.chases.remove(&id).is_some() {
            self.signals.resumed.push(id);
        }
    }
}
