//! Routes: a topology of a few rules, ranges, and all short keys of a small alphabet.

use std::collections::BTreeSet;

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{DeleteRangeRequest, RangeRequest},
};
use keyloom_router::{DeletePlan, RangePlan, plan_delete, plan_put, plan_range};
use keyloom_topology::{Cuts, ParseOptions, Part, StoreIndex, Topology, parse};

use crate::Entropy;

const RULES: [&str; 12] = [
    "prefix: {prefix: pods}",
    "prefix: {key: /registry/p}",
    "prefix: {key: /a}",
    "prefix: {key: a}",
    "regexp: {key: '^(pods|roles)/'}",
    "regexp: {key: '^pods/a(-b)?/'}",
    "regexp: {key: '[ab]$'}",
    "regexp: {key: '^p.*b/a'}",
    "regexp: {key: '^roles/b'}",
    "namespace: {namespace: a}",
    "namespace: {namespaces: ['a*', b], kinds: [pods]}",
    "namespace: {namespace: 'b*'}",
];

/// What keys and the ends of ranges are made of.
const WORDS: [&str; 14] = [
    "/registry/",
    "pods",
    "roles",
    "/",
    "a",
    "b",
    "-",
    "0",
    "\0",
    "\u{7f}",
    "p",
    "/registry/pods/a/",
    "leases/",
    "/a",
];

pub fn target(data: &[u8]) {
    let mut entropy = Entropy(data);
    let Some(topology) = a_topology(&mut entropy) else {
        return;
    };
    let keys: Vec<Vec<u8>> = (0..24).map(|_| word(&mut entropy)).collect();
    for _ in 0..4 {
        let (key, range_end) = bounds(&mut entropy);
        let range = KeyRange::from_request(&key, &range_end);
        if range.is_empty() {
            continue;
        }
        let near = [&key, &range_end].into_iter().flat_map(|end| near(end));
        let keys = near.chain(keys.iter().cloned());
        let keys: BTreeSet<Vec<u8>> = keys
            .filter(|key| !key.is_empty() && range.contains(key))
            .collect();
        holds(&topology, &range, &keys);
        plans(&topology, &key, &range_end, &keys);
    }
}

/// One that is refused says nothing here.
fn a_topology(entropy: &mut Entropy<'_>) -> Option<Topology> {
    let mut text = "default: {endpoint: 'http://default.invalid:2379'}\nbackends:\n".to_owned();
    for store in 0..=entropy.below(4) {
        let rule = RULES[entropy.below(RULES.len())];
        let line =
            format!("- name: s{store}\n  endpoint: http://s{store}.invalid:2379\n  {rule}\n");
        text.push_str(&line);
    }
    Some(parse(&text, &ParseOptions::default()).ok()?.topology)
}

fn word(entropy: &mut Entropy<'_>) -> Vec<u8> {
    let words = (0..=entropy.below(5)).map(|_| WORDS[entropy.below(WORDS.len())]);
    words.collect::<String>().into_bytes()
}

fn bounds(entropy: &mut Entropy<'_>) -> (Bytes, Bytes) {
    let start = Bytes::from(word(entropy));
    match entropy.below(5) {
        0 => (start, Bytes::new()),
        1 => (start, Bytes::from_static(b"\0")),
        2 => {
            let end = KeyRange::prefix(start.clone()).range_end();
            (start, end)
        }
        _ => (start, Bytes::from(word(entropy))),
    }
}

/// The keys around an end of a range.
fn near(end: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let tails: [&[u8]; 7] = [b"", b"\0", b"/", b"a", b"a/", b"a/b", b"\xff"];
    let end = end.to_vec();
    tails.into_iter().map(move |tail| [&end, tail].concat())
}

/// Of each key exactly the store that it routes to has a part that says so.
fn holds(topology: &Topology, range: &KeyRange, keys: &BTreeSet<Vec<u8>>) {
    let parts = topology.cover(range);
    let sorted = parts.windows(2).all(|two| two[0].store < two[1].store);
    assert!(sorted, "{parts:?}");
    for part in &parts {
        assert!(
            range.covers(&part.hull) && !part.hull.is_empty(),
            "{range:?} {part:?}"
        );
    }
    for key in keys {
        let store = topology.route(key);
        let named: Vec<StoreIndex> = parts
            .iter()
            .filter(|part| may_hold(part, key))
            .map(|part| part.store)
            .collect();
        let place = || format!("{:?} {store:?} {parts:?}", key.escape_ascii().to_string());
        if let Some(store) = store {
            assert!(named.contains(&store), "{}", place());
        }
        for part in parts.iter().filter(|part| part.cuts != Cuts::Filter) {
            assert_eq!(
                may_hold(part, key),
                Some(part.store) == store,
                "{}",
                place()
            );
        }
    }
}

fn may_hold(part: &Part, key: &[u8]) -> bool {
    part.hull.contains(key)
        && match &part.cuts {
            Cuts::Intervals(all) => all.iter().any(|range| range.contains(key)),
            Cuts::Whole | Cuts::Filter => true,
        }
}

/// A plan leaves out no store that a key of the range routes to, and a request goes to one store as
/// it stands only where no key of the range routes to another.
fn plans(topology: &Topology, key: &Bytes, range_end: &Bytes, keys: &BTreeSet<Vec<u8>>) {
    let routed: BTreeSet<_> = keys.iter().filter_map(|key| topology.route(key)).collect();
    let request = RangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        ..RangeRequest::default()
    };
    let (stores, whole) = match plan_range(topology, &request) {
        RangePlan::One(store) => ([store].into(), true),
        RangePlan::Merged(parts) => (stores(&parts), false),
    };
    assert!(
        routed.is_subset(&stores),
        "{request:?} {routed:?} {stores:?}"
    );
    assert!(!whole || routed.len() <= 1, "{request:?}");
    let request = DeleteRangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        ..DeleteRangeRequest::default()
    };
    let deletes = match plan_delete(topology, &request) {
        DeletePlan::Nothing => BTreeSet::new(),
        DeletePlan::One(store) => [store].into(),
        DeletePlan::Split(parts) => self::stores(&parts),
    };
    assert!(
        routed.is_subset(&deletes),
        "{request:?} {routed:?} {deletes:?}"
    );
    if let Ok(store) = plan_put(topology, key) {
        assert_eq!(topology.route(key), Some(store));
    }
}

fn stores(parts: &[Part]) -> BTreeSet<StoreIndex> {
    parts.iter().map(|part| part.store).collect()
}
