//! Each option by itself, with what etcd answers.

use keyloom_etcd_api::mvccpb::KeyValue;

use super::*;

fn kv(key: &'static str, mod_revision: i64, value: &'static str) -> KeyValue {
    KeyValue {
        key: key.into(),
        create_revision: mod_revision - 1,
        mod_revision,
        version: 10 - mod_revision,
        value: value.into(),
        lease: 0,
    }
}

fn request(target: SortTarget, order: SortOrder) -> RangeRequest {
    RangeRequest {
        sort_target: target.into(),
        sort_order: order.into(),
        ..RangeRequest::default()
    }
}

fn sorted(target: SortTarget, order: SortOrder) -> String {
    let mut kvs = [kv("a", 5, "z"), kv("b", 4, "y"), kv("c", 5, "x")];
    match Order::of(&request(target, order)) {
        Order::ByKey => {}
        Order::CutThenSorted(sorting) | Order::Sorted(sorting) => sorting.sort(&mut kvs),
    }
    let keys = kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key));
    keys.collect()
}

#[test]
fn equals_stay_in_the_order_of_keys_whichever_the_direction() {
    for (target, ascending, descending) in [
        (SortTarget::Key, "abc", "cba"),
        (SortTarget::Version, "acb", "bac"),
        (SortTarget::Create, "bac", "acb"),
        (SortTarget::Mod, "bac", "acb"),
        (SortTarget::Value, "cba", "abc"),
    ] {
        assert_eq!(sorted(target, SortOrder::None), ascending, "{target:?}");
        assert_eq!(sorted(target, SortOrder::Ascend), ascending, "{target:?}");
        assert_eq!(sorted(target, SortOrder::Descend), descending, "{target:?}");
    }
}

#[test]
fn a_limit_cuts_by_key_only_where_nothing_is_sorted_or_filtered() {
    let cuts = |request: &RangeRequest| Order::of(request).cuts_by_key();
    assert!(cuts(&request(SortTarget::Key, SortOrder::Ascend)));
    assert!(cuts(&request(SortTarget::Mod, SortOrder::None)));
    assert!(!cuts(&request(SortTarget::Mod, SortOrder::Ascend)));
    assert!(!cuts(&request(SortTarget::Key, SortOrder::Descend)));
    let filtered = RangeRequest {
        max_mod_revision: -1,
        ..request(SortTarget::Mod, SortOrder::None)
    };
    assert!(!cuts(&filtered));
}

#[test]
fn filters_are_inclusive_and_zero_is_none() {
    let entry = kv("a", 5, "");
    let passes = |min_mod, max_mod, min_create, max_create| {
        let request = RangeRequest {
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
            ..RangeRequest::default()
        };
        super::passes(&request, &entry)
    };
    assert!(passes(0, 0, 0, 0) && passes(5, 5, 4, 4));
    assert!(!passes(6, 0, 0, 0) && !passes(0, 4, 0, 0));
    assert!(!passes(0, 0, 5, 0) && !passes(0, 0, 0, 3));
    assert!(!passes(0, -1, 0, 0));
}

#[test]
fn a_limit_of_zero_and_less_is_none() {
    let limit = |limit| {
        super::limit(&RangeRequest {
            limit,
            ..RangeRequest::default()
        })
    };
    assert_eq!((limit(0), limit(-3), limit(2)), (None, None, Some(2)));
}
