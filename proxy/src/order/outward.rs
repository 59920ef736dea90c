//! Revisions on their way to a client: the store's own to unified.

use keyloom_etcd_api::wire::{Header, RevisionField, Rewrite};
use keyloom_ledger::{StoreRev, StoreSlot};
use parking_lot::RwLockReadGuard;

use super::{
    merged::{Merged, Ordered},
    sequence::Sequenced,
};
use crate::identity::Identity;

/// Translates the revisions of one answer.
pub(crate) struct Outward<'a> {
    ordered: RwLockReadGuard<'a, Ordered>,
    identity: &'a Identity,
    slot: StoreSlot,
    sequenced: Option<Sequenced>,
    unknown: Option<i64>,
}

impl std::fmt::Debug for Outward<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outward")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl<'a> Outward<'a> {
    /// For the answer that was given its place as `sequenced`.
    pub(crate) fn answer(order: &'a Merged, identity: &'a Identity, sequenced: Sequenced) -> Self {
        let slot = sequenced.slot;
        Self {
            ordered: order.read(),
            identity,
            slot,
            sequenced: Some(sequenced),
            unknown: None,
        }
    }

    /// For keys that a store gave at a revision that the ledger already covers.
    pub(crate) fn keys(order: &'a Merged, identity: &'a Identity, slot: StoreSlot) -> Self {
        Self {
            ordered: order.read(),
            identity,
            slot,
            sequenced: None,
            unknown: None,
        }
    }

    /// A revision in the answer that the ledger does not have, which no answer of a working store
    /// can hold.
    pub(crate) fn unknown(&self) -> Option<i64> {
        self.unknown
    }

    fn header_revision(&self, revision: i64) -> i64 {
        match self.sequenced {
            Some(sequenced) if sequenced.revision.get() == revision => sequenced.unified.get(),
            // The inner answer of a transaction, from before its own write.
            _ => self
                .ordered
                .sequence
                .ledger
                .below_next(self.slot, StoreRev::new(revision))
                .get(),
        }
    }
}

impl Rewrite for Outward<'_> {
    fn header(&mut self, header: Header) -> Header {
        if header.revision == 0 {
            return header;
        }
        let revision = self.header_revision(header.revision);
        // Inner answers of a transaction have a header that only holds a revision.
        if header.cluster_id == 0 {
            return Header { revision, ..header };
        }
        self.identity.header(revision)
    }

    fn revision(&mut self, field: RevisionField, revision: i64) -> i64 {
        if revision <= 0 || field != RevisionField::Exact {
            return revision;
        }
        match self
            .ordered
            .sequence
            .ledger
            .unified(self.slot, StoreRev::new(revision))
        {
            Some(unified) => unified.get(),
            None => {
                self.unknown = Some(revision);
                revision
            }
        }
    }
}

/// Rewrites answers of the only store: its revisions are the unified ones, its member is not ours.
#[derive(Debug)]
pub(crate) struct Native<'a>(pub(crate) &'a Identity);

impl Rewrite for Native<'_> {
    fn header(&mut self, header: Header) -> Header {
        if header.member_id == 0 {
            return header;
        }
        Header {
            member_id: self.0.member_id(),
            ..header
        }
    }

    fn revision(&mut self, _: RevisionField, revision: i64) -> i64 {
        revision
    }
}
