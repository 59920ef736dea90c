//! Parts of a read against one store with all the keys.

use keyloom_etcd_api::mvccpb::KeyValue;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    join::{Joined, join},
    plan::{RangePlan, plan_range},
    world::{self, World},
};

fn read<R: Routes>(
    world: &mut World<R>,
    part: Part,
    query: &RangeRequest,
    want_count: bool,
    page: usize,
) -> PartAnswer {
    let store = part.store;
    let mut read = PartRead::by_pages(part, query, want_count, page);
    while let Some(call) = read.next() {
        assert_eq!(read.clone().finish(), Err(ReadError::Unfinished));
        let answer = world.call(store, call);
        read.take(&answer, &world.map).unwrap();
    }
    read.finish().unwrap()
}

fn answer<R: Routes>(
    world: &mut World<R>,
    query: &RangeRequest,
    want_count: bool,
    page: usize,
) -> Joined {
    match plan_range(&world.map, query) {
        RangePlan::One(store) => {
            let call = (Rpc::Range, query.encode_to_vec().into());
            let answer = RangeAnswer::parse(&world.call(store, call)).unwrap();
            Joined {
                kvs: answer.kvs,
                more: answer.more,
                count: answer.count,
            }
        }
        RangePlan::Merged(parts) => {
            let parts = parts
                .into_iter()
                .map(|part| read(world, part, query, want_count, page))
                .collect();
            join(parts, query)
        }
    }
}

fn decoded(kvs: &[RawKv]) -> Vec<KeyValue> {
    kvs.iter()
        .map(|kv| KeyValue::decode(kv.encoded.clone()).unwrap())
        .collect()
}

/// The answer is the one of a store that has all the keys and no strays.
fn check<R: Routes>(world: &mut World<R>, query: &RangeRequest, want_count: bool, page: usize) {
    let query = &RangeRequest {
        // Parts are read at a pinned revision.
        revision: if query.revision == 0 {
            world.revision
        } else {
            query.revision
        },
        ..query.clone()
    };
    let expected = world.union.range(query);
    let joined = answer(world, query, want_count, page);
    assert_eq!(decoded(&joined.kvs), expected.kvs);
    assert_eq!(joined.more, expected.more);
    if want_count || query.count_only {
        assert_eq!(joined.count, expected.count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Without strays, and without keys of Keyloom's own, every store of a range is called once.
    #[test]
    fn a_merged_range_is_that_of_one_store(
        mut world in world::world(0),
        query in world::query(),
        want_count: bool,
    ) {
        check(&mut world, &query, want_count, SCAN_PAGE);
        for store in &world.stores {
            prop_assert!(store.calls <= 1 || world.map.reserved.is_some());
            prop_assert!(store.ops <= 128);
        }
    }

    #[test]
    fn strays_are_not_seen(
        mut world in world::world(40),
        query in world::query(),
        want_count: bool,
    ) {
        check(&mut world, &query, want_count, SCAN_PAGE);
    }

    #[test]
    fn pages_make_no_difference(
        mut world in world::world(30),
        query in world::query(),
        want_count: bool,
        page in 1_usize..5,
    ) {
        check(&mut world, &query, want_count, page);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The same under topologies as operators write them, on Kubernetes' keys.
    #[test]
    fn topology_files_are_read_alike(
        mut world in world::kubernetes::world(20),
        query in world::kubernetes::query(),
        want_count: bool,
    ) {
        check(&mut world, &query, want_count, SCAN_PAGE);
    }
}

fn range(start: &'static str, end: &'static str) -> KeyRange {
    KeyRange::from_request(&Bytes::from(start), &Bytes::from(end))
}

fn intervals() -> Part {
    Part {
        store: StoreIndex(1),
        hull: range("a", "z"),
        cuts: Cuts::Intervals(vec![range("a", "c"), range("m", "p"), range("x", "z")]),
    }
}

fn request((rpc, message): (Rpc, Bytes)) -> RangeRequest {
    assert_eq!(rpc, Rpc::Range);
    RangeRequest::decode(message).unwrap()
}

/// The answer of a store that holds these keys.
fn holding(keys: &[&'static str], more: bool) -> Bytes {
    let kvs = keys.iter().map(|key| {
        KeyValue {
            key: Bytes::from(*key),
            ..KeyValue::default()
        }
        .encode_to_vec()
        .into()
    });
    let count = i64::try_from(keys.len()).unwrap();
    keyloom_etcd_api::wire::encode_range_answer(Default::default(), kvs, more, count)
}

struct NoRoutes;

impl Routes for NoRoutes {
    fn route(&self, _: &[u8]) -> Option<StoreIndex> {
        None
    }
    fn cover(&self, _: &KeyRange) -> Vec<Part> {
        Vec::new()
    }
    fn default_store(&self) -> StoreIndex {
        StoreIndex(0)
    }
    fn name(&self, _: StoreIndex) -> &str {
        ""
    }
}

#[test]
fn gaps_are_skipped_and_pages_grow() {
    let query = RangeRequest {
        limit: 2,
        revision: 7,
        ..RangeRequest::default()
    };
    let mut read = PartRead::new(intervals(), &query, false);
    let first = request(read.next().unwrap());
    assert_eq!((first.key, first.range_end), ("a".into(), "z".into()));
    assert_eq!((first.limit, first.revision), (3, 7));
    read.take(&holding(&["b", "d", "e"], true), &NoRoutes)
        .unwrap();
    let second = request(read.next().unwrap());
    assert_eq!((second.key, second.range_end), ("m".into(), "z".into()));
    assert_eq!((second.limit, second.revision), (6, 7));
    read.take(&holding(&["n", "y"], false), &NoRoutes).unwrap();
    assert_eq!(read.next(), None);
    assert_eq!(read.finish().unwrap().kvs.len(), 3);
}

#[test]
fn no_call_is_made_behind_the_last_interval() {
    let query = RangeRequest {
        limit: 2,
        revision: 7,
        ..RangeRequest::default()
    };
    let part = Part {
        cuts: Cuts::Intervals(vec![range("a", "b"), range("c", "d")]),
        ..intervals()
    };
    let mut read = PartRead::new(part, &query, false);
    read.take(&holding(&["a", "e", "f"], true), &NoRoutes)
        .unwrap();
    assert_eq!(read.next(), None);
}

#[test]
fn nonsense_is_an_error() {
    let query = RangeRequest {
        limit: 2,
        revision: 7,
        ..RangeRequest::default()
    };
    let whole = Part {
        store: StoreIndex(1),
        hull: range("b", "m"),
        cuts: Cuts::Whole,
    };
    let take = |query: &RangeRequest, answer: Bytes| {
        PartRead::new(whole.clone(), query, false).take(&answer, &NoRoutes)
    };
    for keys in [&["c", "b"][..], &["c", "c"], &["a"], &["b", "m"]] {
        assert_eq!(take(&query, holding(keys, false)), Err(ReadError::Disorder));
    }
    assert_eq!(take(&query, holding(&[], true)), Err(ReadError::More));
    let unlimited = RangeRequest { limit: 0, ..query };
    assert_eq!(
        take(&unlimited, holding(&["c"], true)),
        Err(ReadError::More)
    );
    let broken = take(&unlimited, Bytes::from_static(b"\xff"));
    assert!(matches!(broken, Err(ReadError::Wire(_))));
    let mut several = PartRead::new(intervals(), &unlimited, false);
    let none = several.take(&Bytes::new(), &NoRoutes);
    assert_eq!(none, Err(ReadError::Responses { asked: 3, got: 0 }));
}

#[test]
fn a_part_without_intervals_is_empty() {
    let part = Part {
        cuts: Cuts::Intervals(Vec::new()),
        ..intervals()
    };
    let read = PartRead::new(part, &RangeRequest::default(), true);
    assert_eq!(read.next(), None);
    assert_eq!(read.finish().unwrap().count, Some(0));
}

/// A table of the module's own: operations of the only call, for each kind of part.
#[test]
fn what_is_asked() {
    let part = |cuts| Part {
        cuts,
        ..intervals()
    };
    let ops = |cuts: &Cuts, query: &RangeRequest, want_count| {
        PartRead::new(part(cuts.clone()), query, want_count)
            .asks
            .len()
    };
    let (Cuts::Intervals(three), filter) = (intervals().cuts, Cuts::Filter) else {
        unreachable!()
    };
    let three = Cuts::Intervals(three);
    let all = RangeRequest::default();
    let limit = RangeRequest {
        limit: 5,
        ..RangeRequest::default()
    };
    let sorted = RangeRequest {
        sort_order: 2,
        ..limit.clone()
    };
    let filtered = RangeRequest {
        min_mod_revision: 3,
        ..RangeRequest::default()
    };
    let count = RangeRequest {
        count_only: true,
        ..RangeRequest::default()
    };
    for (query, expected) in [
        (&all, [1, 3, 1]),
        (&limit, [1, 4, 2]),
        (&sorted, [1, 3, 1]),
        (&filtered, [1, 3, 2]),
        (&count, [1, 3, 1]),
    ] {
        let asked = [&Cuts::Whole, &three, &filter].map(|cuts| ops(cuts, query, true));
        assert_eq!(asked, expected, "{query:?}");
    }
    assert_eq!(ops(&three, &limit, false), 1);
    assert_eq!(ops(&filter, &limit, false), 1);
}

/// A store may answer with fewer keys than it was allowed; its first count is the whole one.
#[test]
fn short_pages_are_gone_on_with_and_counted_once() {
    let query = RangeRequest {
        limit: 4,
        revision: 7,
        ..RangeRequest::default()
    };
    let whole = Part {
        cuts: Cuts::Whole,
        ..intervals()
    };
    let mut read = PartRead::new(whole, &query, true);
    read.take(&holding(&["a", "b"], true), &NoRoutes).unwrap();
    let second = request(read.next().unwrap());
    assert_eq!(
        (&second.key[..], second.range_end),
        (&b"b\0"[..], "z".into())
    );
    read.take(&holding(&["c"], false), &NoRoutes).unwrap();
    let answer = read.finish().unwrap();
    assert_eq!((answer.kvs.len(), answer.count), (3, Some(2)));
}
