//! Parts of a delete against a store that others write to.

use std::collections::BTreeMap;

use keyloom_etcd_api::mvccpb::KeyValue;
use proptest::prelude::*;

use super::*;
use crate::{
    plan::{DeletePlan, plan_delete},
    world::{self, World, Write},
};

/// Runs the deletion of a part while others write, and checks each of its calls: one that writes
/// takes exactly the keys of the part, and there is only one that succeeds.
fn delete(
    world: &mut World,
    part: &Part,
    prev_kv: bool,
    others: &mut impl Iterator<Item = Write>,
) -> PartDeleted {
    let mut run = PartDelete::new(part.clone(), prev_kv);
    let mut gone = None;
    while let Some(call) = run.next() {
        assert_eq!(run.clone().finish(), Err(DeleteError::Unfinished));
        if let Some(write) = others.next() {
            world.write(&write);
        }
        assert_eq!(gone, None, "a call after the write");
        let before = world.store(part.store).keys();
        let is_write = run.is_write();
        let answer = world.call(part.store, call);
        let after = world.store(part.store).keys();
        run.take(&answer, &world.map).unwrap();
        if is_write && run.next().is_none() {
            gone = Some(difference(&before, &after));
            let kept_all = before.values().all(|kv| {
                let mine = part.hull.contains(&kv.key)
                    && belongs(part, &kv.key)
                    && world.map.route(&kv.key) == Some(part.store);
                mine != after.contains_key(&kv.key)
            });
            assert!(kept_all, "exactly the part is deleted");
        } else {
            assert_eq!(before, after);
        }
    }
    let deleted = run.finish().unwrap();
    let gone = gone.unwrap_or_default();
    assert_eq!(deleted.deleted, i64::try_from(gone.len()).unwrap());
    assert_eq!(
        deleted.revision,
        (!gone.is_empty()).then_some(world.revision)
    );
    let prev_kvs: Vec<_> = deleted
        .prev_kvs
        .iter()
        .map(|kv| KeyValue::decode(kv.encoded.clone()).unwrap())
        .collect();
    assert_eq!(prev_kvs, if prev_kv { gone } else { Vec::new() });
    deleted
}

fn belongs(part: &Part, key: &[u8]) -> bool {
    match &part.cuts {
        Cuts::Whole | Cuts::Filter => true,
        Cuts::Intervals(intervals) => intervals.iter().any(|range| range.contains(key)),
    }
}

fn difference(
    before: &BTreeMap<Bytes, KeyValue>,
    after: &BTreeMap<Bytes, KeyValue>,
) -> Vec<KeyValue> {
    let gone = before.values().filter(|kv| !after.contains_key(&kv.key));
    gone.cloned().collect()
}

fn split(world: &World, (key, range_end): (Bytes, Bytes)) -> (KeyRange, Vec<Part>) {
    let range = KeyRange::from_request(&key, &range_end);
    let request = DeleteRangeRequest {
        key,
        range_end,
        prev_kv: false,
    };
    let parts = match plan_delete(&world.map, &request) {
        DeletePlan::Nothing => Vec::new(),
        DeletePlan::One(store) => vec![Part {
            store,
            hull: range.clone(),
            cuts: Cuts::Whole,
        }],
        DeletePlan::Split(parts) => parts,
    };
    (range, parts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_parts_together_delete_the_range_and_nothing_else(
        mut world in world::world(30),
        bounds in world::bounds(),
        prev_kv: bool,
    ) {
        let (range, parts) = split(&world, bounds);
        let before = world.clone();
        for part in &parts {
            delete(&mut world, part, prev_kv, &mut std::iter::empty());
        }
        for (index, (before, after)) in before.stores.iter().zip(&world.stores).enumerate() {
            let store = StoreIndex(u16::try_from(index).unwrap());
            let mut expected = before.keys();
            expected.retain(|key, _| {
                !range.contains(key) || world.map.route(key) != Some(store)
            });
            prop_assert_eq!(after.keys(), expected);
            prop_assert!(after.calls <= 2 && after.ops <= MAX_TXN_OPS);
        }
    }

    #[test]
    fn a_part_is_deleted_at_one_moment_whatever_others_write(
        mut world in world::world(30),
        bounds in world::bounds(),
        others in prop::collection::vec(world::write(30), 0..8),
        prev_kv: bool,
    ) {
        let (_, parts) = split(&world, bounds);
        let mut others = others.into_iter();
        for part in &parts {
            delete(&mut world, part, prev_kv, &mut others);
        }
    }
}

fn filtered() -> Part {
    Part {
        store: StoreIndex(1),
        hull: KeyRange::all(),
        cuts: Cuts::Filter,
    }
}

/// A world in which the keys with an `a` are on store 1.
fn by_letter() -> World {
    let map = world::Map {
        rules: vec![(world::Matcher::Has(b'a'), StoreIndex(1))],
        reserved: None,
    };
    World::new(map, &[])
}

#[test]
fn runs_of_keys_are_deleted_by_ranges() {
    let mut world = by_letter();
    for key in ["a1", "a2", "a3", "b1", "ca", "da"] {
        world.revision += 1;
        let revision = world.revision;
        world.stores[1].put(revision, &key.into(), &Bytes::new());
    }
    let mut run = PartDelete::new(filtered(), false);
    let answer = world.call(StoreIndex(1), run.next().unwrap());
    run.take(&answer, &world.map).unwrap();
    let State::Guarded { ranges, scanned } = &run.state else {
        panic!("{run:?}");
    };
    assert_eq!(*scanned, 7);
    let bounds: Vec<_> = ranges
        .iter()
        .map(|range| (range.start.clone(), range.range_end()))
        .collect();
    assert_eq!(
        bounds,
        [("a1".into(), "a3\0".into()), ("ca".into(), "da\0".into())]
    );
}

#[test]
fn too_many_runs_are_refused_before_anything_is_deleted() {
    let mut world = by_letter();
    for n in 0..=MAX_TXN_OPS {
        for letter in ['a', 'b'] {
            let key = format!("{n:03}{letter}").into();
            world.stores[1].put(2, &key, &Bytes::new());
        }
    }
    let mut run = PartDelete::new(filtered(), false);
    let answer = world.call(StoreIndex(1), run.next().unwrap());
    let error = run.take(&answer, &world.map).unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcdserver: keyloom: delete on store \"tenant-a\" needs more than 128 operations; \
         nothing was deleted there"
    );
}

#[test]
fn a_part_that_never_rests_is_given_up() {
    let mut world = by_letter();
    let mut run = PartDelete::new(filtered(), false);
    let mut calls = 0_u32;
    let error = loop {
        calls += 1;
        world.revision += 1;
        let key = Bytes::from(format!("a{calls}"));
        let revision = world.revision;
        world.stores[1].put(revision, &key, &Bytes::new());
        let answer = world.call(StoreIndex(1), run.next().unwrap());
        if let Err(error) = run.take(&answer, &world.map) {
            break error;
        }
    };
    assert_eq!(calls, 2 * MAX_SCANS);
    let store = "tenant-a".to_owned();
    assert_eq!(error, DeleteError::Contended { store });
    assert_eq!(world.stores[1].keys().len(), calls as usize);
}

#[test]
fn changes_of_known_keys_do_not_disturb() {
    let mut world = by_letter();
    world.stores[1].put(2, &"a".into(), &Bytes::new());
    let mut run = PartDelete::new(filtered(), true);
    let answer = world.call(StoreIndex(1), run.next().unwrap());
    run.take(&answer, &world.map).unwrap();
    world.stores[1].put(3, &"a".into(), &"new".into());
    world.revision = 3;
    let answer = world.call(StoreIndex(1), run.next().unwrap());
    run.take(&answer, &world.map).unwrap();
    let deleted = run.finish().unwrap();
    assert_eq!((deleted.deleted, deleted.revision), (1, Some(4)));
    assert_eq!(deleted.prev_kvs[0].value(), "new");
}

#[test]
fn pages_are_read_at_one_revision() {
    let world = by_letter();
    let page = |keys: &[&'static str], revision, more| {
        let kvs = keys.iter().map(|key| {
            let key = Bytes::from(*key);
            KeyValue {
                key,
                ..KeyValue::default()
            }
            .encode_to_vec()
            .into()
        });
        let header = keyloom_etcd_api::wire::Header {
            revision,
            ..Default::default()
        };
        keyloom_etcd_api::wire::encode_range_answer(header, kvs, more, 9)
    };
    let mut run = PartDelete::new(filtered(), false);
    run.take(&page(&["a", "ab"], 7, true), &world.map).unwrap();
    let (_, second) = run.next().unwrap();
    let second = RangeRequest::decode(second).unwrap();
    assert_eq!((&second.key[..], second.revision), (&b"ab\0"[..], 7));
    run.take(&page(&["ba"], 9, false), &world.map).unwrap();
    let State::Guarded { ranges, scanned } = &run.state else {
        panic!("{run:?}");
    };
    assert_eq!((ranges.len(), *scanned), (1, 7));
    let mut backwards = PartDelete::new(filtered(), false);
    let error = backwards.take(&page(&["b", "a"], 7, false), &world.map);
    assert_eq!(error, Err(DeleteError::Disorder));
}

#[test]
fn answers_that_do_not_fit_are_errors() {
    let world = by_letter();
    let part = Part {
        cuts: Cuts::Intervals(vec![
            KeyRange::key("a".into()),
            KeyRange::prefix("b".into()),
        ]),
        ..filtered()
    };
    let mut run = PartDelete::new(part, false);
    assert_eq!(
        run.take(&Bytes::new(), &world.map),
        Err(DeleteError::Responses)
    );
    let error = run.take(&Bytes::from_static(b"\xff"), &world.map);
    assert_eq!(error, Err(DeleteError::Wire(WireError::Malformed)));
}
