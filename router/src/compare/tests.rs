//! Comparisons against a copy of what etcd does.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion},
    mvccpb::KeyValue,
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::world;

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0_i64..4).prop_map(TargetUnion::Version),
        (0_i64..40).prop_map(TargetUnion::CreateRevision),
        (0_i64..40).prop_map(TargetUnion::ModRevision),
        (0_i64..2).prop_map(TargetUnion::Lease),
        prop::sample::select(vec!["", "x", "y"]).prop_map(|value| TargetUnion::Value(value.into())),
    ];
    let union = prop::option::weighted(0.9, union);
    (0..4, 0..5, world::bounds(), union).prop_map(
        |(result, target, (key, range_end), target_union)| Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        },
    )
}

fn raw(kv: &KeyValue) -> RawKv {
    RawKv::parse(kv.encode_to_vec().into()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_compare_holds_where_it_does_in_etcd(world in world::world(0), compare in compare()) {
        let read = world.union.range(&read_of(&compare));
        let kvs: Vec<_> = read.kvs.iter().map(raw).collect();
        prop_assert_eq!(holds(&compare, &kvs), world.union.holds(&compare));
    }
}

/// Of `TestCompareEmpty` and `TestCompareRange`'s kind: what is easy to get wrong, by hand.
#[test]
fn what_holds() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let kv = raw(&KeyValue {
        key: "k".into(),
        create_revision: 3,
        mod_revision: 5,
        version: 2,
        value: "v".into(),
        lease: 7,
    });
    let both = [kv.clone(), raw(&KeyValue::default())];
    let (one, none) = (std::slice::from_ref(&kv), &[][..]);
    let value = |text: &'static str| Some(TargetUnion::Value(text.into()));
    let rows = [
        (one, Mod, Equal, Some(TargetUnion::ModRevision(5)), true),
        (one, Mod, Less, Some(TargetUnion::ModRevision(5)), false),
        (one, Mod, Greater, Some(TargetUnion::ModRevision(4)), true),
        (
            one,
            Create,
            NotEqual,
            Some(TargetUnion::CreateRevision(5)),
            true,
        ),
        (one, Version, Equal, Some(TargetUnion::Version(2)), true),
        (one, Lease, Equal, Some(TargetUnion::Lease(7)), true),
        (one, Value, Equal, value("v"), true),
        (one, Value, Greater, None, true),
        // A number for another target counts as none.
        (one, Mod, Equal, Some(TargetUnion::Version(5)), false),
        (one, Mod, Greater, Some(TargetUnion::Version(9)), true),
        // Without a key: zeros, but no value.
        (none, Mod, Equal, Some(TargetUnion::ModRevision(0)), true),
        (none, Version, Less, Some(TargetUnion::Version(1)), true),
        (
            none,
            Create,
            Greater,
            Some(TargetUnion::CreateRevision(0)),
            false,
        ),
        (none, Value, Equal, value(""), false),
        (none, Value, NotEqual, value("x"), false),
        // A range holds where each key does.
        (&both, Mod, Equal, Some(TargetUnion::ModRevision(5)), false),
        (&both, Mod, Less, Some(TargetUnion::ModRevision(6)), true),
    ];
    for (kvs, target, result, target_union, expected) in rows {
        let compare = Compare {
            result: result.into(),
            target: target.into(),
            target_union,
            ..Compare::default()
        };
        assert_eq!(holds(&compare, kvs), expected, "{compare:?}");
    }
}

/// etcd compares nothing for a target, and lets pass a result, that it does not know.
#[test]
fn unknown_enums_are_as_in_etcd() {
    let unknown_result = Compare {
        result: 9,
        ..Compare::default()
    };
    assert!(holds(&unknown_result, &[]));
    let unknown_target = Compare {
        target: 9,
        target_union: Some(TargetUnion::Version(4)),
        ..Compare::default()
    };
    assert!(holds(&unknown_target, &[]));
}

#[test]
fn values_are_read_only_where_they_are_compared() {
    let compare = Compare {
        key: "a".into(),
        range_end: "b".into(),
        ..Compare::default()
    };
    let read = read_of(&compare);
    assert!(read.keys_only);
    let range = KeyRange::from_request(&read.key, &read.range_end);
    assert_eq!(range, KeyRange::prefix(Bytes::from("a")));
    let by_value = Compare {
        target: CompareTarget::Value.into(),
        ..compare
    };
    assert!(!read_of(&by_value).keys_only);
}
