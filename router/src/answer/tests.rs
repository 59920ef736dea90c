//! The answers as a client decodes them.

use keyloom_etcd_api::{
    etcdserverpb::{
        DeleteRangeResponse, RangeResponse, ResponseOp as Op, TxnResponse, response_op,
    },
    mvccpb::KeyValue,
};

use super::*;
use keyloom_topology::StoreIndex;

const HEADER: Header = Header {
    cluster_id: 1,
    member_id: 2,
    revision: 30,
    raft_term: 4,
};

fn kv(key: &'static str) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: 3,
        mod_revision: 5,
        version: 2,
        value: "v".into(),
        lease: 7,
    }
}

fn raw(key: &'static str) -> RawKv {
    RawKv::parse(kv(key).encode_to_vec().into()).unwrap()
}

fn joined() -> Joined {
    Joined {
        kvs: vec![raw("a"), raw("b")],
        more: true,
        count: 9,
    }
}

fn response(header: Option<ResponseHeader>) -> RangeResponse {
    RangeResponse {
        header,
        kvs: vec![kv("a"), kv("b")],
        more: true,
        count: 9,
    }
}

#[test]
fn a_range() {
    let encoded = range_response(HEADER, joined());
    let expected = response(Some(response_header(HEADER)));
    assert_eq!(encoded, expected.encode_to_vec());
}

#[test]
fn a_delete_is_the_sum_of_its_parts() {
    let part = |store, deleted, prev_kvs| PartDeleted {
        store: StoreIndex(store),
        deleted,
        prev_kvs,
        revision: Some(9),
    };
    let parts = vec![
        part(0, 2, vec![raw("a"), raw("c")]),
        part(1, 1, vec![raw("b")]),
    ];
    let encoded = delete_range_response(HEADER, join_deleted(parts));
    let expected = DeleteRangeResponse {
        header: Some(response_header(HEADER)),
        deleted: 3,
        prev_kvs: vec![kv("a"), kv("b"), kv("c")],
    };
    assert_eq!(encoded, expected.encode_to_vec());
}

#[test]
fn a_transaction_has_the_inner_headers_of_etcd() {
    let nested = TxnAnswer {
        succeeded: false,
        responses: vec![OpAnswer::Range(joined())],
    };
    let answer = TxnAnswer {
        succeeded: true,
        responses: vec![OpAnswer::Range(joined()), OpAnswer::Txn(nested)],
    };
    let encoded = txn_response(HEADER, answer);
    let range = || Op {
        response: Some(response_op::Response::ResponseRange(response(Some(
            ResponseHeader {
                revision: 30,
                ..ResponseHeader::default()
            },
        )))),
    };
    let nested = TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: false,
        responses: vec![range()],
    };
    let expected = TxnResponse {
        header: Some(response_header(HEADER)),
        succeeded: true,
        responses: vec![
            range(),
            Op {
                response: Some(response_op::Response::ResponseTxn(nested)),
            },
        ],
    };
    assert_eq!(encoded, expected.encode_to_vec());
}
