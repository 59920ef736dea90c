//! Tables of what is read from answers without decoding them.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::*;
use crate::etcdserverpb::{DeleteRangeResponse, response_op::Response as Op};

fn txn(ops: Vec<Op>) -> TxnResponse {
    let responses = ops.into_iter().map(|op| ResponseOp { response: Some(op) });
    TxnResponse {
        header: header(9),
        succeeded: true,
        responses: responses.collect(),
    }
}

fn range(count: i64) -> Op {
    Op::ResponseRange(RangeResponse {
        count,
        ..RangeResponse::default()
    })
}

fn delete(deleted: i64) -> Op {
    Op::ResponseDeleteRange(DeleteRangeResponse {
        deleted,
        ..DeleteRangeResponse::default()
    })
}

fn put() -> Op {
    Op::ResponsePut(PutResponse::default())
}

#[test]
fn a_transaction_wrote_if_anything_in_it_did() {
    for (ops, wrote) in [
        (vec![], false),
        (vec![range(3), delete(0)], false),
        (vec![range(3), put()], true),
        (vec![delete(0), delete(2)], true),
        (vec![Op::ResponseTxn(txn(vec![range(1)]))], false),
        (
            vec![Op::ResponseTxn(txn(vec![range(1), put()])), delete(0)],
            true,
        ),
    ] {
        let response = txn(ops);
        let expected = TxnOutcome {
            header_revision: 9,
            wrote,
        };
        assert_eq!(
            txn_outcome(&encode(&response)),
            Ok(expected),
            "{response:?}"
        );
    }
    assert_eq!(txn_outcome(&Bytes::new()), Ok(TxnOutcome::default()));
}

#[test]
fn halves_of_a_transaction_are_refused() {
    for encoded in [
        // Two headers; one operation with two answers, of one kind and of two.
        &b"\x0a\x00\x0a\x00"[..],
        b"\x1a\x04\x12\x00\x12\x00",
        b"\x1a\x04\x0a\x00\x12\x00",
    ] {
        let encoded = Bytes::copy_from_slice(encoded);
        assert_eq!(
            txn_outcome(&encoded),
            Err(WireError::Repeated),
            "{encoded:?}"
        );
    }
}

#[test]
fn the_ranges_of_a_transaction_share_its_buffer() {
    let response = encode(&txn(vec![range(3), range(0)]));
    let ranges = range_responses_of_txn(&response).unwrap();
    let counts = |range: &Bytes| RangeResponse::decode(range.clone()).unwrap().count;
    assert_eq!(ranges.iter().map(counts).collect::<Vec<_>>(), [3, 0]);
    assert!(response.as_ptr_range().contains(&ranges[0].as_ptr()));
    for ops in [
        vec![range(3), put()],
        vec![Op::ResponseTxn(txn(vec![range(1)]))],
    ] {
        let response = encode(&txn(ops));
        assert_eq!(range_responses_of_txn(&response), Err(WireError::Malformed));
    }
    assert_eq!(
        range_responses_of_txn(&Bytes::from_static(b"\x1a\x00")),
        Err(WireError::Malformed)
    );
}

#[test]
fn deleted_keys_are_counted() {
    let deleted = |bytes: &'static [u8]| deleted(&Bytes::from_static(bytes));
    assert_eq!(deleted(b""), Ok(0));
    assert_eq!(deleted(b"\x0a\x00\x10\x05"), Ok(5));
    assert_eq!(deleted(b"\x12\x00"), Err(WireError::Malformed));
}

#[test]
fn keys_are_kept_encoded() {
    let answer = encode(&RangeResponse {
        header: header(9),
        kvs: vec![kv(5), kv(7)],
        more: true,
        count: 8,
    });
    let parsed = RangeAnswer::parse(&answer).unwrap();
    assert_eq!(
        (parsed.header.revision, parsed.more, parsed.count),
        (9, true, 8)
    );
    let [first, second] = &parsed.kvs[..] else {
        panic!("{parsed:?}")
    };
    assert!(answer.as_ptr_range().contains(&first.key.as_ptr()));
    assert!(answer.as_ptr_range().contains(&second.value().as_ptr()));
    assert_eq!((first.create_revision(), second.mod_revision()), (5, 8));
    assert_eq!((first.version(), first.lease()), (2, 9));

    let rewritten = first.rewritten(&mut Times(1 << 30, NEW)).unwrap();
    let rewritten = KeyValue::decode(rewritten).unwrap();
    assert_eq!(
        (rewritten.create_revision, rewritten.mod_revision),
        (5 << 30, 6 << 30)
    );
    let without = second.without_value();
    assert_eq!(without.value(), "");
    assert_eq!(
        without.without_value().encoded.as_ptr(),
        without.encoded.as_ptr()
    );

    let kvs = parsed.kvs.into_iter().map(|kv| kv.encoded);
    assert_eq!(encode_range_answer(parsed.header, kvs, true, 8), answer);
}

#[test]
fn a_list_is_the_same_in_whatever_pieces_it_is_put_together() {
    let kv = |length| KeyValue {
        value: vec![7; length].into(),
        ..kv(5)
    };
    let kvs: Vec<Bytes> = [0, 1, 100, 127, 128, 5000, 3]
        .map(|length| encode(&kv(length)))
        .into();
    for (kvs, more, count) in [(kvs, true, 9), (Vec::new(), false, 0)] {
        let header = peek_header(&encode(&txn(vec![]))).unwrap().unwrap();
        let list = || EncodedList::new(header, kvs.clone(), more, count);
        let whole = list().into_bytes();
        let decoded = RangeResponse::decode(&whole[..]).unwrap();
        assert_eq!(
            (decoded.kvs.len(), decoded.more, decoded.count),
            (kvs.len(), more, count)
        );
        for room in [11, 12, 100, 1000, 16_384] {
            let (mut list, mut pieces) = (list(), BytesMut::new());
            assert_eq!(list.len(), whole.len());
            while !list.is_empty() {
                let before = pieces.len();
                list.put(&mut pieces, room);
                let put = pieces.len() - before;
                assert!(put > 0 && put <= room, "{put} of {room}");
                assert!(list.is_empty() || put + 11 > room, "{put} of {room}");
                assert_eq!(list.len() + pieces.len(), whole.len());
            }
            assert_eq!(pieces, whole, "pieces of {room}");
        }
    }
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for (encoded, error) in [
        (&b"\x0a\x00\x0a\x00"[..], WireError::Repeated),
        (b"\x10\x01", WireError::Malformed),
        (b"\x12\x02\x08\x01", WireError::Malformed),
        (b"\x12\x02\x10", WireError::Malformed),
        (b"\x1a\x00", WireError::Malformed),
    ] {
        let encoded = Bytes::copy_from_slice(encoded);
        assert_eq!(RangeAnswer::parse(&encoded), Err(error), "{encoded:?}");
    }
}
