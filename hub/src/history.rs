//! What the hub keeps of one store: its last revisions, up to a bound.
//!
//! Invariant: every revision above `kept` and up to `delivered` that has events for clients is in
//! `groups`, in order. At the bound the oldest go and `kept` rises: whoever still needs them chases.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use keyloom_ledger::StoreRev;

use crate::{
    bounds::Bounds,
    event::{Entry, PlacedGroup},
};

#[derive(Debug)]
pub(crate) struct History {
    /// The frontier: the last revision that was delivered, strays and hidden ones included.
    pub(crate) delivered: StoreRev,
    /// Everything above is here.
    pub(crate) kept: StoreRev,
    /// Whether the store's watch asks for what its events replace.
    pub(crate) asks_previous: bool,
    groups: VecDeque<Arc<PlacedGroup>>,
    bytes: usize,
    /// How many entries of the topics name a group.
    entries: Arc<AtomicUsize>,
}

impl History {
    pub(crate) fn after(delivered: StoreRev) -> Self {
        Self {
            delivered,
            kept: delivered,
            asks_previous: true,
            groups: VecDeque::new(),
            bytes: 0,
            entries: Arc::default(),
        }
    }

    pub(crate) fn push(&mut self, group: Arc<PlacedGroup>) {
        self.bytes += group.bytes;
        self.groups.push_back(group);
    }

    /// Counts the entries of a topic.
    pub(crate) fn entries(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.entries)
    }

    /// How many revisions are kept, and the bytes that they take, the topics' part included.
    pub(crate) fn size(&self) -> (usize, usize) {
        let entries = self.entries.load(Ordering::Relaxed);
        (self.groups.len(), self.bytes + entries * Entry::SIZE)
    }

    /// Takes the oldest group out where there are more than the bounds allow.
    pub(crate) fn overflow(&mut self, bounds: &Bounds) -> Option<Arc<PlacedGroup>> {
        let (groups, bytes) = self.size();
        if bytes <= bounds.history_bytes && groups <= bounds.history_groups {
            return None;
        }
        let oldest = self.groups.pop_front()?;
        self.bytes -= oldest.bytes;
        self.kept = oldest.revision;
        Some(oldest)
    }

    /// The groups above `after` and up to `upto`.
    pub(crate) fn between(
        &self,
        after: StoreRev,
        upto: StoreRev,
    ) -> impl DoubleEndedIterator<Item = &Arc<PlacedGroup>> {
        let from = self.groups.partition_point(|group| group.revision <= after);
        let to = self.groups.partition_point(|group| group.revision <= upto);
        self.groups.range(from..to.max(from))
    }
}
