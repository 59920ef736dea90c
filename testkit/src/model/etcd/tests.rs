//! Tables for etcd's semantics. That they are etcd's is checked by running generated programs
//! against real servers.

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{
        Compare, RequestOp,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use super::*;

fn get(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..RangeRequest::default()
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn delete(key: &'static str, end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..DeleteRangeRequest::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn compare(target: CompareTarget, result: CompareResult, union: TargetUnion) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: "a".into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// `a` at 2 and 5, `b` at 3, `c` at 4.
fn three_keys() -> Etcd {
    let mut etcd = Etcd::default();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("a", "0")] {
        etcd.put(&put(key, value)).unwrap();
    }
    etcd
}

fn keys(kvs: &[KeyValue]) -> String {
    kvs.iter()
        .map(|kv| std::str::from_utf8(&kv.key).unwrap())
        .collect()
}

#[test]
fn an_empty_etcd_is_at_revision_1() {
    let answer = Etcd::default().range(&get("a", "")).unwrap();
    assert_eq!(answer.header.unwrap().revision, 1);
    assert_eq!((answer.count, answer.more), (0, false));
}

#[test]
fn ranges_are_ordered_limited_and_filtered() {
    let etcd = three_keys();
    let table: &[(&str, i64, bool, RangeRequest)] = &[
        ("abc", 3, false, get("a", "z")),
        ("bc", 2, false, get("b", "\0")),
        ("", 0, false, get("b", "a")),
        (
            "ab",
            3,
            true,
            RangeRequest {
                limit: 2,
                ..get("a", "z")
            },
        ),
        (
            "abc",
            3,
            false,
            RangeRequest {
                limit: 3,
                ..get("a", "z")
            },
        ),
        (
            "abc",
            3,
            false,
            RangeRequest {
                limit: -1,
                ..get("a", "z")
            },
        ),
        (
            "",
            3,
            false,
            RangeRequest {
                count_only: true,
                limit: 1,
                ..get("a", "z")
            },
        ),
        (
            "b",
            3,
            false,
            RangeRequest {
                max_mod_revision: 3,
                ..get("a", "z")
            },
        ),
        (
            "ac",
            3,
            false,
            RangeRequest {
                min_mod_revision: 4,
                ..get("a", "z")
            },
        ),
        (
            "a",
            3,
            false,
            RangeRequest {
                max_create_revision: 2,
                ..get("a", "z")
            },
        ),
        (
            "b",
            3,
            true,
            RangeRequest {
                min_create_revision: 3,
                limit: 1,
                ..get("a", "z")
            },
        ),
        (
            "ab",
            2,
            false,
            RangeRequest {
                revision: 3,
                ..get("a", "z")
            },
        ),
    ];
    for (expected, count, more, request) in table {
        let answer = etcd.range(request).unwrap();
        assert_eq!(keys(&answer.kvs), *expected, "{request:?}");
        assert_eq!((answer.count, answer.more), (*count, *more), "{request:?}");
        assert_eq!(answer.header.unwrap().revision, 5, "{request:?}");
    }
}

#[test]
fn an_order_sees_all_keys_and_no_order_one_more_than_asked() {
    let etcd = three_keys();
    let sorted = |order: SortOrder, target: SortTarget, limit| {
        let answer = etcd.range(&RangeRequest {
            sort_order: order.into(),
            sort_target: target.into(),
            limit,
            ..get("a", "z")
        });
        keys(&answer.unwrap().kvs)
    };
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Key, 0), "cba");
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Mod, 0), "bca");
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Create, 2), "cb");
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Version, 0), "abc");
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Value, 0), "abc");
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Mod, 1), "b");
    assert_eq!(sorted(SortOrder::None, SortTarget::Mod, 0), "bca");
    assert_eq!(sorted(SortOrder::None, SortTarget::Mod, 1), "b");
    assert_eq!(
        sorted(SortOrder::None, SortTarget::Version, 1),
        "b",
        "of a and b"
    );
}

#[test]
fn keys_only_leaves_out_values_after_sorting_by_them() {
    let answer = three_keys().range(&RangeRequest {
        keys_only: true,
        sort_target: SortTarget::Value.into(),
        sort_order: SortOrder::Descend.into(),
        ..get("a", "z")
    });
    let kvs = answer.unwrap().kvs;
    assert_eq!(keys(&kvs), "cba");
    assert!(kvs.iter().all(|kv| kv.value.is_empty()));
}

#[test]
fn compaction_moves_the_lowest_revision() {
    let mut etcd = three_keys();
    let compact = |etcd: &mut Etcd, revision| {
        let request = CompactionRequest {
            revision,
            physical: false,
        };
        etcd.compact(&request)
            .map(|answer| answer.header.unwrap().revision)
    };
    let at = |etcd: &Etcd, revision| {
        let request = RangeRequest {
            revision,
            ..get("a", "z")
        };
        etcd.range(&request).map(|answer| answer.count)
    };
    assert_eq!(compact(&mut etcd, 6), Err(EtcdError::FutureRev));
    assert_eq!(compact(&mut etcd, 4), Ok(5));
    assert_eq!(compact(&mut etcd, 4), Err(EtcdError::Compacted));
    assert_eq!(at(&etcd, 3), Err(EtcdError::Compacted));
    assert_eq!(at(&etcd, 4), Ok(3));
    assert_eq!(at(&etcd, 6), Err(EtcdError::FutureRev));
    assert_eq!(at(&etcd, -7), Ok(3), "negative is now");
}

#[test]
fn a_put_can_keep_what_was_there() {
    let mut etcd = three_keys();
    let keep = |key| PutRequest {
        ignore_value: true,
        prev_kv: true,
        ..put(key, "")
    };
    assert_eq!(etcd.put(&keep("none")), Err(EtcdError::KeyNotFound));
    let answer = etcd.put(&keep("a")).unwrap();
    assert_eq!(answer.header.unwrap().revision, 6);
    assert_eq!(answer.prev_kv.unwrap().mod_revision, 5);
    let kv = etcd.range(&get("a", "")).unwrap().kvs.remove(0);
    assert_eq!(
        (&kv.value[..], kv.version, kv.mod_revision),
        (&b"0"[..], 3, 6)
    );
}

#[test]
fn deleting_nothing_takes_no_revision() {
    let mut etcd = three_keys();
    let answer = etcd.delete_range(&delete("x", "z")).unwrap();
    assert_eq!((answer.deleted, answer.header.unwrap().revision), (0, 5));
    let request = DeleteRangeRequest {
        prev_kv: true,
        ..delete("a", "c")
    };
    let answer = etcd.delete_range(&request).unwrap();
    assert_eq!((answer.deleted, answer.header.unwrap().revision), (2, 6));
    assert_eq!(keys(&answer.prev_kvs), "ab");
}

#[test]
fn every_comparison() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    // `a`: created at 2, modified at 5, version 2, value "0".
    let table = [
        (compare(Mod, Equal, TargetUnion::ModRevision(5)), true),
        (compare(Mod, Less, TargetUnion::ModRevision(5)), false),
        (
            compare(Create, Greater, TargetUnion::CreateRevision(1)),
            true,
        ),
        (compare(Version, NotEqual, TargetUnion::Version(2)), false),
        (compare(Value, Equal, TargetUnion::Value("0".into())), true),
        (compare(Value, Less, TargetUnion::Value("1".into())), true),
        (compare(Lease, Equal, TargetUnion::Lease(0)), true),
        // A field that does not fit its target counts as 0.
        (compare(Mod, Equal, TargetUnion::Version(5)), false),
        (compare(Mod, Greater, TargetUnion::Version(5)), true),
    ];
    let mut etcd = three_keys();
    for (compare, succeeded) in table {
        let txn = TxnRequest {
            compare: vec![compare.clone()],
            ..TxnRequest::default()
        };
        assert_eq!(etcd.txn(&txn).unwrap().succeeded, succeeded, "{compare:?}");
    }
    let absent = |union, target| Compare {
        key: "none".into(),
        ..compare(target, Equal, union)
    };
    let over_range = |end: &'static str, result| Compare {
        range_end: end.into(),
        ..compare(Create, result, TargetUnion::CreateRevision(4))
    };
    let table = [
        (absent(TargetUnion::ModRevision(0), Mod), true),
        (absent(TargetUnion::Version(0), Version), true),
        (absent(TargetUnion::Value(Bytes::new()), Value), false),
        (over_range("c", Less), true),
        (over_range("z", Less), false),
    ];
    for (compare, succeeded) in table {
        let txn = TxnRequest {
            compare: vec![compare.clone()],
            ..TxnRequest::default()
        };
        assert_eq!(etcd.txn(&txn).unwrap().succeeded, succeeded, "{compare:?}");
    }
}

#[test]
fn a_transaction_sees_its_own_writes_at_its_own_revision() {
    let mut etcd = three_keys();
    let nested = TxnRequest {
        // The comparison sees the state before the transaction.
        compare: vec![compare(
            CompareTarget::Value,
            CompareResult::Equal,
            TargetUnion::Value("0".into()),
        )],
        success: vec![op(Request::RequestPut(put("d", "nested")))],
        failure: vec![],
    };
    let txn = TxnRequest {
        success: vec![
            op(Request::RequestRange(get("a", "z"))),
            op(Request::RequestDeleteRange(delete("x", ""))),
            op(Request::RequestPut(put("a", "new"))),
            op(Request::RequestRange(get("a", "z"))),
            op(Request::RequestTxn(nested)),
            op(Request::RequestDeleteRange(delete("b", ""))),
            op(Request::RequestRange(get("a", "z"))),
        ],
        ..TxnRequest::default()
    };
    let answer = etcd.txn(&txn).unwrap();
    assert!(answer.succeeded);
    assert_eq!(answer.header.unwrap().revision, 6);
    let inner: Vec<_> = answer
        .responses
        .iter()
        .map(|response| match response.response.as_ref().unwrap() {
            Response::ResponseRange(range) => (range.header, keys(&range.kvs)),
            Response::ResponsePut(put) => (put.header, String::new()),
            Response::ResponseDeleteRange(delete) => (delete.header, String::new()),
            Response::ResponseTxn(txn) => (txn.header, txn.succeeded.to_string()),
        })
        .map(|(header, seen)| (header.unwrap().revision, seen))
        .collect();
    let expected = [
        (5, "abc"),
        (5, ""),
        (6, ""),
        (6, "abc"),
        (0, "true"),
        (6, ""),
        (6, "acd"),
    ];
    assert_eq!(
        inner,
        expected.map(|(revision, seen)| (revision, seen.to_owned()))
    );
    assert_eq!(etcd.keyspace().changes(6).len(), 3);
}

#[test]
fn a_transaction_is_checked_before_it_changes_anything() {
    let mut etcd = three_keys();
    let at = |revision| {
        op(Request::RequestRange(RangeRequest {
            revision,
            ..get("a", "")
        }))
    };
    let table = [
        (at(6), Err(EtcdError::FutureRev)),
        (at(5), Ok(6)),
        (at(-1), Ok(7)),
        (at(-2), Err(EtcdError::Compacted)),
    ];
    for (range, expected) in table {
        let txn = TxnRequest {
            success: vec![op(Request::RequestPut(put("a", "x"))), range.clone()],
            ..TxnRequest::default()
        };
        let answer = etcd.txn(&txn).map(|answer| answer.header.unwrap().revision);
        assert_eq!(answer, expected, "{range:?}");
    }
    assert_eq!(etcd.revision(), 7);
}

#[test]
fn only_the_chosen_branch_is_checked() {
    let mut etcd = three_keys();
    let future = op(Request::RequestRange(RangeRequest {
        revision: 99,
        ..get("a", "")
    }));
    let txn = TxnRequest {
        failure: vec![future],
        ..TxnRequest::default()
    };
    assert_eq!(etcd.txn(&txn).unwrap().header.unwrap().revision, 5);
}

#[test]
fn a_lease_takes_its_keys_with_it_at_one_revision() {
    use keyloom_etcd_api::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest,
    };
    let mut etcd = Etcd::default();
    let grant = LeaseGrantRequest { ttl: 1, id: 7 };
    assert_eq!(
        etcd.lease_grant(&grant).unwrap().ttl,
        2,
        "the least that etcd grants"
    );
    assert_eq!(etcd.lease_grant(&grant), Err(EtcdError::LeaseExist));
    let with_lease = |key, lease| PutRequest {
        lease,
        ..put(key, "v")
    };
    assert_eq!(etcd.put(&with_lease("a", 8)), Err(EtcdError::LeaseNotFound));
    for key in ["a", "b", "c"] {
        etcd.put(&with_lease(key, 7)).unwrap();
    }
    etcd.put(&put("b", "free again")).unwrap();
    etcd.advance(1);
    assert_eq!(
        etcd.lease_keep_alive(&LeaseKeepAliveRequest { id: 7 }).ttl,
        2
    );
    etcd.advance(1);
    let left = etcd.lease_time_to_live(&LeaseTimeToLiveRequest { id: 7, keys: true });
    assert_eq!(
        (left.ttl, left.granted_ttl, left.keys),
        (1, 2, vec!["a".into(), "c".into()])
    );
    etcd.advance(1);
    assert_eq!(etcd.revision(), 6);
    assert_eq!(keys(&etcd.range(&get("a", "z")).unwrap().kvs), "b");
    let left = etcd.lease_time_to_live(&LeaseTimeToLiveRequest { id: 7, keys: true });
    assert_eq!(left.ttl, -1);
}
