//! What the stores' watches deliver: into the histories, to the topics, to those that wait.

use std::{collections::BTreeSet, sync::Arc};

use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};
use keyloom_planted::{Bug, planted};

use super::{Hub, Placed};
use crate::{Group, OrderView, TopicId, event::PlacedGroup, history::History};

/// Why delivered revisions cannot be taken: the caller is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    #[error("no such store: {0}")]
    Store(StoreSlot),
    #[error("revision {0} is not in the ledger")]
    NotOrdered(StoreRev),
    #[error("revision {0} was delivered before")]
    Repeated(StoreRev),
}

impl Hub {
    /// Takes whole revisions of a store, in order. The ledger covers them already.
    ///
    /// # Errors
    /// Where it does not, or where they were delivered before. What came before them is taken.
    pub fn take(
        &mut self,
        slot: StoreSlot,
        groups: Vec<Group>,
        order: &dyn OrderView,
    ) -> Result<(), TakeError> {
        let mut touched = BTreeSet::new();
        let mut taken = Ok(());
        for group in groups {
            taken = self.take_one(slot, group, order, &mut touched);
            if taken.is_err() {
                break;
            }
        }
        self.trim(slot);
        self.release(touched, order);
        self.wake_restless();
        self.look_again(order);
        taken
    }

    fn take_one(
        &mut self,
        slot: StoreSlot,
        group: Group,
        order: &dyn OrderView,
        touched: &mut BTreeSet<TopicId>,
    ) -> Result<(), TakeError> {
        let revision = group.revision;
        let history = self.histories.get(&slot).ok_or(TakeError::Store(slot))?;
        if revision <= history.delivered {
            return Err(TakeError::Repeated(revision));
        }
        self.look_for_late(slot, &group, order);
        self.notice(slot, &group);
        let placed = self.place(slot, group, order)?;
        if let Some(placed) = &placed {
            let topics = self.topics_of(placed);
            for id in &topics {
                if let Some(topic) = self.topics.get_mut(id) {
                    topic.push(placed);
                }
            }
            touched.extend(topics);
        }
        if let Some(history) = self.histories.get_mut(&slot) {
            history.delivered = revision;
            placed.into_iter().for_each(|placed| history.push(placed));
        }
        Ok(())
    }

    /// Gives a group its place, without the keys that do not live on the store.
    pub(super) fn place(
        &self,
        slot: StoreSlot,
        mut group: Group,
        order: &dyn OrderView,
    ) -> Result<Placed, TakeError> {
        let revision = group.revision;
        let routes = match self.eras.is_one() {
            true => self.eras.now(),
            // What has no place is Keyloom's own.
            false => match order.unified(slot, revision) {
                Some(unified) => self.eras.at(unified),
                None => self.eras.now(),
            },
        };
        group
            .events
            .retain(|event| routes.route(event.key()) == Some(slot));
        if group.events.is_empty() {
            return Ok(None);
        }
        let unified = order
            .unified(slot, revision)
            .ok_or(TakeError::NotOrdered(revision))?;
        let placed = PlacedGroup::new(slot, unified, group);
        if planted(Bug::RevisionTorn) {
            placed.tear(order);
        }
        Ok(Some(Arc::new(placed)))
    }

    /// The topics that hold a key of the group, each once.
    fn topics_of(&self, group: &PlacedGroup) -> Vec<TopicId> {
        let mut topics = Vec::new();
        for event in &group.events {
            self.index.find(event.raw.key(), &mut topics);
        }
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Lets the oldest groups go where there are too many.
    fn trim(&mut self, slot: StoreSlot) {
        while let Some(history) = self.histories.get_mut(&slot)
            && let Some(dropped) = history.overflow(&self.bounds)
        {
            for id in self.topics_of(&dropped) {
                let topic = self.topics.get_mut(&id);
                if topic.is_some_and(|topic| topic.forget(slot, dropped.revision)) {
                    self.wake_all(id);
                }
            }
        }
    }

    fn wake_all(&mut self, topic: TopicId) {
        let watchers = self.topics.get(&topic).map(|topic| topic.watchers.clone());
        for watcher in watchers.into_iter().flatten() {
            self.wake(watcher);
        }
    }

    /// Tells the watchers of what their bound lets through now.
    fn release(&mut self, mut topics: BTreeSet<TopicId>, order: &dyn OrderView) {
        topics.append(&mut self.held);
        let mut frontiers = Frontiers::default();
        for id in topics {
            let Some(topic) = self.topics.get_mut(&id) else {
                continue;
            };
            let histories = &self.histories;
            let bound = topic.bound(topic.told(), |slot| {
                let delivered = histories.get(&slot)?.delivered;
                Some(frontiers.of(slot, delivered, order))
            });
            let bound = bound.min(frontiers.head(order));
            let news = topic.tell(bound);
            if topic.is_held(bound) {
                self.held.insert(id);
            }
            if news {
                self.wake_all(id);
            }
        }
    }

    /// The place where a store's own watch wants to go on is compacted: its history begins at `at`,
    /// which the ledger covers. Cancels the watchers that miss something, and gives the floor to
    /// raise; `None` where nothing is missed. The watch goes on above [`Hub::delivered`].
    pub fn compacted(
        &mut self,
        slot: StoreSlot,
        at: StoreRev,
        order: &dyn OrderView,
    ) -> Option<UnifiedRev> {
        let last_lost = StoreRev::new(at.get() - 1);
        let history = self.histories.get_mut(&slot)?;
        if last_lost <= history.delivered {
            return None;
        }
        let floor = first_above(slot, last_lost, order);
        if first_above(slot, history.delivered, order) >= floor {
            // Keyloom's own writes alone.
            history.delivered = last_lost;
            let all = self.topics.keys().copied().collect();
            self.release(all, order);
            self.wake_restless();
            return None;
        }
        self.begin_anew(slot, last_lost, floor, order);
        Some(floor)
    }

    /// A store that was away while the order was lost is back: what it wrote before is above a floor
    /// now, and whoever was shown it must not be shown it again. Cancels the watchers that stand
    /// below, and says whether the store's watch has to go on elsewhere: above [`Hub::delivered`].
    pub fn returned(&mut self, slot: StoreSlot, order: &dyn OrderView) -> bool {
        let floor = order.floor(slot);
        let Some(history) = self.histories.get(&slot) else {
            return false;
        };
        if first_above(slot, history.delivered, order) >= floor {
            return false;
        }
        self.begin_anew(slot, order.store_at(slot, floor), floor, order);
        true
    }

    /// A store's history begins above `last_lost`, and nobody goes on from below `floor`.
    fn begin_anew(
        &mut self,
        slot: StoreSlot,
        last_lost: StoreRev,
        floor: UnifiedRev,
        order: &dyn OrderView,
    ) {
        self.notice_loss(slot);
        let mut begun = History::after(last_lost);
        let before = self.histories.get(&slot);
        begun.asks_previous = before.is_none_or(|history| history.asks_previous);
        self.histories.insert(slot, begun);
        for topic in self.topics.values_mut() {
            topic.forget(slot, last_lost);
        }
        let ids: Vec<_> = self.watchers.keys().copied().collect();
        for id in ids {
            self.cancel_below(id, slot, floor, order);
        }
        let all = self.topics.keys().copied().collect();
        self.release(all, order);
        self.wake_restless();
    }
}

/// The `u` of the first revision of a store above `r` that a client can see, or whatever comes next:
/// of two that are compared, the larger `r` must be asked for first, because the head moves.
pub(super) fn first_above(slot: StoreSlot, r: StoreRev, order: &dyn OrderView) -> UnifiedRev {
    UnifiedRev::new(order.below_next(slot, r).get().saturating_add(1))
}

/// What was asked of the ledger in one go.
#[derive(Default)]
struct Frontiers {
    head: Option<UnifiedRev>,
    stores: Vec<(StoreSlot, UnifiedRev)>,
}

impl Frontiers {
    fn head(&mut self, order: &dyn OrderView) -> UnifiedRev {
        *self.head.get_or_insert_with(|| order.head())
    }

    fn of(&mut self, slot: StoreSlot, delivered: StoreRev, order: &dyn OrderView) -> UnifiedRev {
        if let Some((_, known)) = self.stores.iter().find(|(other, _)| *other == slot) {
            return *known;
        }
        let shown = order.shown_up_to(slot, delivered);
        self.stores.push((slot, shown));
        shown
    }
}
