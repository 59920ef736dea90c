//! Which transactions have a shape; what the whole does is tested over a model of kine, in `testkit`.

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

use super::shape::{self, OnlyIf, Write};

const KEY: Bytes = Bytes::from_static(b"/k");

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put() -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: KEY,
        value: "v".into(),
        ..PutRequest::default()
    }))
}

fn delete() -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: KEY,
        ..DeleteRangeRequest::default()
    }))
}

fn read() -> RequestOp {
    op(Request::RequestRange(RangeRequest {
        key: KEY,
        ..RangeRequest::default()
    }))
}

fn compare(target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: KEY,
        target_union: Some(union),
        ..Compare::default()
    }
}

fn modified(at: i64) -> Compare {
    compare(CompareTarget::Mod, TargetUnion::ModRevision(at))
}

fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

#[test]
fn what_kubernetes_writes_has_a_shape() {
    let table = [
        (
            txn(vec![modified(0)], vec![put()], vec![]),
            OnlyIf::Absent,
            false,
        ),
        (
            txn(vec![modified(5)], vec![put()], vec![read()]),
            OnlyIf::ModifiedAt(5),
            true,
        ),
        (
            txn(vec![modified(5)], vec![delete()], vec![read()]),
            OnlyIf::ModifiedAt(5),
            true,
        ),
        (
            txn(vec![modified(5)], vec![delete()], vec![]),
            OnlyIf::ModifiedAt(5),
            false,
        ),
        (
            txn(vec![], vec![read(), delete()], vec![]),
            OnlyIf::Always,
            false,
        ),
        (
            txn(
                vec![compare(CompareTarget::Version, TargetUnion::Version(0))],
                vec![put()],
                vec![],
            ),
            OnlyIf::Absent,
            false,
        ),
        (
            txn(
                vec![compare(
                    CompareTarget::Create,
                    TargetUnion::CreateRevision(0),
                )],
                vec![put()],
                vec![read()],
            ),
            OnlyIf::Absent,
            true,
        ),
    ];
    for (txn, only_if, reads_else) in table {
        let shape = shape::of(&txn).unwrap_or_else(|| panic!("{txn:?}"));
        assert_eq!(
            (shape.only_if, shape.reads_else),
            (only_if, reads_else),
            "{txn:?}"
        );
        assert_eq!(shape.key, KEY);
        assert_eq!(shape.reads_first, txn.success.len() == 2);
        let deletes = matches!(shape.write, Write::Delete { .. });
        assert_eq!(deletes, txn.success.last() == Some(&delete()));
    }
}

#[test]
fn what_kine_cannot_do_exactly_has_none() {
    let other = |mut compare: Compare| {
        compare.key = "/other".into();
        compare
    };
    let greater = |mut compare: Compare| {
        compare.result = CompareResult::Greater.into();
        compare
    };
    let ranged = op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: KEY,
        range_end: "/l".into(),
        ..DeleteRangeRequest::default()
    }));
    let counted = op(Request::RequestRange(RangeRequest {
        key: KEY,
        count_only: true,
        ..RangeRequest::default()
    }));
    let table = [
        txn(vec![], vec![], vec![]),
        txn(vec![], vec![read()], vec![]),
        txn(vec![modified(5)], vec![put(), put()], vec![]),
        txn(vec![modified(5), modified(6)], vec![put()], vec![]),
        txn(vec![other(modified(5))], vec![put()], vec![]),
        txn(vec![greater(modified(5))], vec![put()], vec![]),
        txn(vec![modified(-5)], vec![put()], vec![]),
        txn(
            vec![compare(CompareTarget::Version, TargetUnion::Version(3))],
            vec![put()],
            vec![],
        ),
        txn(vec![modified(5)], vec![ranged], vec![]),
        txn(vec![modified(5)], vec![put()], vec![counted]),
        txn(vec![modified(5)], vec![put()], vec![put()]),
        txn(vec![modified(5)], vec![read(), put()], vec![]),
    ];
    for txn in table {
        assert_eq!(shape::of(&txn), None, "{txn:?}");
    }
}
