//! What a watcher takes when its stream has room.

use keyloom_ledger::UnifiedRev;

use super::Hub;
use crate::{
    OrderView, StreamId, WatcherId,
    event::Entry,
    merge::{self, Batch},
    topic::Topic,
    watcher::Watcher,
};

/// What a watcher gets.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// The watcher is gone.
    Nothing,
    /// In order, revisions whole; perhaps none.
    Entries(Vec<Entry>),
    /// What it needs next is gone below this `u`.
    Compacted(UnifiedRev),
}

impl Hub {
    /// The next watcher of a stream to look at.
    pub(crate) fn next_ready(&mut self, stream: StreamId) -> Option<WatcherId> {
        let ready = self.streams.get_mut(&stream)?;
        while let Some(id) = ready.watchers.pop_front() {
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.is_ready = false;
                return Some(id);
            }
        }
        None
    }

    /// Takes what comes next for a watcher. Where there is more it is ready again.
    pub(crate) fn pull(&mut self, id: WatcherId, order: &dyn OrderView) -> Pulled {
        self.supply(id, order);
        let Some((watcher, topic)) = self.watcher(id) else {
            return Pulled::Nothing;
        };
        if let Some(floor) = watcher.compacted {
            return Pulled::Compacted(floor);
        }
        let batch = Batch {
            revisions: self.bounds.batch_revisions,
            bytes: self.bounds.batch_bytes,
        };
        let bound = self.bound(watcher, topic, order);
        let merged = merge::merge(topic, watcher, bound, batch);
        let upto = match merged.entries.last() {
            Some(last) if merged.more => last.unified(),
            _ => bound,
        };
        self.took(id, upto);
        if merged.more {
            self.wake(id);
        }
        Pulled::Entries(merged.entries)
    }

    fn took(&mut self, id: WatcherId, upto: UnifiedRev) {
        let most = self.bounds.chase_bytes;
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        watcher.cursor = watcher.cursor.max(upto);
        for chase in &mut watcher.chases {
            if chase.taken(watcher.cursor, most) {
                self.signals.resumed.push(chase.id);
            }
        }
    }

    fn watcher(&self, id: WatcherId) -> Option<(&Watcher, &Topic)> {
        let watcher = self.watchers.get(&id)?;
        Some((watcher, self.topics.get(&watcher.topic)?))
    }

    /// Up to where every store of the span has delivered everything.
    fn bound(&self, watcher: &Watcher, topic: &Topic, order: &dyn OrderView) -> UnifiedRev {
        let bound = topic.bound(watcher.cursor, |slot| {
            let delivered = self.histories.get(&slot)?.delivered;
            let delivered = match watcher.chase(slot) {
                None => delivered,
                Some(chase) if chase.met => delivered.max(chase.delivered),
                Some(chase) => chase.delivered,
            };
            Some(order.shown_up_to(slot, delivered))
        });
        bound.min(order.head())
    }

    /// Everything up to this was taken, whether or not something came of it.
    pub(crate) fn cursor(&self, id: WatcherId) -> Option<UnifiedRev> {
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        self.watchers.get(&id).map(|watcher| watcher.cursor)
    }

    /// Up to where a watcher has everything, if it lags behind nothing but the stores.
    pub(crate) fn synced(&mut self, id: WatcherId, order: &dyn OrderView) -> Option<UnifiedRev> {
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        self.supply(id, order);
        let (watcher, topic) = self.watcher(id)?;
        if watcher.compacted.is_some() || watcher.chases.iter().any(|chase| !chase.met) {
            return None;
        }
        let bound = self.bound(watcher, topic, order);
        if merge::next(topic, watcher).is_some_and(|next| next <= bound) {
            // A chase that met the hub a moment ago may have left it to nobody to tell.
            self.wake(id);
            return None;
        }
        // A watch from now on begins at the head, where a store may lag behind; one from the
        // future waits for it.
        if bound < watcher.cursor {
            return None;
        }
        self.took(id, bound);
        Some(bound)
    }
}
