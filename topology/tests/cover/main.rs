//! `route` against an obvious first-match evaluator, and `cover` against brute force over keys and
//! against an exact reference, for random topologies and ranges.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

mod exact;
mod scene;

use std::collections::BTreeSet;

use keyloom_etcd_api::KeyRange;
use keyloom_topology::{Cuts, Part, StoreIndex, Topology};
use proptest::prelude::*;

use crate::scene::{Scene, keys, range, scene};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn route_is_the_first_match(scene in scene(), keys in keys(60)) {
        let topology = scene.topology();
        for key in &keys {
            prop_assert_eq!(topology.route(key), scene.first_match(key), "{:?}", key);
        }
    }

    #[test]
    fn cover_holds_exactly_what_routes_there(
        scene in scene(),
        keys in keys(100),
        ranges in prop::collection::vec(range(), 6),
    ) {
        let topology = scene.topology();
        // The keys at the borders of the ranges are where mistakes are made.
        let starts = ranges.iter().map(|range| range.start.to_vec());
        let ends = ranges.iter().filter_map(|range| Some(range.end.as_ref()?.to_vec()));
        let all = keys.into_iter().chain(starts).chain(ends).filter(|key| !key.is_empty());
        let routed: Vec<_> = all.map(|key| (scene.first_match(&key), key)).collect();
        for range in &ranges {
            let parts = topology.cover(range);
            prop_assert_eq!(shape_fault(&parts, range), None, "{:?} {:?}", range, parts);
            for (store, key) in routed.iter().filter(|(_, key)| range.contains(key)) {
                prop_assert_eq!(key_fault(&parts, key, *store), None, "{:?} {:?} {:?}", key, range, parts);
            }
        }
    }

    #[test]
    fn no_part_without_a_possible_key(
        scene in scene(),
        ranges in prop::collection::vec(range(), 4),
    ) {
        let topology = scene.topology();
        let reference = exact::Reference::new(&scene);
        for range in &ranges {
            let possible = reference.stores(range);
            let parts: BTreeSet<_> = topology.cover(range).iter().map(|part| part.store).collect();
            prop_assert!(possible.first.is_subset(&parts), "{:?} {:?} {:?}", range, possible, parts);
            if scene.is_exactly_decidable() {
                prop_assert_eq!(&possible.first, &parts, "{:?}", range);
            } else {
                // A part may turn out empty, but never without a route that can match.
                prop_assert!(parts.is_subset(&possible.any), "{:?} {:?} {:?}", range, possible, parts);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_diff_names_every_key_that_moves(old in scene(), new in scene(), keys in keys(100)) {
        let (before, after) = (old.topology(), new.topology());
        prop_assert_eq!(before.diff(&before), []);
        let moves = before.diff(&after);
        for key in &keys {
            let moved = old.first_match(key) != new.first_match(key);
            // A reserved key of one side is nobody's there.
            prop_assert!(!moved || moves.iter().any(|each| scene::names(&each.what, key)), "{:?} {:?}", key, moves);
        }
    }

    #[test]
    fn routes_reported_as_shadowed_have_no_key(scene in scene()) {
        let scene = Scene { reserved: None, ..scene };
        let possible = exact::Reference::new(&scene).stores(&KeyRange::all());
        let shadowed = scene.shadowed();
        prop_assert!(possible.first.is_disjoint(&shadowed), "{:?} {:?}", shadowed, possible);
        if scene.is_exactly_decidable() && !scene.has_wildcards() {
            let all = (0..scene.rules.len()).filter_map(|at| u16::try_from(at + 1).ok()).map(StoreIndex);
            let never: BTreeSet<_> = all.filter(|store| !possible.first.contains(store)).collect();
            prop_assert_eq!(never, shadowed);
        }
    }
}

/// Few for every run, more on request: `PROPTEST_CASES=5000`.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// What is wrong with parts whatever the topology.
fn shape_fault(parts: &[Part], range: &KeyRange) -> Option<&'static str> {
    let fault = |is: bool, text| is.then_some(text);
    let sorted = parts.windows(2).all(|two| two[0].store < two[1].store);
    fault(!sorted, "not in the order of stores").or_else(|| {
        parts.iter().find_map(|part| {
            let hull = &part.hull;
            fault(hull.is_empty(), "an empty hull")
                .or(fault(!range.covers(hull), "a hull beyond the range"))
                .or_else(|| match &part.cuts {
                    Cuts::Intervals(all) => intervals_fault(all, hull),
                    Cuts::Whole | Cuts::Filter => None,
                })
        })
    })
}

fn intervals_fault(intervals: &[KeyRange], hull: &KeyRange) -> Option<&'static str> {
    let ordered = intervals.windows(2).all(|two| {
        let end = two[0].end.as_ref();
        end.is_some_and(|end| *end < two[1].start)
    });
    let (first, last) = (intervals.first()?, intervals.last()?);
    if intervals.len() < 2 || intervals.len() > keyloom_topology::MAX_INTERVALS {
        Some("a wrong number of intervals")
    } else if !ordered || intervals.iter().any(KeyRange::is_empty) {
        Some("intervals that are empty, touch or are out of order")
    } else if first.start != hull.start || last.end != hull.end {
        Some("a hull that is not that of the intervals")
    } else {
        None
    }
}

/// What is wrong with parts for one key of the range.
fn key_fault(parts: &[Part], key: &[u8], store: Option<StoreIndex>) -> Option<&'static str> {
    let held = |part: &Part| part.hull.contains(key);
    if let Some(store) = store
        && !parts.iter().any(|part| part.store == store && held(part))
    {
        return Some("the key's own store has no part with it");
    }
    parts.iter().filter(|part| held(part)).find_map(|part| {
        let mine = Some(part.store) == store;
        match &part.cuts {
            Cuts::Whole if !mine => Some("a whole part with a key of another store"),
            Cuts::Intervals(all) if all.iter().any(|range| range.contains(key)) != mine => {
                Some("intervals that do not decide")
            }
            Cuts::Whole | Cuts::Intervals(_) | Cuts::Filter => None,
        }
    })
}

fn all_stores(topology: &Topology, range: &str) -> Vec<u16> {
    let range = KeyRange::prefix(bytes::Bytes::copy_from_slice(range.as_bytes()));
    topology
        .cover(&range)
        .iter()
        .map(|part| part.store.0)
        .collect()
}

#[test]
fn the_default_store_has_no_part_where_a_route_has_everything() {
    let scene = Scene::of(&[
        "prefix: {prefix: pods}",
        "regexp: {key: '^(roles|clusterroles)/'}",
    ]);
    let topology = scene.topology();
    assert_eq!(all_stores(&topology, "/registry/pods/"), [1]);
    assert_eq!(all_stores(&topology, "/registry/roles/"), [2]);
    assert_eq!(all_stores(&topology, "/registry/rolebindings/"), [0]);
    assert_eq!(all_stores(&topology, "/registry/role"), [0, 2]);
    assert_eq!(all_stores(&topology, "/registry/"), [0, 1, 2]);
    assert_eq!(all_stores(&topology, "/other"), [0]);
}

#[test]
fn an_earlier_wildcard_takes_names_from_later_routes() {
    let only_pods = "namespace: {namespace: 'team-*', kinds: [pods]}";
    let everywhere = "namespace: {namespace: 'team-*'}";
    let name = "namespace: {namespaces: [team-x]}";
    let first = Scene::of(&[only_pods, name]).topology();
    assert_eq!(all_stores(&first, "/registry/pods/"), [0, 1]);
    assert_eq!(all_stores(&first, "/registry/secrets/"), [0, 2]);
    assert_eq!(all_stores(&first, "/registry/"), [0, 1, 2]);
    let second = Scene::of(&[everywhere, name]).topology();
    assert_eq!(all_stores(&second, "/registry/pods/"), [0, 1]);
    assert_eq!(all_stores(&second, "/registry/"), [0, 1]);
    let third = Scene::of(&[name, everywhere]).topology();
    assert_eq!(all_stores(&third, "/registry/pods/"), [0, 1, 2]);
    assert_eq!(all_stores(&third, "/registry/pods/team-x/"), [1]);
}

#[test]
fn an_expression_blurs_only_what_it_can_touch() {
    let expression = "regexp: {key: '^pods/(a|z)[a-z]*x'}";
    let scene = Scene::of(&[
        expression,
        "prefix: {prefix: pods/m}",
        "prefix: {key: /registry/pods/zo}",
    ]);
    let range = KeyRange::prefix(bytes::Bytes::from("/registry/pods/"));
    let cuts: Vec<_> = scene
        .topology()
        .cover(&range)
        .into_iter()
        .map(|part| part.cuts)
        .collect();
    assert!(
        matches!(
            cuts.as_slice(),
            [Cuts::Filter, Cuts::Filter, Cuts::Intervals(_), Cuts::Filter]
        ),
        "{cuts:?}",
    );
}

#[test]
fn an_expression_blurs_only_the_namespaces_that_it_can_touch() {
    let expression = "regexp: {key: '^pods/(a|z)[a-z]*x'}";
    let scene = Scene::of(&[
        expression,
        "namespace: {namespace: m}",
        "namespace: {namespace: axe}",
    ]);
    let range = KeyRange::prefix(bytes::Bytes::from("/registry/pods/"));
    let cuts: Vec<_> = scene
        .topology()
        .cover(&range)
        .into_iter()
        .map(|part| part.cuts)
        .collect();
    // All of `axe` is behind a match, so that it has no part at all.
    assert_eq!(cuts, [Cuts::Filter, Cuts::Filter, Cuts::Whole]);
}

/// More fixed claims than are looked at one by one.
#[test]
fn very_many_claims_are_covered_as_well() {
    let names = |rest: usize| {
        let names = (0..3_000)
            .filter(|number| number % 3 == rest)
            .map(|number| format!("t{number}"));
        format!(
            "namespace: {{kinds: [pods], namespaces: [{}]}}",
            names.collect::<Vec<_>>().join(", ")
        )
    };
    let fixed = [names(0), names(1), "prefix: {prefix: secrets}".to_owned()];
    let blurred = [
        names(0),
        "regexp: {key: '^pods/t[0-9]*7/'}".to_owned(),
        names(1),
        "namespace: {namespaces: ['t2*', t5]}".to_owned(),
    ];
    for matchers in [&fixed[..], &blurred[..]] {
        let texts: Vec<_> = matchers.iter().map(String::as_str).collect();
        let topology = Scene::of(&texts).topology();
        for prefix in [
            "/registry/pods/",
            "/registry/",
            "/",
            "/registry/pods/t1",
            "/registry/pods/t29",
        ] {
            let range = KeyRange::prefix(bytes::Bytes::from(prefix));
            let parts = topology.cover(&range);
            assert_eq!(shape_fault(&parts, &range), None, "{parts:?}");
            for number in 0..3_010 {
                for directory in ["pods", "secrets"] {
                    let key = format!("/registry/{directory}/t{number}/x").into_bytes();
                    let fault = key_fault(&parts, &key, topology.route(&key));
                    assert!(
                        fault.is_none() || !range.contains(&key),
                        "{fault:?} {number}"
                    );
                }
            }
        }
    }
    let texts: Vec<_> = fixed.iter().map(String::as_str).collect();
    let topology = Scene::of(&texts).topology();
    assert_eq!(all_stores(&topology, "/registry/pods/"), [0, 1, 2]);
    let parts = topology.cover(&KeyRange::prefix(bytes::Bytes::from("/registry/")));
    let cuts: Vec<_> = parts
        .iter()
        .map(|part| matches!(part.cuts, Cuts::Filter))
        .collect();
    assert_eq!(
        cuts,
        [true, true, true, false],
        "a store with few claims keeps its intervals"
    );
}
