//! Whether a store's watch asks for what its events replace. That costs a store a read for each
//! event, and memory here, so it is asked for only while a watcher wants it.
//!
//! Nobody is told an event without what it replaced who wants that: up to the last revision that
//! came without it, such a watcher chases ([`Hub::supply`]), whatever the store's watch asks for.

use keyloom_ledger::StoreSlot;

use super::Hub;
use crate::{Feed, TopicId};

impl Hub {
    /// The feed by which a store's own watch goes on. It asks for what events replace where a
    /// watcher wants that, or where it is to be had all the same.
    pub fn open_feed(&mut self, slot: StoreSlot, at_any_rate: bool) -> Option<Feed> {
        let with_previous = at_any_rate || self.wants_previous(slot);
        let history = self.histories.get_mut(&slot)?;
        history.asks_previous = with_previous;
        Some(Feed::after(history.delivered).with_previous(with_previous))
    }

    /// Whether a watcher of a store's keys wants what events replace.
    #[must_use]
    pub fn wants_previous(&self, slot: StoreSlot) -> bool {
        let mut topics = self.topics.values();
        topics.any(|topic| topic.want_previous > 0 && topic.queue(slot).is_some())
    }

    /// Has the watches of a topic's stores opened anew where they do not ask for what is wanted.
    pub(super) fn ask_previous(&mut self, topic: TopicId) {
        let Some(topic) = self.topics.get(&topic) else {
            return;
        };
        if topic.want_previous == 0 {
            return;
        }
        for slot in topic.stores() {
            let history = self.histories.get(&slot);
            if history.is_some_and(|history| !history.asks_previous) {
                self.signals.reopen.insert(slot);
            }
        }
    }
}
