//! Tables of requests and the error that etcd gives them.

use super::*;

fn put(key: &'static str) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: Bytes::from(key),
        ..Default::default()
    }))
}

fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: Bytes::from(key),
        range_end: Bytes::from(range_end),
        ..Default::default()
    }))
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest {
        compare: vec![],
        success,
        failure,
    }))
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn txn(success: Vec<RequestOp>) -> Result<(), EtcdError> {
    check_txn(
        &TxnRequest {
            compare: vec![],
            success,
            failure: vec![],
        },
        128,
    )
}

#[test]
fn keys_written_twice_are_refused() {
    let duplicate = Err(EtcdError::DuplicateKey);
    assert_eq!(txn(vec![put("a"), put("a")]), duplicate);
    assert_eq!(txn(vec![put("a"), delete("a", "")]), duplicate);
    assert_eq!(txn(vec![put("b"), delete("a", "c")]), duplicate);
    assert_eq!(
        txn(vec![put("a"), nested(vec![put("a")], vec![])]),
        duplicate
    );
    assert_eq!(
        txn(vec![
            nested(vec![put("a")], vec![]),
            nested(vec![put("a")], vec![])
        ]),
        duplicate
    );
    assert_eq!(
        txn(vec![put("b"), nested(vec![], vec![delete("a", "c")])]),
        duplicate
    );
}

#[test]
fn what_cannot_collide_is_allowed() {
    assert_eq!(txn(vec![put("a"), put("b"), delete("c", "d")]), Ok(()));
    assert_eq!(txn(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()));
    assert_eq!(txn(vec![delete("a", "c"), delete("b", "d")]), Ok(()));
}

/// Seen on etcd 3.4.23 and 3.6.16, which take it.
#[test]
fn a_delete_without_an_end_collides_with_nothing() {
    assert_eq!(txn(vec![put("b"), delete("a", "\0")]), Ok(()));
    assert_eq!(txn(vec![delete("\0", "\0"), put("b")]), Ok(()));
}

#[test]
fn operations_are_counted_as_etcd_counts_them() {
    let many = |n: usize| (0..n).map(|_| delete("a", "")).collect::<Vec<_>>();
    assert_eq!(txn(many(128)), Ok(()));
    assert_eq!(txn(many(129)), Err(EtcdError::TooManyOps));
    // A nested transaction has what its parent leaves.
    assert_eq!(txn(vec![nested(many(127), vec![])]), Ok(()));
    assert_eq!(
        txn(vec![nested(many(128), vec![])]),
        Err(EtcdError::TooManyOps)
    );
}

#[test]
fn operations_are_checked_before_duplicates() {
    assert_eq!(
        txn(vec![put("a"), put("a"), put("")]),
        Err(EtcdError::EmptyKey)
    );
    assert_eq!(
        txn(vec![RequestOp { request: None }]),
        Err(EtcdError::KeyNotFound)
    );
}

#[test]
fn ranges_need_a_key_and_a_known_order() {
    let range = |key: &'static str, sort_order, sort_target| {
        check_range(&RangeRequest {
            key: Bytes::from(key),
            sort_order,
            sort_target,
            ..Default::default()
        })
    };
    assert_eq!(range("", 9, 9), Err(EtcdError::EmptyKey));
    assert_eq!(range("a", 3, 0), Err(EtcdError::InvalidSortOption));
    assert_eq!(range("a", 0, 5), Err(EtcdError::InvalidSortOption));
    assert_eq!(range("a", 2, 4), Ok(()));
}

#[test]
fn puts_say_a_value_or_ignore_it() {
    let request = PutRequest {
        key: Bytes::from("a"),
        ignore_value: true,
        ..Default::default()
    };
    assert_eq!(check_put(&request), Ok(()));
    let request = PutRequest {
        value: Bytes::from("v"),
        ..request
    };
    assert_eq!(check_put(&request), Err(EtcdError::ValueProvided));
    let request = PutRequest {
        key: Bytes::from("a"),
        ignore_lease: true,
        lease: 1,
        ..Default::default()
    };
    assert_eq!(check_put(&request), Err(EtcdError::LeaseProvided));
}

#[test]
fn compaction_moves_forward_and_not_past_the_head() {
    let compact = |revision| {
        check_compaction(
            &CompactionRequest {
                revision,
                physical: false,
            },
            5,
            9,
        )
    };
    assert_eq!(compact(5), Err(EtcdError::Compacted));
    assert_eq!(compact(6), Ok(()));
    assert_eq!(compact(9), Ok(()));
    assert_eq!(compact(10), Err(EtcdError::FutureRev));
}
