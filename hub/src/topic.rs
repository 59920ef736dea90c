//! One distinct range, shared by all its watchers: what the hub's history holds of it.
//!
//! Invariant: a store's queue holds everything of the range above `from` that the store's history
//! holds, in order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use crate::{
    WatcherId,
    event::{Entry, PlacedGroup},
    history::History,
};

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) range: KeyRange,
    /// One for each store of the range's span, by slot.
    pub(crate) queues: Vec<Queue>,
    pub(crate) watchers: BTreeSet<WatcherId>,
    /// The watchers were told of everything up to here.
    told: UnifiedRev,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) slot: StoreSlot,
    /// Everything above is here.
    pub(crate) from: StoreRev,
    pub(crate) entries: VecDeque<Entry>,
}

impl Topic {
    /// A topic that begins where each store stands.
    pub(crate) fn new(
        range: KeyRange,
        span: impl IntoIterator<Item = (StoreSlot, StoreRev)>,
    ) -> Self {
        let queue = |(slot, from)| Queue {
            slot,
            from,
            entries: VecDeque::new(),
        };
        Self {
            range,
            queues: span.into_iter().map(queue).collect(),
            watchers: BTreeSet::new(),
            told: UnifiedRev::default(),
        }
    }

    pub(crate) fn span(&self) -> impl Iterator<Item = StoreSlot> {
        self.queues.iter().map(|queue| queue.slot)
    }

    pub(crate) fn queue(&self, slot: StoreSlot) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.slot == slot)
    }

    pub(crate) fn queue_mut(&mut self, slot: StoreSlot) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.slot == slot)
    }

    /// Adds what a new group holds of the range.
    pub(crate) fn push(&mut self, group: &Arc<PlacedGroup>) {
        let Some(entry) = Entry::pick(group, |key| self.range.contains(key)) else {
            return;
        };
        if let Some(queue) = self.queue_mut(group.slot) {
            queue.entries.push_back(entry);
        }
    }

    /// Lets go of what the store's history no longer holds. Says whether the watchers were not
    /// told of it yet: then they must be, to find it elsewhere.
    pub(crate) fn forget(&mut self, slot: StoreSlot, upto: StoreRev) -> bool {
        let told = self.told;
        let Some(queue) = self.queue_mut(slot) else {
            return false;
        };
        let mut untold = false;
        while let Some(entry) = queue.entries.pop_front_if(|entry| entry.revision() <= upto) {
            untold |= entry.unified() > told;
        }
        queue.from = queue.from.max(upto);
        untold
    }

    /// Reaches back to `after`, which the history must still cover.
    pub(crate) fn reach(&mut self, slot: StoreSlot, after: StoreRev, history: &History) {
        let range = &self.range;
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.slot == slot) else {
            return;
        };
        for group in history.between(after, queue.from).rev() {
            if let Some(entry) = Entry::pick(group, |key| range.contains(key)) {
                queue.entries.push_front(entry);
            }
        }
        queue.from = queue.from.min(after);
    }

    /// Whether there is something up to `bound` that the watchers were not told of. They are now.
    pub(crate) fn tell(&mut self, bound: UnifiedRev) -> bool {
        let news = self.queues.iter().any(|queue| {
            let at = queue
                .entries
                .partition_point(|entry| entry.unified() <= self.told);
            let next = queue.entries.get(at);
            next.is_some_and(|entry| entry.unified() <= bound)
        });
        self.told = self.told.max(bound);
        news
    }

    /// Whether there is something that `bound` holds back.
    pub(crate) fn is_held(&self, bound: UnifiedRev) -> bool {
        let last = self.queues.iter().filter_map(|queue| queue.entries.back());
        last.into_iter().any(|entry| entry.unified() > bound)
    }
}
