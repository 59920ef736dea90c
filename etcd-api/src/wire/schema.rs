//! Where revisions stand in etcd's messages. What is not named here is copied as it is.

use super::{Message, RevisionField};

/// The fields of one message that matter.
pub(super) struct Schema(&'static [Rule]);

/// What to do with one field.
pub(super) struct Rule {
    number: u32,
    /// Fields of one message with the same bit exclude each other: a message that can stand once
    /// has a bit of its own, the members of a oneof share one. 0 is no limit.
    pub(super) once: u8,
    pub(super) action: Action,
}

#[derive(Clone, Copy)]
pub(super) enum Action {
    Revision(RevisionField),
    Message(&'static Schema),
    Header,
    Compare,
    /// The end of a range. Spelled out and empty, etcd's decoder takes it for "no end" where
    /// everybody else takes it for "one key": it would reach keys that were never planned for.
    RangeEnd,
    /// A member of a oneof in which there are no revisions.
    Copy,
}

impl Schema {
    #[inline]
    pub(super) fn rule(&self, number: u32) -> Option<&'static Rule> {
        self.0.iter().find(|rule| rule.number == number)
    }
}

/// The `once` of a header, or of the only oneof.
const FIRST: u8 = 1;
const SECOND: u8 = 2;

const fn rule(number: u32, once: u8, action: Action) -> Rule {
    Rule {
        number,
        once,
        action,
    }
}

const fn revision(number: u32, place: RevisionField) -> Rule {
    rule(number, 0, Action::Revision(place))
}

const fn many(number: u32, schema: &'static Schema) -> Rule {
    rule(number, 0, Action::Message(schema))
}

const fn one(number: u32, once: u8, schema: &'static Schema) -> Rule {
    rule(number, once, Action::Message(schema))
}

const RANGE_END: Rule = rule(2, 0, Action::RangeEnd);
const HEADER: Rule = rule(1, FIRST, Action::Header);

pub(super) static KEY_VALUE: Schema = Schema(&[
    revision(2, RevisionField::Exact),
    revision(3, RevisionField::Exact),
]);
pub(super) static EVENT: Schema = Schema(&[one(2, FIRST, &KEY_VALUE), one(3, SECOND, &KEY_VALUE)]);

static NOTHING: Schema = Schema(&[]);
static ONLY_HEADER: Schema = Schema(&[HEADER]);

static RANGE_REQUEST: Schema = Schema(&[
    RANGE_END,
    revision(4, RevisionField::ReadAt),
    revision(10, RevisionField::AtLeast),
    revision(11, RevisionField::AtMost),
    revision(12, RevisionField::AtLeast),
    revision(13, RevisionField::AtMost),
]);
static DELETE_RANGE_REQUEST: Schema = Schema(&[RANGE_END]);
static RANGE_RESPONSE: Schema = Schema(&[HEADER, many(2, &KEY_VALUE)]);
static RANGE_STREAM_RESPONSE: Schema = Schema(&[one(1, FIRST, &RANGE_RESPONSE)]);
static PUT_RESPONSE: Schema = Schema(&[HEADER, one(2, SECOND, &KEY_VALUE)]);
static DELETE_RANGE_RESPONSE: Schema = Schema(&[HEADER, many(3, &KEY_VALUE)]);

static TXN_REQUEST: Schema = Schema(&[
    rule(1, 0, Action::Compare),
    many(2, &REQUEST_OP),
    many(3, &REQUEST_OP),
]);
static REQUEST_OP: Schema = Schema(&[
    one(1, FIRST, &RANGE_REQUEST),
    rule(2, FIRST, Action::Copy),
    one(3, FIRST, &DELETE_RANGE_REQUEST),
    one(4, FIRST, &TXN_REQUEST),
]);
static TXN_RESPONSE: Schema = Schema(&[HEADER, many(3, &RESPONSE_OP)]);
static RESPONSE_OP: Schema = Schema(&[
    one(1, FIRST, &RANGE_RESPONSE),
    one(2, FIRST, &PUT_RESPONSE),
    one(3, FIRST, &DELETE_RANGE_RESPONSE),
    one(4, FIRST, &TXN_RESPONSE),
]);

static COMPACTION_REQUEST: Schema = Schema(&[revision(1, RevisionField::Compact)]);
static HASH_KV_REQUEST: Schema = Schema(&[revision(1, RevisionField::ReadAt)]);
static HASH_KV_RESPONSE: Schema = Schema(&[
    HEADER,
    revision(3, RevisionField::Compacted),
    revision(4, RevisionField::Exact),
]);

static WATCH_REQUEST: Schema = Schema(&[
    one(1, FIRST, &WATCH_CREATE_REQUEST),
    rule(2, FIRST, Action::Copy),
    rule(3, FIRST, Action::Copy),
]);
static WATCH_CREATE_REQUEST: Schema = Schema(&[RANGE_END, revision(3, RevisionField::WatchFrom)]);
static WATCH_RESPONSE: Schema = Schema(&[
    HEADER,
    revision(5, RevisionField::Compacted),
    many(11, &EVENT),
]);

pub(super) fn of(message: Message) -> &'static Schema {
    match message {
        Message::RangeRequest => &RANGE_REQUEST,
        Message::RangeResponse => &RANGE_RESPONSE,
        Message::RangeStreamResponse => &RANGE_STREAM_RESPONSE,
        Message::PutRequest => &NOTHING,
        Message::DeleteRangeRequest => &DELETE_RANGE_REQUEST,
        Message::PutResponse => &PUT_RESPONSE,
        Message::DeleteRangeResponse => &DELETE_RANGE_RESPONSE,
        Message::TxnRequest => &TXN_REQUEST,
        Message::TxnResponse => &TXN_RESPONSE,
        Message::CompactionRequest => &COMPACTION_REQUEST,
        Message::WatchRequest => &WATCH_REQUEST,
        Message::WatchResponse => &WATCH_RESPONSE,
        Message::HashKvRequest => &HASH_KV_REQUEST,
        Message::HashKvResponse => &HASH_KV_RESPONSE,
        Message::CompactionResponse
        | Message::LeaseGrantResponse
        | Message::LeaseRevokeResponse
        | Message::LeaseKeepAliveResponse
        | Message::LeaseTimeToLiveResponse
        | Message::LeaseLeasesResponse
        | Message::AlarmResponse
        | Message::StatusResponse
        | Message::DefragmentResponse
        | Message::HashResponse
        | Message::SnapshotResponse
        | Message::MemberListResponse => &ONLY_HEADER,
    }
}
