//! Revisions on their way to a store: unified to the store's own (rule 7 of the ledger).

use keyloom_etcd_api::{
    EtcdError,
    wire::{Comparison, Header, RevisionField, Rewrite},
};
use keyloom_ledger::{StoreSlot, UnifiedRev};
use parking_lot::RwLockReadGuard;

use super::merged::{Merged, Ordered};

/// A revision that no store ever reaches: compared for equality it matches nothing, read at it is
/// in the future.
const NEVER: i64 = i64::MAX;

/// A revision that every store takes for compacted where it reads inside a transaction, even one
/// that never compacted (`checkRange` in etcd's `server/etcdserver/txn/txn.go`).
const LONG_GONE: i64 = i64::MIN;

/// Translates the revisions of one request.
pub(crate) struct Inward<'a> {
    ordered: RwLockReadGuard<'a, Ordered>,
    slot: StoreSlot,
    in_txn: bool,
    refused: Option<EtcdError>,
}

impl std::fmt::Debug for Inward<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inward")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl<'a> Inward<'a> {
    pub(crate) fn new(order: &'a Merged, slot: StoreSlot) -> Self {
        Self {
            ordered: order.read(),
            slot,
            in_txn: false,
            refused: None,
        }
    }

    /// For the request of a transaction: only the store knows which branch it takes, so a read of
    /// what is compacted is refused by the store, and only where it is made.
    pub(crate) fn in_txn(self, in_txn: bool) -> Self {
        Self { in_txn, ..self }
    }

    /// What the request must be answered with in the place of being sent.
    pub(crate) fn refused(&self) -> Option<EtcdError> {
        self.refused
    }

    /// The store's largest revision at or below `u`.
    fn at(&self, u: i64) -> i64 {
        self.ordered
            .sequence
            .ledger
            .store_at(self.slot, UnifiedRev::new(u))
            .get()
    }

    /// The smallest store revision above all that lie below `u`.
    fn above_all_below(&self, u: i64) -> i64 {
        if u <= 1 { u } else { self.at(u - 1) + 1 }
    }

    fn is_future(&self, u: i64) -> bool {
        u > self.ordered.sequence.ledger.head().get()
    }

    fn read_at(&mut self, u: i64) -> i64 {
        if self.is_future(u) {
            return NEVER;
        }
        let at = UnifiedRev::new(u);
        let ledger = &self.ordered.sequence.ledger;
        if at < ledger.compacted() || at < ledger.floor(self.slot) {
            if self.in_txn {
                return LONG_GONE;
            }
            self.refused = Some(EtcdError::Compacted);
        }
        self.at(u)
    }

    /// Inside a transaction a negative revision is one below the compaction, which the store itself
    /// may not have done yet.
    fn not_positive(&self, field: RevisionField, u: i64) -> i64 {
        let below = || UnifiedRev::new(u) < self.ordered.sequence.ledger.compacted();
        if self.in_txn && field == RevisionField::ReadAt && u < 0 && below() {
            return LONG_GONE;
        }
        u
    }

    fn compared(&self, comparison: Comparison, u: i64) -> i64 {
        match comparison {
            Comparison::Equal | Comparison::NotEqual => self
                .ordered
                .sequence
                .ledger
                .store_exact(self.slot, UnifiedRev::new(u))
                .map_or(NEVER, |revision| revision.get()),
            // The store may hold revisions that the ledger does not have yet. They will come right
            // above the head, below a `u` that nobody was given.
            Comparison::Less if self.is_future(u - 1) => NEVER,
            Comparison::Greater if self.is_future(u) => NEVER,
            Comparison::Less => self.above_all_below(u),
            Comparison::Greater => self.at(u),
        }
    }
}

impl Rewrite for Inward<'_> {
    fn header(&mut self, header: Header) -> Header {
        header
    }

    fn revision(&mut self, field: RevisionField, u: i64) -> i64 {
        // 0 means none or latest; no key has a negative revision.
        if u <= 0 {
            return self.not_positive(field, u);
        }
        match field {
            RevisionField::ReadAt => self.read_at(u),
            // What a transaction writes is above the head, and it may read what it wrote.
            RevisionField::AtLeast if self.is_future(u - 1) => NEVER,
            RevisionField::AtMost if self.is_future(u) => NEVER,
            RevisionField::AtLeast => self.above_all_below(u),
            RevisionField::AtMost | RevisionField::Compact => self.at(u),
            RevisionField::Compare(comparison) => self.compared(comparison, u),
            RevisionField::WatchFrom | RevisionField::Exact | RevisionField::Compacted => u,
        }
    }
}
