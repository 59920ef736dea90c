//! Tables of messages and what becomes of them.

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::{
    FILE_DESCRIPTOR_SET, etcdserverpb,
    etcdserverpb::{
        Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, ResponseOp,
        TxnRequest, TxnResponse, compare::TargetUnion, response_op::Response,
    },
    mvccpb,
    mvccpb::KeyValue,
    wire,
};

mod answers;
mod api;
mod generate;
mod oracle;
mod properties;
mod typed;

/// Multiplies every revision, which widens it, and takes the header that it is given.
struct Times(i64, Header);

impl Rewrite for Times {
    fn header(&mut self, header: Header) -> Header {
        Header {
            revision: header.revision * self.0,
            ..self.1
        }
    }

    fn revision(&mut self, field: RevisionField, revision: i64) -> i64 {
        match (field, revision) {
            (RevisionField::Compare(_), 0) => 77,
            (_, revision) => revision * self.0,
        }
    }
}

fn kv(revision: i64) -> KeyValue {
    KeyValue {
        key: "key".into(),
        create_revision: revision,
        mod_revision: revision + 1,
        version: 2,
        value: "v".repeat(120).into(),
        lease: 9,
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision,
        raft_term: 3,
    })
}

const NEW: Header = Header {
    cluster_id: u64::MAX,
    member_id: 0,
    revision: 0,
    raft_term: 300,
};

fn new_header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 0,
        revision,
        raft_term: 300,
    })
}

fn encode(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

#[test]
fn lengths_follow_what_they_enclose() {
    let nest = |header: &dyn Fn(i64) -> Option<ResponseHeader>, factor: i64| {
        let kv = |revision| KeyValue {
            create_revision: revision * factor,
            mod_revision: (revision + 1) * factor,
            ..kv(revision)
        };
        let put = PutResponse {
            header: header(5 * factor),
            prev_kv: Some(kv(4)),
        };
        let inner = TxnResponse {
            header: header(5 * factor),
            succeeded: true,
            responses: vec![ResponseOp {
                response: Some(Response::ResponsePut(put)),
            }],
        };
        TxnResponse {
            header: header(5 * factor),
            succeeded: true,
            responses: vec![ResponseOp {
                response: Some(Response::ResponseTxn(inner)),
            }],
        }
    };
    let factor = 1 << 40;
    let rewritten = rewrite(
        Message::TxnResponse,
        &encode(&nest(&header, 1)),
        &mut Times(factor, NEW),
    )
    .unwrap();
    assert_eq!(
        TxnResponse::decode(rewritten).unwrap(),
        nest(&new_header, factor)
    );
}

/// Adds to every revision, which mostly keeps its width.
struct Plus(i64);

impl Rewrite for Plus {
    fn header(&mut self, header: Header) -> Header {
        Header {
            revision: header.revision + self.0,
            ..header
        }
    }

    fn revision(&mut self, _: RevisionField, revision: i64) -> i64 {
        revision + self.0
    }
}

#[test]
fn what_keeps_its_width_is_rewritten_where_it_stands() {
    let list = |plus: i64| RangeResponse {
        header: header(100 + plus),
        kvs: (1..50).map(|revision| kv(revision + plus)).collect(),
        more: false,
        count: 49,
    };
    for (plus, stays) in [(5, true), (1000, false)] {
        let encoded = encode(&list(0));
        let at = encoded.as_ptr();
        let rewritten = rewrite_owned(Message::RangeResponse, encoded, &mut Plus(plus)).unwrap();
        assert_eq!(rewritten.as_ptr() == at, stays, "plus {plus}");
        assert_eq!(RangeResponse::decode(rewritten).unwrap(), list(plus));
    }
    let shared = encode(&list(0));
    let kept = shared.clone();
    rewrite_owned(Message::RangeResponse, shared, &mut Plus(5)).unwrap();
    assert_eq!(
        RangeResponse::decode(kept).unwrap(),
        list(0),
        "another's bytes changed"
    );
}

#[test]
fn what_does_not_change_is_not_copied() {
    let encoded = encode(&PutRequest::default());
    let put = encode(&RangeResponse {
        header: header(1),
        kvs: vec![kv(1)],
        more: true,
        count: 4,
    });
    let mut same = Times(
        1,
        Header {
            cluster_id: 1,
            member_id: 2,
            revision: 0,
            raft_term: 3,
        },
    );
    let rewritten = rewrite(Message::RangeResponse, &put, &mut same).unwrap();
    assert_eq!(rewritten.as_ptr(), put.as_ptr());
    let rewritten = rewrite(Message::PutRequest, &encoded, &mut same).unwrap();
    assert_eq!(rewritten, encoded);
}

#[test]
fn absent_headers_stay_absent_and_empty_ones_are_filled() {
    let rewrite = |bytes: &'static [u8]| {
        let bytes = Bytes::from_static(bytes);
        rewrite(Message::PutResponse, &bytes, &mut Times(2, NEW)).unwrap()
    };
    assert_eq!(rewrite(b""), "");
    assert_eq!(
        PutResponse::decode(rewrite(b"\x0a\x00")).unwrap().header,
        new_header(0)
    );
    // A field of the header that nobody knows stays, in front of what is added.
    assert_eq!(
        rewrite(b"\x0a\x03\x78\xff\x01"),
        b"\x0a\x11\x78\xff\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\xac\x02"[..]
    );
}

#[test]
fn comparisons_are_rewritten_where_etcd_compares_revisions() {
    let compare = |target, union| Compare {
        result: 0,
        target,
        key: "k".into(),
        target_union: union,
        range_end: Bytes::new(),
    };
    let (version, create) = (TargetUnion::Version, TargetUnion::CreateRevision);
    let (modified, value) = (TargetUnion::ModRevision, TargetUnion::Value);
    let value = value(Bytes::from("v"));
    for (target, before, after) in [
        (2, Some(modified(5)), Some(modified(10))),
        (2, Some(modified(0)), Some(modified(77))),
        (2, None, Some(modified(77))),
        (2, Some(create(5)), Some(create(5))),
        (2, Some(value.clone()), Some(value.clone())),
        (1, Some(create(5)), Some(create(10))),
        (1, None, Some(create(77))),
        (1, Some(modified(5)), Some(modified(5))),
        (0, None, None),
        (0, Some(version(5)), Some(version(5))),
        (0, Some(modified(5)), Some(modified(5))),
        (3, None, None),
        (3, Some(value.clone()), Some(value)),
        (4, Some(TargetUnion::Lease(5)), Some(TargetUnion::Lease(5))),
        (9, Some(modified(5)), Some(modified(5))),
    ] {
        let txn = |union| TxnRequest {
            compare: vec![compare(target, union)],
            ..TxnRequest::default()
        };
        let rewritten = rewrite(
            Message::TxnRequest,
            &encode(&txn(before.clone())),
            &mut Times(2, NEW),
        );
        assert_eq!(
            TxnRequest::decode(rewritten.unwrap()).unwrap(),
            txn(after),
            "target {target} with {before:?}"
        );
    }
}

#[test]
fn the_way_of_comparing_is_told_whatever_the_order() {
    struct Seen(Vec<(RevisionField, i64)>);
    impl Rewrite for Seen {
        fn header(&mut self, header: Header) -> Header {
            header
        }
        fn revision(&mut self, field: RevisionField, revision: i64) -> i64 {
            self.0.push((field, revision));
            revision
        }
    }
    let cases: [(&'static [u8], _); 7] = [
        (b"\x0a\x04\x10\x02\x30\x05", Some((Comparison::Equal, 5))),
        (
            b"\x0a\x06\x30\x05\x10\x02\x08\x01",
            Some((Comparison::Greater, 5)),
        ),
        (
            b"\x0a\x06\x30\x05\x08\x02\x10\x02",
            Some((Comparison::Less, 5)),
        ),
        (b"\x0a\x04\x08\x03\x10\x01", Some((Comparison::NotEqual, 0))),
        // Of an enumeration, decoders keep 32 bits.
        (
            b"\x0a\x0e\x08\x81\x80\x80\x80\x10\x10\x82\x80\x80\x80\x10\x30\x05",
            Some((Comparison::Greater, 5)),
        ),
        // An unknown result always holds.
        (b"\x0a\x06\x30\x05\x08\x04\x10\x02", None),
        // The last member of the oneof counts.
        (b"\x0a\x06\x30\x05\x20\x05\x10\x02", None),
    ];
    for (encoded, place) in cases {
        let mut seen = Seen(vec![]);
        rewrite(Message::TxnRequest, &Bytes::from_static(encoded), &mut seen).unwrap();
        let place = place.map(|(comparison, value)| (RevisionField::Compare(comparison), value));
        assert_eq!(seen.0, Vec::from_iter(place), "{encoded:?}");
    }
}

#[test]
fn each_revision_of_a_range_has_its_place() {
    struct Mark;
    impl Rewrite for Mark {
        fn header(&mut self, header: Header) -> Header {
            header
        }
        fn revision(&mut self, field: RevisionField, revision: i64) -> i64 {
            match field {
                RevisionField::ReadAt => revision + 100,
                RevisionField::AtLeast => revision + 200,
                RevisionField::AtMost => revision + 300,
                _ => 0,
            }
        }
    }
    let range = |values: [i64; 5]| RangeRequest {
        key: "a".into(),
        limit: 9,
        revision: values[0],
        min_mod_revision: values[1],
        max_mod_revision: values[2],
        min_create_revision: values[3],
        max_create_revision: values[4],
        ..RangeRequest::default()
    };
    let rewritten = rewrite(
        Message::RangeRequest,
        &encode(&range([1, 2, 3, 4, 5])),
        &mut Mark,
    );
    assert_eq!(
        RangeRequest::decode(rewritten.unwrap()).unwrap(),
        range([101, 202, 303, 204, 305])
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    use WireError::{EmptyRangeEnd, Malformed, Repeated, TooDeep};
    let deep = |levels: usize| {
        let mut encoded = Vec::new();
        for level in 0..levels {
            // TxnRequest.success and RequestOp.request_txn in turn.
            let tag = if (levels - level) % 2 == 1 {
                0x12
            } else {
                0x22
            };
            let mut outer = vec![tag];
            prost::encoding::encode_varint(encoded.len() as u64, &mut outer);
            outer.extend(encoded);
            encoded = outer;
        }
        Bytes::from(encoded)
    };
    let cases: [(Message, &'static [u8], WireError); 22] = [
        (Message::PutRequest, b"\x00", Malformed),
        (Message::PutRequest, b"\x08", Malformed),
        (Message::PutRequest, b"\x08\x80", Malformed),
        (Message::PutRequest, b"\x0a\x02a", Malformed),
        (
            Message::PutRequest,
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            Malformed,
        ),
        (
            Message::PutRequest,
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            Malformed,
        ),
        (Message::PutRequest, b"\x80\x80\x80\x80\x10\x00", Malformed),
        (Message::PutRequest, b"\x0f", Malformed),
        (Message::PutRequest, b"\x7b\x08\x01", Malformed),
        (Message::PutRequest, b"\x7b\x84\x01", Malformed),
        (Message::CompactionRequest, b"\x0a\x00", Malformed),
        (Message::PutResponse, b"\x08\x00", Malformed),
        (Message::RangeRequest, b"\x0a\x01a\x12\x00", EmptyRangeEnd),
        (
            Message::DeleteRangeRequest,
            b"\x0a\x01a\x12\x00",
            EmptyRangeEnd,
        ),
        (Message::TxnRequest, b"\x0a\x03\x82\x04\x00", EmptyRangeEnd),
        (
            Message::TxnRequest,
            b"\x12\x04\x0a\x02\x12\x00",
            EmptyRangeEnd,
        ),
        (
            Message::TxnRequest,
            b"\x1a\x04\x1a\x02\x12\x00",
            EmptyRangeEnd,
        ),
        (Message::WatchRequest, b"\x0a\x02\x12\x00", EmptyRangeEnd),
        (Message::PutResponse, b"\x0a\x00\x0a\x00", Repeated),
        (Message::PutResponse, b"\x12\x00\x12\x00", Repeated),
        (Message::WatchRequest, b"\x0a\x00\x12\x00", Repeated),
        (Message::TxnRequest, b"\x12\x04\x0a\x00\x12\x00", Repeated),
    ];
    for (message, encoded, error) in cases {
        let rewritten = rewrite(message, &Bytes::from_static(encoded), &mut Times(1, NEW));
        assert_eq!(rewritten, Err(error), "{message:?} {encoded:?}");
    }
    let nested = |levels| rewrite(Message::TxnRequest, &deep(levels), &mut Times(1, NEW));
    assert!(TxnRequest::decode(deep(100)).is_ok() && nested(100).is_ok());
    assert!(TxnRequest::decode(deep(101)).is_err());
    assert_eq!(nested(101), Err(TooDeep));
    let groups = |levels| {
        let encoded = [b"\x7b".repeat(levels), b"\x7c".repeat(levels)].concat();
        rewrite(Message::PutRequest, &encoded.into(), &mut Times(1, NEW))
    };
    assert!(groups(100).is_ok());
    assert_eq!(groups(101), Err(TooDeep));
    assert_eq!(groups(1_000_000), Err(TooDeep));
}

#[test]
fn a_header_is_peeked_at() {
    let peek = |bytes: &'static [u8]| peek_header(&Bytes::from_static(bytes));
    assert_eq!(peek(b""), Ok(None));
    assert_eq!(peek(b"\x10\x01"), Ok(None));
    let header = Header {
        revision: 7,
        ..Header::default()
    };
    assert_eq!(peek(b"\x10\x01\x0a\x02\x18\x07"), Ok(Some(header)));
    assert_eq!(peek(b"\x08\x01"), Err(WireError::Malformed));
}

/// Notes what it is asked for.
#[derive(Default)]
struct Asked(Vec<(String, RevisionField, i64)>);

impl Rewrite for Asked {
    const WANTS_KEYS: bool = true;

    fn header(&mut self, header: Header) -> Header {
        header
    }

    fn revision(&mut self, _: RevisionField, _: i64) -> i64 {
        unreachable!("the keys are wanted")
    }

    fn revision_beside(
        &mut self,
        keys: Option<KeysBeside<'_>>,
        field: RevisionField,
        revision: i64,
    ) -> i64 {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let keys = keys.map_or_else(String::new, |keys| {
            format!("{}..{}", text(keys.key), text(keys.range_end))
        });
        self.0.push((keys, field, revision));
        revision
    }
}

#[test]
fn a_revision_is_told_the_keys_that_it_is_about() {
    let read = |key: &'static str, range_end: &'static str| etcdserverpb::RequestOp {
        request: Some(etcdserverpb::request_op::Request::RequestRange(
            RangeRequest {
                key: key.into(),
                range_end: range_end.into(),
                revision: 4,
                max_mod_revision: 6,
                ..RangeRequest::default()
            },
        )),
    };
    let inner = TxnRequest {
        compare: vec![Compare {
            target: 2,
            key: "c".into(),
            range_end: "d".into(),
            target_union: Some(TargetUnion::ModRevision(3)),
            ..Compare::default()
        }],
        success: vec![read("e", "")],
        failure: vec![read("f", "g")],
    };
    let outer = TxnRequest {
        success: vec![etcdserverpb::RequestOp {
            request: Some(etcdserverpb::request_op::Request::RequestTxn(inner)),
        }],
        ..TxnRequest::default()
    };
    let mut asked = Asked::default();
    rewrite(Message::TxnRequest, &encode(&outer), &mut asked).unwrap();
    let compare = RevisionField::Compare(Comparison::Equal);
    let (at, most) = (RevisionField::ReadAt, RevisionField::AtMost);
    let expected = [
        ("c..d", compare, 3),
        ("e..", at, 4),
        ("e..", most, 6),
        ("f..g", at, 4),
        ("f..g", most, 6),
    ];
    assert_eq!(
        asked.0,
        expected.map(|(keys, field, r)| (keys.to_owned(), field, r))
    );

    let mut asked = Asked::default();
    let compaction = etcdserverpb::CompactionRequest {
        revision: 8,
        physical: true,
    };
    rewrite(Message::CompactionRequest, &encode(&compaction), &mut asked).unwrap();
    assert_eq!(asked.0, [(String::new(), RevisionField::Compact, 8)]);
}

#[test]
fn the_revisions_of_an_event_are_told_its_key() {
    let event = mvccpb::Event {
        r#type: 0,
        kv: Some(kv(9)),
        prev_kv: Some(KeyValue {
            key: "before".into(),
            ..kv(4)
        }),
    };
    let answer = etcdserverpb::WatchResponse {
        events: vec![event],
        ..etcdserverpb::WatchResponse::default()
    };
    let exact = |(key, r): (&str, i64)| (format!("{key}.."), RevisionField::Exact, r);
    let expected = [("key", 9), ("key", 10), ("before", 4), ("before", 5)].map(exact);
    let mut asked = Asked::default();
    rewrite(Message::WatchResponse, &encode(&answer), &mut asked).unwrap();
    assert_eq!(asked.0, expected);

    let mut asked = Asked::default();
    let events = WatchAnswer::parse(&encode(&answer)).unwrap().events;
    events[0].rewritten(&mut asked).unwrap();
    assert_eq!(asked.0, expected);
}
