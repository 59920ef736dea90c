//! The joined answer against one list of all keys.

use keyloom_etcd_api::{etcdserverpb::RangeRequest, mvccpb::KeyValue};
use prost::Message as _;

use super::*;
use keyloom_topology::StoreIndex;

fn part(store: u16, keys: &[(&'static str, i64)], count: Option<i64>) -> PartAnswer {
    let kvs = keys.iter().map(|(key, mod_revision)| {
        let kv = KeyValue {
            key: (*key).into(),
            mod_revision: *mod_revision,
            value: "v".into(),
            ..KeyValue::default()
        };
        RawKv::parse(kv.encode_to_vec().into()).unwrap()
    });
    PartAnswer {
        store: StoreIndex(store),
        kvs: kvs.collect(),
        count,
    }
}

fn parts() -> Vec<PartAnswer> {
    vec![
        part(0, &[("a", 9), ("d", 2), ("e", 2)], Some(3)),
        part(1, &[("b", 2), ("c", 5)], Some(20)),
    ]
}

fn keys(joined: &Joined) -> Vec<&[u8]> {
    joined.kvs.iter().map(|kv| &kv.key[..]).collect()
}

#[test]
fn trimmed_parts_join_to_the_same() {
    for (sort_order, sort_target, limit, kept) in [
        (0, 0, 0, 5),
        (0, 0, 1, 2),
        (0, 0, 3, 4),
        (0, 0, 4, 5),
        (0, 0, 9, 5),
        (0, 3, 2, 3),
        // The last keys may be the first.
        (2, 0, 2, 5),
        (1, 3, 2, 5),
    ] {
        let query = RangeRequest {
            sort_order,
            sort_target,
            limit,
            ..RangeRequest::default()
        };
        let mut trimmed = parts();
        trim(&mut trimmed, &query);
        let left: usize = trimmed.iter().map(|part| part.kvs.len()).sum();
        assert_eq!(left, kept, "{query:?}");
        assert_eq!(join(trimmed, &query), join(parts(), &query), "{query:?}");
    }
}

#[test]
fn orders() {
    const MOD: i32 = 3;
    let (none, ascending, descending) = (0, 1, 2);
    for (sort_order, sort_target, limit, min_mod_revision, expected, more) in [
        (none, 0, 0, 0, "abcde", false),
        (none, 0, 3, 0, "abc", true),
        (none, 0, 5, 0, "abcde", false),
        (ascending, 0, 3, 0, "abc", true),
        (descending, 0, 2, 0, "ed", true),
        (ascending, MOD, 4, 0, "bdec", true),
        (descending, MOD, 0, 0, "acbde", false),
        // Without an order only the first limit + 1 keys are sorted, unless there is a filter.
        (none, MOD, 2, 0, "bc", true),
        (none, MOD, 2, 1, "bd", true),
    ] {
        let query = RangeRequest {
            sort_order,
            sort_target,
            limit,
            min_mod_revision,
            ..RangeRequest::default()
        };
        let joined = join(parts(), &query);
        let found = keys(&joined).concat();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{query:?}");
        assert_eq!((joined.more, joined.count), (more, 23), "{query:?}");
    }
}

#[test]
fn only_a_count() {
    let query = RangeRequest {
        count_only: true,
        limit: 1,
        ..RangeRequest::default()
    };
    let expected = Joined {
        count: 23,
        ..Joined::default()
    };
    assert_eq!(join(parts(), &query), expected);
}

/// Values that were read for the sake of the order are not answered.
#[test]
fn keys_only_in_the_order_of_values() {
    let query = RangeRequest {
        keys_only: true,
        sort_target: 4,
        ..RangeRequest::default()
    };
    let joined = join(parts(), &query);
    assert_eq!(joined.kvs.len(), 5);
    assert!(joined.kvs.iter().all(|kv| kv.value().is_empty()));
    assert_eq!(joined.kvs[0].mod_revision(), 9);
}

#[test]
fn nothing_is_an_answer() {
    let joined = join(Vec::new(), &RangeRequest::default());
    assert_eq!(joined, Joined::default());
}
