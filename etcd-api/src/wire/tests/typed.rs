//! The same rewriting on decoded messages, written by hand: what the rewriting of bytes must equal.

use std::fmt::Debug;

use super::{
    etcdserverpb as pb,
    mvccpb::{Event, KeyValue},
    wire::{Comparison, Header, KeysBeside, RevisionField, Rewrite},
};
use pb::{
    compare::TargetUnion, request_op::Request, response_op::Response, watch_request::RequestUnion,
};

pub(super) trait Typed: prost::Message + Default + PartialEq + Debug {
    fn rewrite(&mut self, with: &mut impl Rewrite);
}

/// The keys that a message is about; `None` where it names none.
type Keys<'a> = Option<KeysBeside<'a>>;

fn about<'a>(key: &'a [u8], range_end: &'a [u8]) -> Keys<'a> {
    Some(KeysBeside { key, range_end })
}

fn revision(value: &mut i64, keys: Keys<'_>, field: RevisionField, with: &mut impl Rewrite) {
    if *value != 0 {
        *value = ask(*value, keys, field, with);
    }
}

fn ask<R: Rewrite>(value: i64, keys: Keys<'_>, field: RevisionField, with: &mut R) -> i64 {
    match R::WANTS_KEYS {
        true => with.revision_beside(keys, field, value),
        false => with.revision(field, value),
    }
}

fn each<'m, T: Typed + 'm>(messages: impl IntoIterator<Item = &'m mut T>, with: &mut impl Rewrite) {
    messages
        .into_iter()
        .for_each(|message| message.rewrite(with));
}

pub(super) fn header_of(header: &pb::ResponseHeader) -> Header {
    Header {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    }
}

pub(super) fn encodable(header: Header) -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    }
}

impl Typed for pb::ResponseHeader {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        *self = encodable(with.header(header_of(self)));
    }
}

impl Typed for KeyValue {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        let keys = about(&self.key, b"");
        revision(&mut self.create_revision, keys, RevisionField::Exact, with);
        revision(&mut self.mod_revision, keys, RevisionField::Exact, with);
    }
}

impl Typed for Event {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.kv, with);
        each(&mut self.prev_kv, with);
    }
}

impl Typed for pb::RangeRequest {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        let keys = about(&self.key, &self.range_end);
        revision(&mut self.revision, keys, RevisionField::ReadAt, with);
        let (least, most) = (RevisionField::AtLeast, RevisionField::AtMost);
        revision(&mut self.min_mod_revision, keys, least, with);
        revision(&mut self.max_mod_revision, keys, most, with);
        revision(&mut self.min_create_revision, keys, least, with);
        revision(&mut self.max_create_revision, keys, most, with);
    }
}

impl Typed for pb::RangeResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.header, with);
        each(&mut self.kvs, with);
    }
}

impl Typed for pb::RangeStreamResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.range_response, with);
    }
}

impl Typed for pb::PutResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.header, with);
        each(&mut self.prev_kv, with);
    }
}

impl Typed for pb::DeleteRangeResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.header, with);
        each(&mut self.prev_kvs, with);
    }
}

impl Typed for pb::TxnRequest {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.compare, with);
        each(&mut self.success, with);
        each(&mut self.failure, with);
    }
}

impl Typed for pb::Compare {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        let comparison = match self.result {
            0 => Comparison::Equal,
            1 => Comparison::Greater,
            2 => Comparison::Less,
            3 => Comparison::NotEqual,
            _ => return,
        };
        let make = match self.target {
            1 => TargetUnion::CreateRevision,
            2 => TargetUnion::ModRevision,
            _ => return,
        };
        let old = match (self.target, &self.target_union) {
            (_, None) => 0,
            (1, Some(TargetUnion::CreateRevision(old)))
            | (2, Some(TargetUnion::ModRevision(old))) => *old,
            _ => return,
        };
        let keys = about(&self.key, &self.range_end);
        let new = ask(old, keys, RevisionField::Compare(comparison), with);
        if new != old {
            self.target_union = Some(make(new));
        }
    }
}

impl Typed for pb::RequestOp {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        match &mut self.request {
            Some(Request::RequestRange(range)) => range.rewrite(with),
            Some(Request::RequestTxn(txn)) => txn.rewrite(with),
            _ => {}
        }
    }
}

impl Typed for pb::TxnResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.header, with);
        each(&mut self.responses, with);
    }
}

impl Typed for pb::ResponseOp {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        match &mut self.response {
            Some(Response::ResponseRange(range)) => range.rewrite(with),
            Some(Response::ResponsePut(put)) => put.rewrite(with),
            Some(Response::ResponseDeleteRange(delete)) => delete.rewrite(with),
            Some(Response::ResponseTxn(txn)) => txn.rewrite(with),
            None => {}
        }
    }
}

impl Typed for pb::CompactionRequest {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        revision(&mut self.revision, None, RevisionField::Compact, with);
    }
}

impl Typed for pb::HashKvRequest {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        revision(&mut self.revision, None, RevisionField::ReadAt, with);
    }
}

impl Typed for pb::HashKvResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.header, with);
        revision(
            &mut self.compact_revision,
            None,
            RevisionField::Compacted,
            with,
        );
        revision(&mut self.hash_revision, None, RevisionField::Exact, with);
    }
}

impl Typed for pb::WatchRequest {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        if let Some(RequestUnion::CreateRequest(create)) = &mut self.request_union {
            let keys = about(&create.key, &create.range_end);
            revision(
                &mut create.start_revision,
                keys,
                RevisionField::WatchFrom,
                with,
            );
        }
    }
}

impl Typed for pb::WatchResponse {
    fn rewrite(&mut self, with: &mut impl Rewrite) {
        each(&mut self.header, with);
        revision(
            &mut self.compact_revision,
            None,
            RevisionField::Compacted,
            with,
        );
        each(&mut self.events, with);
    }
}

impl Typed for pb::PutRequest {
    fn rewrite(&mut self, _: &mut impl Rewrite) {}
}

impl Typed for pb::DeleteRangeRequest {
    fn rewrite(&mut self, _: &mut impl Rewrite) {}
}

macro_rules! only_a_header {
    ($($message:ident)*) => {$(
        impl Typed for pb::$message {
            fn rewrite(&mut self, with: &mut impl Rewrite) {
                each(&mut self.header, with);
            }
        }
    )*};
}

only_a_header! {
    CompactionResponse LeaseGrantResponse LeaseRevokeResponse LeaseKeepAliveResponse
    LeaseTimeToLiveResponse LeaseLeasesResponse AlarmResponse StatusResponse DefragmentResponse
    HashResponse SnapshotResponse MemberListResponse
}
