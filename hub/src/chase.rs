//! A watcher that needs older events than the hub keeps, fed from the store's own history.
//!
//! ```text
//!   begun ── groups ──► behind ── delivered >= the history's `kept` ──► met ── all taken ──► gone
//!                         │ queue full: paused until the watcher has taken half of it
//!                         └ compacted: the watcher is cancelled
//! ```
//!
//! A chase reads the watcher's range alone where the store can be trusted to tell its progress: a
//! watch of a part says nothing else of where it stands while nothing happens in that part. Of
//! other stores it reads everything, as the hub does. Once it met the history it is
//! over upstream; what is queued comes before the hub's, whose revisions up to `delivered` are
//! skipped. If the history moves on before that was taken, the chase starts again.

use std::collections::VecDeque;

use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use crate::{ChaseId, event::Entry};

#[derive(Debug)]
pub(crate) struct Chase {
    pub(crate) id: ChaseId,
    pub(crate) slot: StoreSlot,
    pub(crate) delivered: StoreRev,
    pub(crate) met: bool,
    pub(crate) entries: VecDeque<Entry>,
    bytes: usize,
    paused: bool,
}

impl Chase {
    pub(crate) fn after(id: ChaseId, slot: StoreSlot, delivered: StoreRev) -> Self {
        Self {
            id,
            slot,
            delivered,
            met: false,
            entries: VecDeque::new(),
            bytes: 0,
            paused: false,
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += entry.group.bytes;
        self.entries.push_back(entry);
    }

    /// Whether it must wait until the watcher has taken something.
    pub(crate) fn is_full(&mut self, most: usize) -> bool {
        self.paused = self.bytes > most;
        self.paused
    }

    /// The watcher took everything up to `upto`. Says whether a pause ends with that.
    pub(crate) fn taken(&mut self, upto: UnifiedRev, most: usize) -> bool {
        while let Some(entry) = self.entries.front().filter(|e| e.unified() <= upto) {
            self.bytes = self.bytes.saturating_sub(entry.group.bytes);
            self.entries.pop_front();
        }
        let resumes = self.paused && self.bytes <= most / 2;
        if resumes {
            self.paused = false;
        }
        resumes
    }
}
