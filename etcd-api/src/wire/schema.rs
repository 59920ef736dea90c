//! Where revisions stand in etcd's messages. What is not named here is copied as it is.

use super::{Message, RevisionField};

/// The fields of one message that matter.
pub(super) struct Schema {
    rules: &'static [Rule],
    /// Where the keys stand that its revisions are about.
    pub(super) keys: Option<KeyFields>,
}

/// The numbers of the fields that hold keys.
pub(super) struct KeyFields {
    pub(super) key: u32,
    pub(super) range_end: Option<u32>,
}

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
    const fn new(rules: &'static [Rule]) -> Self {
        Self { rules, keys: None }
    }

    const fn with_keys(keys: KeyFields, rules: &'static [Rule]) -> Self {
        let keys = Some(keys);
        Self { rules, keys }
    }

    #[inline]
    pub(super) fn rule(&self, number: u32) -> Option<&'static Rule> {
        self.rules.iter().find(|rule| rule.number == number)
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

const fn revision(number: u32, field: RevisionField) -> Rule {
    rule(number, 0, Action::Revision(field))
}

const fn many(number: u32, schema: &'static Schema) -> Rule {
    rule(number, 0, Action::Message(schema))
}

const fn one(number: u32, once: u8, schema: &'static Schema) -> Rule {
    rule(number, once, Action::Message(schema))
}

/// `KeyValue`.
const ONE_KEY: KeyFields = KeyFields {
    key: 1,
    range_end: None,
};
/// `RangeRequest`, `WatchCreateRequest`.
const KEY_RANGE: KeyFields = KeyFields {
    key: 1,
    range_end: Some(2),
};
/// `Compare.range_end`.
pub(super) const COMPARE_RANGE_END: u32 = 64;
pub(super) const COMPARE_KEYS: KeyFields = KeyFields {
    key: 3,
    range_end: Some(COMPARE_RANGE_END),
};

const RANGE_END: Rule = rule(2, 0, Action::RangeEnd);
const HEADER: Rule = rule(1, FIRST, Action::Header);

pub(super) static KEY_VALUE: Schema = Schema::with_keys(
    ONE_KEY,
    &[
        revision(2, RevisionField::Exact),
        revision(3, RevisionField::Exact),
    ],
);
pub(super) static EVENT: Schema =
    Schema::new(&[one(2, FIRST, &KEY_VALUE), one(3, SECOND, &KEY_VALUE)]);

static NOTHING: Schema = Schema::new(&[]);
static ONLY_HEADER: Schema = Schema::new(&[HEADER]);

static RANGE_REQUEST: Schema = Schema::with_keys(
    KEY_RANGE,
    &[
        RANGE_END,
        revision(4, RevisionField::ReadAt),
        revision(10, RevisionField::AtLeast),
        revision(11, RevisionField::AtMost),
        revision(12, RevisionField::AtLeast),
        revision(13, RevisionField::AtMost),
    ],
);
static DELETE_RANGE_REQUEST: Schema = Schema::new(&[RANGE_END]);
static RANGE_RESPONSE: Schema = Schema::new(&[HEADER, many(2, &KEY_VALUE)]);
static RANGE_STREAM_RESPONSE: Schema = Schema::new(&[one(1, FIRST, &RANGE_RESPONSE)]);
static PUT_RESPONSE: Schema = Schema::new(&[HEADER, one(2, SECOND, &KEY_VALUE)]);
static DELETE_RANGE_RESPONSE: Schema = Schema::new(&[HEADER, many(3, &KEY_VALUE)]);

static TXN_REQUEST: Schema = Schema::new(&[
    rule(1, 0, Action::Compare),
    many(2, &REQUEST_OP),
    many(3, &REQUEST_OP),
]);
static REQUEST_OP: Schema = Schema::new(&[
    one(1, FIRST, &RANGE_REQUEST),
    rule(2, FIRST, Action::Copy),
    one(3, FIRST, &DELETE_RANGE_REQUEST),
    one(4, FIRST, &TXN_REQUEST),
]);
static TXN_RESPONSE: Schema = Schema::new(&[HEADER, many(3, &RESPONSE_OP)]);
static RESPONSE_OP: Schema = Schema::new(&[
    one(1, FIRST, &RANGE_RESPONSE),
    one(2, FIRST, &PUT_RESPONSE),
    one(3, FIRST, &DELETE_RANGE_RESPONSE),
    one(4, FIRST, &TXN_RESPONSE),
]);

static COMPACTION_REQUEST: Schema = Schema::new(&[revision(1, RevisionField::Compact)]);
static HASH_KV_REQUEST: Schema = Schema::new(&[revision(1, RevisionField::ReadAt)]);
static HASH_KV_RESPONSE: Schema = Schema::new(&[
    HEADER,
    revision(3, RevisionField::Compacted),
    revision(4, RevisionField::Exact),
]);

static WATCH_REQUEST: Schema = Schema::new(&[
    one(1, FIRST, &WATCH_CREATE_REQUEST),
    rule(2, FIRST, Action::Copy),
    rule(3, FIRST, Action::Copy),
]);
static WATCH_CREATE_REQUEST: Schema = Schema::with_keys(
    KEY_RANGE,
    &[RANGE_END, revision(3, RevisionField::WatchFrom)],
);
static WATCH_RESPONSE: Schema = Schema::new(&[
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
