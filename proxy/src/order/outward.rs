//! Revisions on their way to a client: the store's own to unified.

use keyloom_etcd_api::wire::{Header, RevisionField, Rewrite};
use keyloom_ledger::{Ledger, StoreRev, StoreSlot};
use parking_lot::RwLockReadGuard;

use super::{
    merged::{Merged, Ordered},
    sequence::Sequenced,
};
use crate::identity::Identity;

/// Translates the revisions of one answer. The order's lock is taken with the first revision that the
/// answer's place does not say already: most writes need none.
pub(crate) struct Outward<'a> {
    order: &'a Merged,
    ordered: Option<RwLockReadGuard<'a, Ordered>>,
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
            order,
            ordered: None,
            identity,
            slot,
            sequenced: Some(sequenced),
            unknown: None,
        }
    }

    /// For keys that a store gave at a revision that the ledger already covers.
    pub(crate) fn keys(order: &'a Merged, identity: &'a Identity, slot: StoreSlot) -> Self {
        Self {
            order,
            ordered: None,
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

    fn ledger(&mut self) -> &Ledger {
        let order = self.order;
        let ordered = self.ordered.get_or_insert_with(|| order.read());
        &ordered.sequence.ledger
    }

    fn header_revision(&mut self, revision: i64) -> i64 {
        match self.sequenced {
            Some(sequenced) if sequenced.revision.get() == revision => sequenced.unified.get(),
            // The inner answer of a transaction, from before its own write.
            _ => {
                let slot = self.slot;
                self.ledger()
                    .below_next(slot, StoreRev::new(revision))
                    .get()
            }
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
        let slot = self.slot;
        match self.ledger().unified(slot, StoreRev::new(revision)) {
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

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::{
        etcdserverpb::{PutResponse, ResponseHeader},
        mvccpb::KeyValue,
        wire::{self, Message},
    };
    use keyloom_ledger::{StoreStart, UnifiedRev};
    use prost::Message as _;

    use super::*;

    /// Whether the order's lock was taken for the answer to a put.
    fn takes_the_lock(answer: &PutResponse) -> bool {
        let store = StoreStart {
            name: "default".to_owned(),
            cluster_id: 7,
            at: StoreRev::new(9),
        };
        let (merged, identity) = (Merged::new(Ledger::start(&[store])), Identity::new(7, 1));
        let sequenced = Sequenced {
            slot: StoreSlot::DEFAULT,
            revision: StoreRev::new(9),
            unified: UnifiedRev::new(9),
        };
        let mut outward = Outward::answer(&merged, &identity, sequenced);
        let answer = answer.encode_to_vec().into();
        wire::rewrite_owned(Message::PutResponse, answer, &mut outward).unwrap();
        assert_eq!(outward.unknown(), None);
        outward.ordered.is_some()
    }

    #[test]
    fn a_put_that_tells_no_other_revision_needs_no_lock() {
        let mut answer = PutResponse {
            header: Some(ResponseHeader {
                cluster_id: 7,
                member_id: 1,
                revision: 9,
                raft_term: 1,
            }),
            prev_kv: None,
        };
        assert!(!takes_the_lock(&answer));
        answer.prev_kv = Some(KeyValue {
            mod_revision: 8,
            ..KeyValue::default()
        });
        assert!(takes_the_lock(&answer));
    }
}
