//! What must hold between an encoded message and what is made of it, with prost as the judge.

use bytes::{Buf, Bytes};
use prost::{
    Message as _,
    encoding::{DecodeContext, decode_key, decode_varint, skip_field},
};

use super::{
    api, etcdserverpb as pb, mvccpb,
    typed::{Typed, encodable, header_of},
    wire::{
        Header, KeysBeside, Message, RangeAnswer, RawKv, RevisionField, Rewrite, TxnOutcome,
        WireError, deleted, encode_range_answer, peek_header, range_responses_of_txn, rewrite,
        rewrite_owned, txn_outcome,
    },
};

/// A rewriting that gives the same for the same.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mapping {
    Same,
    /// One more: the width mostly stays.
    Next,
    Zero,
    /// Any number of any width, another in each place.
    Spread(u64),
}

impl Mapping {
    pub(super) fn of(seed: u64) -> Self {
        match seed % 8 {
            0 => Self::Same,
            1 => Self::Next,
            2 => Self::Zero,
            _ => Self::Spread(seed),
        }
    }

    fn number(self, place: u64, old: u64) -> u64 {
        match self {
            Self::Same => old,
            Self::Next => old.wrapping_add(1),
            Self::Zero => 0,
            Self::Spread(seed) => {
                let mixed = (old ^ seed.rotate_left(20) ^ place << 50)
                    .wrapping_add(1)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
                match mixed >> 60 {
                    0 => 0,
                    1 => old,
                    _ => mixed >> (mixed % 64),
                }
            }
        }
    }
}

impl Rewrite for Mapping {
    fn header(&mut self, header: Header) -> Header {
        Header {
            cluster_id: self.number(20, header.cluster_id),
            member_id: self.number(21, header.member_id),
            revision: self.number(22, header.revision as u64) as i64,
            raft_term: self.number(23, header.raft_term),
        }
    }

    fn revision(&mut self, field: RevisionField, revision: i64) -> i64 {
        let place_number = match field {
            RevisionField::Compare(comparison) => comparison as u64,
            RevisionField::ReadAt => 5,
            RevisionField::AtLeast => 6,
            RevisionField::AtMost => 7,
            RevisionField::Compact => 8,
            RevisionField::WatchFrom => 9,
            RevisionField::Exact => 10,
            RevisionField::Compacted => 11,
        };
        assert!(place_number < 5 || revision != 0, "0 is not asked for");
        self.number(place_number, revision as u64) as i64
    }
}

/// A [`Mapping`] that is told the keys, and gives another number beside other keys.
#[derive(Clone, Copy, Debug)]
struct Told(Mapping);

impl Told {
    /// Far apart for keys that differ in one byte or change places.
    fn salt(keys: Option<KeysBeside<'_>>) -> u64 {
        let mix = |hash: u64, byte: u64| (hash ^ byte).wrapping_mul(0x0100_0000_01b3);
        let bytes =
            |hash, bytes: &[u8]| bytes.iter().fold(hash, |hash, b| mix(hash, u64::from(*b)));
        keys.map_or(0, |keys| {
            let key = bytes(0xcbf2_9ce4_8422_2325, keys.key);
            bytes(mix(key, 256), keys.range_end)
        })
    }
}

impl Rewrite for Told {
    const WANTS_KEYS: bool = true;

    fn header(&mut self, header: Header) -> Header {
        self.0.header(header)
    }

    fn revision(&mut self, field: RevisionField, _: i64) -> i64 {
        panic!("asked for {field:?} without its keys")
    }

    fn revision_beside(
        &mut self,
        keys: Option<KeysBeside<'_>>,
        field: RevisionField,
        revision: i64,
    ) -> i64 {
        match self.0.revision(field, revision) {
            // A translation that changes nothing does so beside every key.
            same if same == revision => same,
            other => other ^ Self::salt(keys).cast_signed(),
        }
    }
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Rewritten,
    Refused(WireError),
}

macro_rules! kinds {
    ($($kind:ident $name:ident)*) => {
        /// Every kind of message, which is its name in Rust too, with the name of its
        /// descriptor.
        pub(super) const KINDS: &[(Message, &str)] = &[
            $((Message::$kind, concat!(".etcdserverpb.", stringify!($name)))),*
        ];

        /// Rewrites and compares.
        ///
        /// # Panics
        /// Where what must hold does not.
        pub(super) fn check(message: Message, encoded: &Bytes, mapping: Mapping) -> Came {
            match message {
                $(Message::$kind => check_as::<pb::$kind>(
                    message,
                    concat!(".etcdserverpb.", stringify!($name)),
                    encoded,
                    mapping,
                )),*
            }
        }
    };
}

kinds! {
    RangeRequest RangeRequest
    RangeResponse RangeResponse
    RangeStreamResponse RangeStreamResponse
    PutRequest PutRequest
    PutResponse PutResponse
    DeleteRangeRequest DeleteRangeRequest
    DeleteRangeResponse DeleteRangeResponse
    TxnRequest TxnRequest
    TxnResponse TxnResponse
    CompactionRequest CompactionRequest
    CompactionResponse CompactionResponse
    WatchRequest WatchRequest
    WatchResponse WatchResponse
    LeaseGrantResponse LeaseGrantResponse
    LeaseRevokeResponse LeaseRevokeResponse
    LeaseKeepAliveResponse LeaseKeepAliveResponse
    LeaseTimeToLiveResponse LeaseTimeToLiveResponse
    LeaseLeasesResponse LeaseLeasesResponse
    AlarmResponse AlarmResponse
    StatusResponse StatusResponse
    DefragmentResponse DefragmentResponse
    HashResponse HashResponse
    HashKvRequest HashKVRequest
    HashKvResponse HashKVResponse
    SnapshotResponse SnapshotResponse
    MemberListResponse MemberListResponse
}

fn check_as<T: Typed>(kind: Message, name: &str, encoded: &Bytes, mapping: Mapping) -> Came {
    let came = check_with::<T>(kind, name, encoded, mapping, mapping);
    let told = check_with::<T>(kind, name, encoded, mapping, Told(mapping));
    if T::decode(&encoded[..]).is_ok() {
        assert_eq!(told, came, "keys change what is refused");
    }
    came
}

fn check_with<T: Typed>(
    kind: Message,
    name: &str,
    encoded: &Bytes,
    mapping: Mapping,
    mut with: impl Rewrite,
) -> Came {
    let rewritten = rewrite(kind, encoded, &mut with);
    if let (Ok(rewritten), Mapping::Same) = (&rewritten, mapping) {
        assert_eq!(rewritten.as_ptr(), encoded.as_ptr(), "copied for nothing");
        assert_eq!(rewritten, encoded);
    }
    let own = Bytes::copy_from_slice(encoded);
    assert_eq!(rewrite_owned(kind, own, &mut with), rewritten);
    let Ok(mut decoded) = T::decode(&encoded[..]) else {
        // Less is looked at here than prost looks at, so this may well have passed.
        return came(rewritten);
    };
    match &rewritten {
        Ok(rewritten) => {
            decoded.rewrite(&mut with);
            let again = T::decode(&rewritten[..]).expect("what was rewritten must decode");
            assert_eq!(again, decoded);
            assert_eq!(
                Rest::of(name, rewritten).fields,
                Rest::of(name, encoded).fields
            );
        }
        Err(WireError::Repeated) => assert!(repeats(name, encoded), "called repeated"),
        Err(WireError::EmptyRangeEnd) => assert!(spells_out(name, encoded), "called empty"),
        Err(error) => panic!("{error:?} for what prost decodes: {decoded:?}"),
    }
    came(rewritten)
}

fn came(rewritten: Result<Bytes, WireError>) -> Came {
    rewritten.map_or_else(Came::Refused, |_| Came::Rewritten)
}

/// Whether a message or a oneof stands more than once where one can stand.
pub(super) fn repeats(name: &str, encoded: &Bytes) -> bool {
    Rest::of(name, encoded).repeated
}

/// Whether a `range_end` is there and empty.
pub(super) fn spells_out(name: &str, encoded: &Bytes) -> bool {
    Rest::of(name, encoded).spelled_out
}

/// What rewriting must leave as it is.
#[derive(Default)]
struct Rest {
    /// The bytes of each field that is unknown or holds no revision, with the numbers on the way
    /// to it.
    fields: Vec<(Vec<u32>, Bytes)>,
    /// Whether a message or a oneof stands more than once where one can stand.
    repeated: bool,
    /// Whether a `range_end` is there and empty.
    spelled_out: bool,
}

impl Rest {
    fn of(name: &str, message: &Bytes) -> Self {
        let mut rest = Self::default();
        rest.add(name, message.clone(), &mut Vec::new());
        rest
    }

    /// `message` is one that prost decodes.
    fn add(&mut self, name: &str, mut message: Bytes, path: &mut Vec<u32>) {
        let mut seen = Vec::new();
        while message.has_remaining() {
            let start = message.clone();
            let (number, wire_type) = decode_key(&mut message).unwrap();
            let value = message.clone();
            skip_field(wire_type, number, &mut message, DecodeContext::default()).unwrap();
            let field = api::fields(name)
                .iter()
                .find(|field| api::number(field) == number);
            path.push(number);
            let is_end = field.is_some_and(|field| field.name() == "range_end");
            // Also where the length is written in more bytes than it takes.
            self.spelled_out |= is_end && decode_varint(&mut value.clone()) == Ok(0);
            match field {
                Some(field) if api::is_message(field) => {
                    let oneof = field.oneof_index.map(|index| (true, index));
                    let one = oneof.unwrap_or((false, field.number()));
                    self.repeated |= !api::repeated(field) && seen.contains(&one);
                    seen.push(one);
                    let mut inner = value.slice(..value.len() - message.len());
                    decode_varint(&mut inner).unwrap();
                    self.fields.push((path.clone(), Bytes::new()));
                    self.add(field.type_name(), inner, path);
                }
                Some(field) if api::rewritable(name, field) => {}
                _ => {
                    let raw = start.slice(..start.len() - message.len());
                    self.fields.push((path.clone(), raw));
                }
            }
            path.pop();
        }
    }
}

/// Everything else that reads the answers of ranges and transactions.
///
/// # Panics
/// Where what must hold does not.
pub(super) fn check_readers(encoded: &Bytes, mapping: Mapping) {
    check_key_value(encoded, mapping);
    check_range_answer(encoded);
    check_txn(encoded);
    let read = deleted(encoded);
    if let Ok(response) = pb::DeleteRangeResponse::decode(&encoded[..]) {
        assert_eq!(read, Ok(response.deleted));
    }
    let peeked = peek_header(encoded);
    if let Ok(response) = pb::CompactionResponse::decode(&encoded[..])
        && !repeats(".etcdserverpb.CompactionResponse", encoded)
    {
        assert_eq!(peeked, Ok(response.header.as_ref().map(header_of)));
    }
}

fn check_key_value(encoded: &Bytes, mut mapping: Mapping) {
    let raw = RawKv::parse(encoded.clone());
    let Ok(mut kv) = mvccpb::KeyValue::decode(&encoded[..]) else {
        return;
    };
    let raw = raw.expect("what prost decodes");
    assert_eq!((&raw.key, &raw.encoded), (&kv.key, encoded));
    assert_eq!(raw.create_revision(), kv.create_revision);
    assert_eq!(raw.mod_revision(), kv.mod_revision);
    assert_eq!((raw.version(), raw.lease()), (kv.version, kv.lease));
    assert_eq!(raw.value(), kv.value);

    let without = raw.without_value();
    let all = Rest::of(".mvccpb.KeyValue", encoded).fields.into_iter();
    let but_value: Vec<_> = all.filter(|(path, _)| path != &[5]).collect();
    assert_eq!(
        Rest::of(".mvccpb.KeyValue", &without.encoded).fields,
        but_value
    );
    let decoded = mvccpb::KeyValue::decode(without.encoded).unwrap();
    let value = Bytes::new();
    assert_eq!(
        decoded,
        mvccpb::KeyValue {
            value,
            ..kv.clone()
        }
    );

    let mut told = kv.clone();
    kv.rewrite(&mut mapping);
    let rewritten = raw.rewritten(&mut mapping).unwrap();
    assert_eq!(mvccpb::KeyValue::decode(rewritten).unwrap(), kv);
    told.rewrite(&mut Told(mapping));
    let rewritten = raw.rewritten(&mut Told(mapping)).unwrap();
    assert_eq!(mvccpb::KeyValue::decode(rewritten).unwrap(), told);
}

fn check_range_answer(encoded: &Bytes) {
    let parsed = RangeAnswer::parse(encoded);
    let Ok(response) = pb::RangeResponse::decode(&encoded[..]) else {
        return;
    };
    let answer = match parsed {
        Err(WireError::Repeated) => {
            assert!(repeats(".etcdserverpb.RangeResponse", encoded));
            return;
        }
        answer => answer.expect("what prost decodes"),
    };
    let kvs = answer.kvs.iter().map(|kv| kv.encoded.clone());
    let again = encode_range_answer(answer.header, kvs, answer.more, answer.count);
    let header = Some(response.header.unwrap_or_default());
    let expected = pb::RangeResponse { header, ..response };
    assert_eq!(header.as_ref().map(header_of), Some(answer.header));
    assert_eq!(header, Some(encodable(answer.header)));
    assert_eq!(pb::RangeResponse::decode(again).unwrap(), expected);
}

fn check_txn(encoded: &Bytes) {
    let outcome = txn_outcome(encoded);
    let ranges = range_responses_of_txn(encoded);
    let Ok(response) = pb::TxnResponse::decode(&encoded[..]) else {
        return;
    };
    let repeated = repeats(".etcdserverpb.TxnResponse", encoded);
    match outcome {
        Err(WireError::Repeated) if repeated => {}
        outcome => assert_eq!(outcome, Ok(outcome_of(&response))),
    }
    if repeated {
        return;
    }
    let mut expected = Vec::new();
    for op in response.responses {
        match op.response {
            Some(pb::response_op::Response::ResponseRange(range)) => expected.push(range),
            _ => {
                assert_eq!(ranges, Err(WireError::Malformed));
                return;
            }
        }
    }
    let decode = |range: Bytes| pb::RangeResponse::decode(range).unwrap();
    let ranges: Vec<_> = ranges.unwrap().into_iter().map(decode).collect();
    assert_eq!(ranges, expected);
}

fn outcome_of(response: &pb::TxnResponse) -> TxnOutcome {
    use pb::response_op::Response;
    let mut responses = response.responses.iter();
    TxnOutcome {
        header_revision: response.header.map_or(0, |header| header.revision),
        wrote: responses.any(|op| match &op.response {
            Some(Response::ResponsePut(_)) => true,
            Some(Response::ResponseDeleteRange(delete)) => delete.deleted > 0,
            Some(Response::ResponseTxn(txn)) => outcome_of(txn).wrote,
            _ => false,
        }),
    }
}
