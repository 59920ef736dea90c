//! Edge cases by name.

use crate::{AddStoreError, Ledger, StoreRev, StoreSlot, StoreStart, UnifiedRev};

const D: StoreSlot = StoreSlot::DEFAULT;
const B: StoreSlot = StoreSlot::new(1);

fn r(rev: i64) -> StoreRev {
    StoreRev::new(rev)
}

fn u(rev: i64) -> UnifiedRev {
    UnifiedRev::new(rev)
}

pub(super) fn start(at: &[i64]) -> Ledger {
    let stores: Vec<StoreStart> = at
        .iter()
        .enumerate()
        .map(|(i, &rev)| StoreStart {
            name: format!("s{i}"),
            cluster_id: i as u64,
            at: r(rev),
        })
        .collect();
    Ledger::start(&stores)
}

#[test]
fn one_store_is_identity() {
    let mut l = start(&[7]);
    assert_eq!(l.head(), u(7));
    assert!(l.observe(D, r(9)));
    assert!(!l.observe(D, r(8)));
    for i in 1..=9 {
        assert_eq!(l.unified(D, r(i)), Some(u(i)));
        assert_eq!(l.store_at(D, u(i)), r(i));
        assert_eq!(l.store_exact(D, u(i)), Some(r(i)));
        assert_eq!(l.below_next(D, r(i)), u(i));
    }
    assert_eq!(l.unified(D, r(10)), None);
    assert_eq!(l.store_exact(D, u(10)), None);
}

#[test]
fn start_is_the_largest_revision_and_older_history_maps_by_identity() {
    let mut l = start(&[3, 10]);
    assert_eq!(l.head(), u(10));
    assert_eq!(l.store_at(D, u(2)), r(2));
    assert_eq!(l.store_at(D, u(8)), r(3));
    assert_eq!(l.store_exact(D, u(8)), None);
    assert_eq!(l.store_exact(B, u(3)), Some(r(3)));
    assert_eq!(l.below_next(D, r(2)), u(2));
    assert_eq!(l.below_next(D, r(3)), u(10));
    l.observe(B, r(11));
    l.observe(D, r(4));
    assert_eq!(l.unified(D, r(4)), Some(u(12)));
    assert_eq!(l.below_next(D, r(3)), u(11));
}

#[test]
fn nothing_translates_to_zero() {
    let l = start(&[1, 5]);
    assert_eq!(l.store_at(D, u(0)), r(1));
    assert_eq!(l.store_at(B, u(-3)), r(1));
    assert_eq!(l.below_next(B, r(0)), u(1));
    assert_eq!(l.store_exact(B, u(0)), None);
    assert_eq!(l.unified(B, r(0)), None);
    assert_eq!(l.store_at(StoreSlot::new(9), u(4)), r(1));
}

/// A client compares with whatever number it likes.
#[test]
fn the_largest_and_the_smallest_numbers_are_asked_for() {
    let mut l = start(&[1, 5]);
    for run in 0..4 {
        for slot in [D, B] {
            for number in [i64::MIN, i64::MIN + 1, -1] {
                assert_eq!(l.store_exact(slot, u(number)), None);
                assert_eq!(l.unified(slot, r(number)), None);
                assert_eq!(l.store_at(slot, u(number)), r(1));
                assert_eq!(l.below_next(slot, r(number)), l.below_next(slot, r(1)));
            }
            for number in [i64::MAX - 1, i64::MAX] {
                assert_eq!(l.store_exact(slot, u(number)), None);
                assert_eq!(l.unified(slot, r(number)), None);
                assert_eq!(l.store_at(slot, u(number)), l.frontier(slot));
                assert_eq!(l.below_next(slot, r(number)), l.head());
            }
        }
        l.observe([D, B][run % 2], r(20 * (run as i64 + 1)));
    }
}

#[test]
fn an_added_store_is_one_run_at_the_head_with_its_floor_there() {
    let mut l = start(&[10]);
    let slot = l.add_store("b", 9, r(5)).unwrap();
    assert_eq!(slot, B);
    assert_eq!(l.head(), u(14));
    assert_eq!(l.floor(B), u(14));
    assert_eq!(l.unified(B, r(1)), Some(u(1)));
    assert_eq!(l.unified(B, r(2)), Some(u(11)));
    assert_eq!(l.store_at(B, u(10)), r(1));
    assert_eq!(l.below_next(B, r(1)), u(10));
    assert_eq!(l.store_exact(B, u(2)), None);
}

#[test]
fn an_empty_added_store_changes_nothing() {
    let mut l = start(&[10]);
    l.add_store("b", 9, r(1)).unwrap();
    assert_eq!((l.head(), l.floor(B), l.frontier(B)), (u(10), u(0), r(1)));
    let known = AddStoreError::Known {
        name: "b".into(),
        slot: B,
    };
    assert_eq!(l.add_store("b", 9, r(1)), Err(known));
}

#[test]
fn a_hidden_write_takes_no_u_and_reads_go_over_it() {
    let mut l = start(&[4, 1]);
    assert!(l.hide(r(6)));
    assert_eq!((l.head(), l.frontier(D)), (u(5), r(6)));
    l.observe(B, r(2));
    l.observe(D, r(7));
    assert_eq!(l.unified(D, r(5)), Some(u(5)));
    assert_eq!(l.unified(D, r(6)), None);
    assert_eq!(l.unified(D, r(7)), Some(u(7)));
    assert_eq!(l.store_at(D, u(5)), r(6));
    assert_eq!(l.store_at(D, u(6)), r(6));
    assert_eq!(l.store_exact(D, u(6)), None);
    assert_eq!(l.below_next(D, r(5)), u(6));
    assert_eq!(l.below_next(D, r(6)), u(6));
}

#[test]
fn hiding_again_is_nothing_and_hiding_too_late_is_told() {
    let mut l = start(&[4]);
    assert!(l.hide(r(5)));
    assert!(l.hide(r(5)));
    l.observe(D, r(6));
    assert!(!l.hide(r(6)));
    assert!(!l.hide(r(3)));
    assert_eq!(l.unified(D, r(6)), Some(u(5)));
}

#[test]
fn a_hole_maps_to_no_store() {
    let mut l = start(&[4, 2]);
    l.skip_to(u(5_000_000_000));
    l.skip_to(u(7));
    l.observe(B, r(3));
    assert_eq!(l.unified(B, r(3)), Some(u(5_000_000_001)));
    assert_eq!(l.store_exact(B, u(77)), None);
    assert_eq!(l.store_at(B, u(77)), r(2));
    assert_eq!(l.below_next(B, r(2)), u(5_000_000_000));
}

#[test]
fn compaction_and_floors_only_rise_and_stay_at_or_below_the_head() {
    let mut l = start(&[4]);
    l.compact(u(3));
    l.compact(u(2));
    assert_eq!(l.compacted(), u(3));
    l.compact(u(9));
    assert_eq!(l.compacted(), u(4));
    l.raise_floor(D, u(2));
    l.raise_floor(D, u(1));
    assert_eq!(l.floor(D), u(2));
}

#[test]
fn the_vector_has_every_store() {
    let mut l = start(&[4, 2]);
    l.observe(B, r(3));
    let vector: Vec<_> = l.vector_at(l.head()).collect();
    assert_eq!(vector, [(D, r(4)), (B, r(3))]);
}
