//! Where keys lived and where they live: the routes of each stretch of the order.
//!
//! ```text
//!   u: ───────────────┤ until ├──────────────┤ until ├────────────► head
//!        routes of then         routes of then          routes of now
//! ```
//!
//! An earlier era is needed as long as somebody who watched a range across its end has not taken
//! everything up to there; nobody begins to watch a range that moved below the end of an era.

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreSlot, UnifiedRev};
use keyloom_topology::Affected;

use crate::Routes;

/// How many changes are remembered for the sake of late writes.
const REMEMBERED: usize = 16;

/// The last place of the era that has not ended.
pub(crate) const NOW: UnifiedRev = UnifiedRev::new(i64::MAX);

#[derive(Debug)]
struct Era {
    until: UnifiedRev,
    routes: Routes,
}

/// A change that is over.
#[derive(Debug)]
struct Change {
    until: UnifiedRev,
    before: Routes,
    affected: Affected,
}

#[derive(Debug)]
pub(crate) struct Eras {
    /// The oldest first.
    past: Vec<Era>,
    now: Routes,
    changes: Vec<Change>,
}

/// The stores of a range in one era.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) until: UnifiedRev,
    pub(crate) slots: Vec<StoreSlot>,
}

impl Eras {
    pub(crate) fn new(routes: Routes) -> Self {
        Self {
            past: Vec::new(),
            now: routes,
            changes: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> &Routes {
        &self.now
    }

    /// Whether there is no era but this one.
    pub(crate) fn is_one(&self) -> bool {
        self.past.is_empty()
    }

    /// Whether the routes ever changed.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The routes that decide at `u`.
    pub(crate) fn at(&self, u: UnifiedRev) -> &Routes {
        let past = self.past.iter().find(|era| u <= era.until);
        past.map_or(&self.now, |era| &era.routes)
    }

    /// Other routes hold above `until`.
    pub(crate) fn change(&mut self, until: UnifiedRev, routes: Routes, affected: Affected) {
        let before = std::mem::replace(&mut self.now, routes);
        if self.changes.len() >= REMEMBERED {
            self.changes.remove(0);
        }
        self.changes.push(Change {
            until,
            before: before.clone(),
            affected,
        });
        self.past.push(Era {
            until,
            routes: before,
        });
    }

    /// Other routes hold that lead every key where it was.
    pub(crate) fn replace(&mut self, routes: Routes) {
        self.now = routes;
    }

    /// Forgets the eras that nobody needs.
    pub(crate) fn keep(&mut self, is_needed: impl Fn(UnifiedRev) -> bool) {
        self.past.retain(|era| is_needed(era.until));
    }

    /// Whether a key that is written at `u` had moved away from the store before, not long ago.
    pub(crate) fn has_left(&self, key: &[u8], slot: StoreSlot, u: UnifiedRev) -> bool {
        let left = |change: &Change| {
            u > change.until && change.affected.holds(key) && change.before.route(key) == Some(slot)
        };
        self.changes.iter().any(left) && self.now.route(key) != Some(slot)
    }

    /// The end of the oldest era, where there are more than `most`.
    pub(crate) fn too_old(&self, most: usize) -> Option<UnifiedRev> {
        let oldest = self.past.first()?;
        (self.past.len() > most).then_some(oldest.until)
    }

    /// The stores of a range, now.
    pub(crate) fn span(&self, range: &KeyRange) -> Span {
        Span {
            until: NOW,
            slots: self.now.span(range),
        }
    }
}
