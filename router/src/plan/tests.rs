//! Plans against a brute-force universe of keys.

use std::collections::BTreeSet;

use keyloom_etcd_api::etcdserverpb::{Compare, PutRequest};
use proptest::prelude::*;

use super::*;
use crate::world::{self, Map, Matcher};

/// `/registry/a…` on the default store, `/registry/b…` on tenant-a, `c` by expression on tenant-b,
/// and Keyloom's own keys under a zero byte.
fn map() -> Map {
    let within = |prefix: &'static str, store| {
        let range = KeyRange::prefix(Bytes::from(prefix));
        (Matcher::Within(range), StoreIndex(store))
    };
    Map {
        rules: vec![
            within("/registry/a", 0),
            within("/registry/b", 1),
            within("/other/", 0),
            (Matcher::Has(b'!'), StoreIndex(2)),
        ],
        reserved: Some(KeyRange::prefix(Bytes::from_static(b"\0keyloom/"))),
    }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..RangeRequest::default()
    }
}

fn read(key: &'static str, range_end: &'static str) -> RequestOp {
    crate::ops::op(Request::RequestRange(range(key, range_end)))
}

fn put(key: &'static str) -> RequestOp {
    crate::ops::op(Request::RequestPut(PutRequest {
        key: key.into(),
        ..PutRequest::default()
    }))
}

fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
    crate::ops::op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }))
}

fn compare(key: &'static str, range_end: &'static str) -> Compare {
    Compare {
        key: key.into(),
        range_end: range_end.into(),
        ..Compare::default()
    }
}

fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

fn nested(txn: TxnRequest) -> RequestOp {
    crate::ops::op(Request::RequestTxn(txn))
}

#[test]
fn ranges() {
    let one = |store| RangePlan::One(StoreIndex(store));
    for (key, end, expected) in [
        ("/registry/a", "", one(0)),
        ("/registry/b/x", "", one(1)),
        ("/registry/b/", "/registry/b0", one(1)),
        ("any!", "", one(2)),
        ("\0keyloom/x", "", RangePlan::Merged(Vec::new())),
        ("\0keyloom/x", "\0keyloom/y", RangePlan::Merged(Vec::new())),
        ("b", "a", RangePlan::Merged(Vec::new())),
    ] {
        assert_eq!(plan_range(&map(), &range(key, end)), expected, "{key}");
    }
    let RangePlan::Merged(parts) = plan_range(&map(), &range("/registry/", "/registry0")) else {
        panic!("merged");
    };
    let stores: Vec<_> = parts.iter().map(|part| part.store.0).collect();
    assert_eq!(stores, [0, 1, 2]);
}

/// A range that reaches over Keyloom's own keys is not forwarded, though one store has all of it.
#[test]
fn a_part_that_is_less_than_the_range_is_merged() {
    let only = Map {
        rules: Vec::new(),
        ..map()
    };
    for (key, end) in [
        ("\0", "\0"),
        ("\0keyloom/x", "\0"),
        ("\0", "\0keyloom/x"),
        ("\0keyloom/x", "a"),
    ] {
        let plan = plan_range(&only, &range(key, end));
        assert!(
            matches!(&plan, RangePlan::Merged(parts) if parts.len() == 1),
            "{plan:?}"
        );
    }
}

#[test]
fn puts_and_deletes() {
    assert_eq!(plan_put(&map(), &"/registry/b".into()), Ok(StoreIndex(1)));
    let error = plan_put(&map(), &"\0keyloom/x".into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcdserver: keyloom: key \"\\x00keyloom/x\" is reserved for keyloom"
    );
    let plan = |key: &'static str, range_end: &'static str| {
        let request = DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        };
        plan_delete(&map(), &request)
    };
    assert_eq!(plan("/registry/b", ""), DeletePlan::One(StoreIndex(1)));
    assert_eq!(plan("\0keyloom/x", ""), DeletePlan::Nothing);
    assert_eq!(plan("b", "a"), DeletePlan::Nothing);
    let split = plan("/registry/a", "/registry/c");
    assert!(matches!(split, DeletePlan::Split(parts) if parts.len() == 2));
}

#[test]
fn transactions_on_one_store() {
    let one = |store| TxnPlan::One(StoreIndex(store));
    let kubernetes = |key| txn(vec![compare(key, "")], vec![put(key)], vec![read(key, "")]);
    assert_eq!(plan_txn(&map(), &TxnRequest::default()), one(0));
    assert_eq!(plan_txn(&map(), &kubernetes("/registry/b/x")), one(1));
    assert_eq!(plan_txn(&map(), &kubernetes("x!")), one(2));
    let ranges = txn(
        vec![compare("/registry/b/", "/registry/b0")],
        vec![delete("/registry/b/x", "/registry/b/y"), read("z", "a")],
        vec![nested(kubernetes("/registry/b"))],
    );
    assert_eq!(plan_txn(&map(), &ranges), one(1));
}

#[test]
fn what_reads_over_stores_is_a_snapshot() {
    let all = || read("\0", "\0");
    for txn in [
        txn(
            vec![],
            vec![read("/registry/a", ""), read("/registry/b", "")],
            vec![],
        ),
        txn(
            vec![compare("/registry/a", "")],
            vec![],
            vec![read("/registry/b", "")],
        ),
        txn(vec![compare("\0", "\0")], vec![], vec![]),
        txn(
            vec![],
            vec![nested(txn(vec![], vec![], vec![all()]))],
            vec![],
        ),
        txn(vec![], vec![read("\0keyloom/x", "")], vec![]),
    ] {
        assert_eq!(plan_txn(&map(), &txn), TxnPlan::Snapshot, "{txn:?}");
    }
}

#[test]
fn what_writes_over_stores_is_refused_by_name() {
    let cases = [
        (
            txn(vec![], vec![put("/registry/a"), put("/registry/b")], vec![]),
            "etcdserver: keyloom: transaction spans stores: \
             key \"/registry/a\" is on store \"default\", \
             key \"/registry/b\" is on store \"tenant-a\"",
        ),
        (
            // The branch that writes need not be the one that runs.
            txn(
                vec![compare("/registry/b", "/registry/c")],
                vec![read("\"é!", "")],
                vec![put("/registry/b")],
            ),
            "etcdserver: keyloom: transaction spans stores: \
             range \"/registry/b\" to \"/registry/c\" is on store \"tenant-a\", \
             key \"\\\"\\xc3\\xa9!\" is on store \"tenant-b\"",
        ),
        (
            txn(
                vec![],
                vec![nested(txn(
                    vec![],
                    vec![delete("/registry/b", "\0")],
                    vec![],
                ))],
                vec![],
            ),
            "etcdserver: keyloom: transaction spans stores: \
             range from \"/registry/b\" is on store \"default\", \
             range from \"/registry/b\" is on store \"tenant-a\"",
        ),
        (
            txn(
                vec![compare("\0keyloom/x", "")],
                vec![put("/registry/a")],
                vec![],
            ),
            "etcdserver: keyloom: key \"\\x00keyloom/x\" is reserved for keyloom",
        ),
    ];
    for (txn, expected) in cases {
        let TxnPlan::Refused(refused) = plan_txn(&map(), &txn) else {
            panic!("{txn:?}");
        };
        assert_eq!(refused.to_string(), expected);
    }
    let only = Map {
        rules: Vec::new(),
        ..map()
    };
    let cut = txn(vec![], vec![delete("\0", "\0")], vec![]);
    let TxnPlan::Refused(refused) = plan_txn(&only, &cut) else {
        panic!("refused");
    };
    assert_eq!(
        refused.to_string(),
        "etcdserver: keyloom: transaction with writes touches keys reserved for keyloom: \
         range from \"\\x00\" is on store \"default\""
    );
}

// === properties ===

/// Every key that the drawn bounds can tell apart.
fn universe() -> Vec<Vec<u8>> {
    let bytes = [0, b'a', b'b', b'c', 0xff];
    let mut keys: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
    for length in 1..4 {
        let longer: Vec<_> = keys
            .iter()
            .filter(|key| key.len() == length)
            .flat_map(|key| {
                bytes
                    .iter()
                    .map(move |byte| [key.as_slice(), &[*byte]].concat())
            })
            .collect();
        keys.extend(longer);
    }
    keys
}

fn op() -> impl Strategy<Value = RequestOp> {
    let range = |(key, range_end)| RangeRequest {
        key,
        range_end,
        ..RangeRequest::default()
    };
    let put = |key| PutRequest {
        key,
        ..PutRequest::default()
    };
    let delete = |(key, range_end)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv: false,
    };
    let leaf = prop_oneof![
        4 => world::bounds().prop_map(move |bounds| Request::RequestRange(range(bounds))),
        1 => world::key().prop_map(move |key| Request::RequestPut(put(key))),
        1 => world::bounds().prop_map(move |bounds| Request::RequestDeleteRange(delete(bounds))),
    ];
    let leaf = leaf.prop_map(crate::ops::op);
    leaf.prop_recursive(2, 6, 2, |inner| {
        a_txn(inner).prop_map(|txn| crate::ops::op(Request::RequestTxn(txn)))
    })
}

fn a_txn(op: impl Strategy<Value = RequestOp> + Clone) -> impl Strategy<Value = TxnRequest> {
    let compare = world::bounds().prop_map(|(key, range_end)| Compare {
        key,
        range_end,
        ..Compare::default()
    });
    (
        prop::collection::vec(compare, 0..2),
        prop::collection::vec(op.clone(), 0..3),
        prop::collection::vec(op, 0..2),
    )
        .prop_map(|(compare, success, failure)| txn(compare, success, failure))
}

/// Every range of a transaction.
fn touched(txn: &TxnRequest) -> Vec<KeyRange> {
    let compares = txn.compare.iter().map(|c| (&c.key, &c.range_end));
    let mut ranges: Vec<_> = compares
        .map(|(key, end)| KeyRange::from_request(key, end))
        .collect();
    for op in txn.success.iter().chain(&txn.failure) {
        match op.request.as_ref().unwrap() {
            Request::RequestRange(r) => ranges.push(KeyRange::from_request(&r.key, &r.range_end)),
            Request::RequestPut(put) => ranges.push(KeyRange::key(put.key.clone())),
            Request::RequestDeleteRange(r) => {
                ranges.push(KeyRange::from_request(&r.key, &r.range_end));
            }
            Request::RequestTxn(txn) => ranges.extend(touched(txn)),
        }
    }
    ranges
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_transaction_goes_to_a_store_only_if_all_it_can_touch_is_there(
        map in world::map(),
        txn in a_txn(op().boxed()),
    ) {
        let ranges = touched(&txn);
        let owners: BTreeSet<_> = universe()
            .iter()
            .filter(|key| ranges.iter().any(|range| range.contains(key)))
            .map(|key| map.route(key))
            .collect();
        let by_ranges = map.rules.iter().all(|(rule, _)| matches!(rule, Matcher::Within(_)));
        match (plan_txn(&map, &txn), owners.into_iter().collect::<Vec<_>>().as_slice()) {
            (TxnPlan::One(store), [owner]) => prop_assert_eq!(Some(store), *owner),
            (TxnPlan::One(store), []) => prop_assert_eq!(store, map.default_store()),
            // An expression may touch a range without any of these keys matching it.
            (plan, [Some(_)]) if by_ranges => prop_assert!(false, "{:?} though on one", plan),
            (plan, []) => prop_assert!(false, "{:?} though nothing is touched", plan),
            (TxnPlan::One(_), owners) => prop_assert!(false, "one of {:?}", owners),
            (TxnPlan::Snapshot, _) => prop_assert!(!writes(&txn)),
            (TxnPlan::Refused(_), _) => prop_assert!(writes(&txn)),
        }
    }

    #[test]
    fn a_range_is_covered_by_its_parts(
        map in world::map(),
        (key, range_end) in world::bounds(),
    ) {
        let range = KeyRange::from_request(&key, &range_end);
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let plan = plan_range(&map, &request);
        for key in universe().iter().filter(|key| range.contains(key)) {
            let Some(owner) = map.route(key) else {
                prop_assert!(!matches!(plan, RangePlan::One(_)));
                continue;
            };
            let found = match &plan {
                RangePlan::One(store) => *store == owner,
                RangePlan::Merged(parts) => {
                    let mut parts = parts.iter();
                    parts.any(|part| part.store == owner && part.hull.contains(key))
                }
            };
            prop_assert!(found, "{:?} not in {:?}", key, plan);
        }
    }
}
