//! One distinct range, shared by all its watchers: what the hub's history holds of it.
//!
//! Invariant: a store's queue holds everything of the range above `from` that the store's history
//! holds, in order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use crate::{
    WatcherId,
    eras::{NOW, Span},
    event::{Entry, PlacedGroup},
    history::History,
};

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) range: KeyRange,
    /// The range's stores, by era; the last one has not ended.
    spans: Vec<Span>,
    /// One for each store of the spans.
    pub(crate) queues: Vec<Queue>,
    pub(crate) watchers: BTreeSet<WatcherId>,
    /// How many of them want what events replaced.
    pub(crate) want_previous: usize,
    /// The watchers were told of everything up to here.
    told: UnifiedRev,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) slot: StoreSlot,
    /// Everything above is here.
    pub(crate) from: StoreRev,
    /// The last revision here that came without what its events replaced: whoever wants that must
    /// have everything up to here from elsewhere.
    pub(crate) plain: StoreRev,
    entries: VecDeque<Entry>,
    /// How many entries of the store all queues have: the history's to bound.
    all: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue that begins where the store stands.
    pub(crate) fn behind(slot: StoreSlot, history: &History) -> Self {
        Self {
            slot,
            from: history.delivered,
            plain: StoreRev::default(),
            entries: VecDeque::new(),
            all: history.entries(),
        }
    }

    pub(crate) fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    fn push_back(&mut self, entry: Entry) {
        self.note(&entry);
        self.entries.push_back(entry);
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&mut self, entry: &Entry) {
        if !entry.group.with_previous {
            self.plain = self.plain.max(entry.revision());
        }
    }

    fn push_front(&mut self, entry: Entry) {
        self.note(&entry);
        self.entries.push_front(entry);
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// The oldest one, if it is not above `upto`.
    fn pop(&mut self, upto: StoreRev) -> Option<Entry> {
        let oldest = self
            .entries
            .pop_front_if(|entry| entry.revision() <= upto)?;
        self.all.fetch_sub(1, Ordering::Relaxed);
        Some(oldest)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.all.fetch_sub(self.entries.len(), Ordering::Relaxed);
    }
}

impl Topic {
    /// A topic that begins where each store stands.
    pub(crate) fn new(
        range: KeyRange,
        span: Span,
        queue: impl Fn(StoreSlot) -> Option<Queue>,
    ) -> Self {
        Self {
            range,
            queues: span.slots.iter().filter_map(|slot| queue(*slot)).collect(),
            spans: vec![span],
            watchers: BTreeSet::new(),
            want_previous: 0,
            told: UnifiedRev::default(),
        }
    }

    /// Every store that a watcher can need.
    pub(crate) fn stores(&self) -> impl Iterator<Item = StoreSlot> {
        self.queues.iter().map(|queue| queue.slot)
    }

    /// Above `until` other stores have the range; `queue` begins where a store stands.
    pub(crate) fn turn(
        &mut self,
        until: UnifiedRev,
        next: Span,
        queue: impl Fn(StoreSlot) -> Option<Queue>,
    ) {
        if let Some(last) = self.spans.last_mut() {
            last.until = until;
        }
        for slot in &next.slots {
            if self.queue(*slot).is_none()
                && let Some(queue) = queue(*slot)
            {
                self.queues.push(queue);
            }
        }
        self.spans.push(next);
    }

    /// Whether a span of an earlier era is left.
    pub(crate) fn is_turning(&self) -> bool {
        self.spans.len() > 1
    }

    /// Whether an era is left that ends at `until`.
    pub(crate) fn spans_until(&self, until: UnifiedRev) -> bool {
        self.spans.iter().any(|span| span.until == until)
    }

    /// Every watcher has everything up to `cursor`: what came before is let go.
    pub(crate) fn passed(&mut self, cursor: UnifiedRev) {
        self.spans.retain(|span| span.until > cursor);
        let spans = &self.spans;
        self.queues
            .retain(|queue| spans.iter().any(|span| span.slots.contains(&queue.slot)));
    }

    /// The `u` above which a watcher that has everything up to `cursor` needs a store; `None`
    /// where it needs nothing of it any more.
    pub(crate) fn need(&self, slot: StoreSlot, cursor: UnifiedRev) -> Option<UnifiedRev> {
        let mut since = UnifiedRev::default();
        for span in &self.spans {
            if span.until > cursor && span.slots.contains(&slot) {
                return Some(cursor.max(since));
            }
            since = span.until;
        }
        None
    }

    /// Up to where every store has delivered everything for a watcher that has everything up to
    /// `cursor`; `delivered` says it of one store, and nothing of one that holds nothing back.
    pub(crate) fn bound(
        &self,
        cursor: UnifiedRev,
        mut delivered: impl FnMut(StoreSlot) -> Option<UnifiedRev>,
    ) -> UnifiedRev {
        let mut since = UnifiedRev::default();
        for span in &self.spans {
            if span.until > cursor {
                let least = span.slots.iter().filter_map(|slot| delivered(*slot)).min();
                if let Some(least) = least.filter(|least| *least < span.until) {
                    return least.max(since);
                }
            }
            since = span.until;
        }
        NOW
    }

    /// Up to where the watchers were told.
    pub(crate) fn told(&self) -> UnifiedRev {
        self.told
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
            queue.push_back(entry);
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
        while let Some(entry) = queue.pop(upto) {
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
                queue.push_front(entry);
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
