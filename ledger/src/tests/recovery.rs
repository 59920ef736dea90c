//! Rule 6: crashes at random moments, and each case by name.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::random::{Step, World};
use crate::{
    Ledger, Order, RecoverError, Recovery, Restored, Seal, StoreRev, StoreSlot, UnifiedRev,
};
use crate::{WentBack, recover};

const A: StoreSlot = StoreSlot::DEFAULT;
const B: StoreSlot = StoreSlot::new(1);
const C: StoreSlot = StoreSlot::new(2);

fn r(rev: i64) -> StoreRev {
    StoreRev::new(rev)
}

fn u(rev: i64) -> UnifiedRev {
    UnifiedRev::new(rev)
}

/// Three stores at 10, all persisted; the flush itself is revision 11 of the default store.
fn world(clean: bool) -> World {
    let mut world = World::new(&[10, 10, 10]);
    world.seal = Seal {
        clean,
        reserved: u(100),
        leadership: 7,
    };
    world.run(&Step::Flush(1));
    world
}

fn restored(world: &World) -> Restored {
    let records: Vec<_> = world.records.iter().collect();
    Ledger::restore(&records, r(world.head_revision)).unwrap()
}

fn recovered(world: &World, observed: &[(StoreSlot, i64)]) -> Recovery {
    let observed: Vec<_> = observed.iter().map(|(slot, at)| (*slot, r(*at))).collect();
    recover(restored(world), &observed).unwrap()
}

/// The record says that the end was clean, and speaks of another end.
#[test]
fn a_ledger_from_a_backup_gives_nothing_out_again() {
    let mut restored = restored(&world(true));
    restored.lost = true;
    restored.reserved = u(5000);
    let recovery = recover(restored, &[(A, r(60)), (B, r(10)), (C, r(14))]).unwrap();
    assert!(matches!(recovery.order, Order::Lost { .. }));
    assert_eq!(recovery.raised, [A, C]);
    let ledger = &recovery.ledger;
    assert!(ledger.head() > u(5000), "{:?}", ledger.head());
    for slot in [A, C] {
        assert_eq!(ledger.store(slot).unwrap().floor, ledger.head());
    }
    assert!(ledger.unified(C, r(14)).unwrap() > u(5000));
    assert_eq!(
        ledger.unified(C, r(10)),
        Some(u(10)),
        "what the backup knew stays"
    );
}

#[test]
fn a_clean_stop_loses_nothing() {
    let recovery = recovered(&world(true), &[(A, 11), (B, 10), (C, 10)]);
    assert_eq!(
        (recovery.order, recovery.ledger.head()),
        (Order::Clean, u(10))
    );
    assert!(recovery.ledger.is_hidden(r(11)));
    assert!(!recovery.ledger.needs_flush(&recovery.mark));
    assert!(
        recovery.ledger.must_flush(&recovery.mark),
        "the record still says clean"
    );
}

#[test]
fn after_a_clean_stop_what_others_wrote_is_appended() {
    let recovery = recovered(&world(true), &[(A, 13), (B, 12)]);
    let ledger = recovery.ledger;
    assert_eq!((recovery.order, ledger.head()), (Order::Clean, u(14)));
    assert_eq!(ledger.unified(A, r(12)), Some(u(11)));
    assert_eq!(ledger.unified(B, r(12)), Some(u(14)));
    assert_eq!((ledger.floor(B), recovery.absent), (u(0), vec![]));
}

#[test]
fn one_store_that_advanced_keeps_the_order_that_was_seen() {
    let mut world = world(false);
    world.run(&Step::Observe(1, 5));
    let recovery = recovered(&world, &[(A, 11), (B, 15), (C, 10)]);
    assert_eq!(recovery.order, Order::Known);
    assert_eq!(
        (recovery.ledger.head(), recovery.ledger.floor(B)),
        (u(15), u(0))
    );
    assert_eq!(recovery.ledger.unified(B, r(13)), Some(u(13)));
}

#[test]
fn hidden_writes_of_the_default_store_are_no_advance() {
    let world = world(false);
    let mut from = restored(&world);
    from.hidden.push(r(13));
    let recovery = recover(from, &[(A, r(13)), (B, r(10)), (C, r(10))]).unwrap();
    assert_eq!(
        (recovery.order, recovery.ledger.head()),
        (Order::Known, u(11))
    );
    assert_eq!(recovery.ledger.unified(A, r(12)), Some(u(11)));
    assert!(recovery.ledger.is_hidden(r(13)));
}

#[test]
fn two_stores_that_advanced_go_above_a_hole_closed_by_an_empty_u() {
    let recovery = recovered(&world(false), &[(A, 12), (B, 12), (C, 10)]);
    let ledger = recovery.ledger;
    assert_eq!(
        recovery.order,
        Order::Lost {
            closed_by: Some(u(104))
        }
    );
    assert_eq!((ledger.head(), recovery.raised), (u(104), vec![A, B]));
    assert_eq!(ledger.unified(A, r(12)), Some(u(101)));
    assert_eq!(ledger.unified(B, r(12)), Some(u(103)));
    assert_eq!([A, B, C].map(|s| ledger.floor(s)), [u(104), u(104), u(0)]);
    assert!(
        [A, B, C]
            .iter()
            .all(|s| ledger.store_exact(*s, u(104)).is_none())
    );
    assert!(ledger.must_flush(&recovery.mark));
}

/// B's write was acknowledged as 11 and then A's as 12, and no record knows of either. A comes first
/// in the order of the stores.
fn two_unrecorded_writes() -> Recovery {
    let mut world = world(false);
    world.run(&Step::Observe(1, 1));
    world.run(&Step::Observe(0, 1));
    assert_eq!(world.ledger.unified(B, r(11)), Some(u(11)));
    assert_eq!(world.ledger.unified(A, r(12)), Some(u(12)));
    recovered(&world, &[(A, 12), (B, 11), (C, 10)])
}

#[test]
fn a_write_acknowledged_after_another_must_not_be_ordered_before_it_by_recovery() {
    let ledger = two_unrecorded_writes().ledger;
    // Whatever order recovery took: no cut that can be read holds the later write alone.
    let readable = |at: &UnifiedRev| [A, B].iter().all(|slot| *at >= ledger.floor(*slot));
    let cuts: Vec<_> = (1..=ledger.head().get()).map(u).filter(readable).collect();
    assert!(!cuts.is_empty());
    for at in cuts {
        let (later, earlier) = (ledger.store_at(A, at), ledger.store_at(B, at));
        assert!(later < r(12) || earlier >= r(11), "{at}");
    }
}

#[test]
fn a_cache_that_resumes_from_below_the_hole_must_not_be_sent_what_its_readers_already_saw() {
    let ledger = two_unrecorded_writes().ledger;
    // It stands at 10, its readers at 11 and 12; what it has not seen stands above the hole now.
    for (slot, seen) in [(B, r(11)), (A, r(12))] {
        let now = ledger.unified(slot, seen).unwrap();
        assert!(now > u(12), "{now}");
        for start in (1..=now.get()).map(u) {
            assert!(
                start < ledger.floor(slot),
                "{start} would be sent {seen} again"
            );
        }
    }
    assert_eq!(
        ledger.floor(C),
        u(0),
        "a store that had nothing new goes on"
    );
}

#[test]
fn an_absent_store_returns_as_a_lost_run_of_its_own() {
    let recovery = recovered(&world(false), &[(A, 11), (B, 12)]);
    let mut ledger = recovery.ledger;
    assert_eq!(recovery.absent, [C]);
    assert_eq!(ledger.floor(B), u(103));
    assert!(
        !ledger.observe(C, r(14)),
        "before it returned it gets no place"
    );
    assert_eq!(ledger.return_of(C, r(14)), Ok(Some(u(108))));
    assert_eq!((ledger.floor(C), ledger.head()), (u(108), u(108)));
    assert!(ledger.observe(C, r(15)));
    assert_eq!(ledger.return_of(C, r(15)), Ok(None));
}

#[test]
fn an_absent_store_that_has_nothing_new_gets_no_floor() {
    let mut ledger = recovered(&world(false), &[(A, 11), (B, 10)]).ledger;
    assert_eq!(ledger.head(), u(100));
    assert_eq!(ledger.return_of(C, r(10)), Ok(None));
    assert_eq!((ledger.floor(C), ledger.unsettled().count()), (u(0), 0));
}

#[test]
fn a_store_that_is_absent_through_two_crashes_is_not_asked_in_the_second() {
    let mut world = world(false);
    let recovery = recovered(&world, &[(A, 11), (B, 10)]);
    (world.ledger, world.mark) = (recovery.ledger, recovery.mark);
    world.model.head = 100;
    world.run(&Step::Flush(9));
    world.run(&Step::Observe(1, 2));
    let recovery = recovered(&world, &[(A, 12), (B, 12)]);
    assert_eq!((recovery.order, recovery.absent), (Order::Known, vec![C]));
    let recovery = recovered(&world, &[(A, 12), (B, 12), (C, 13)]);
    assert_eq!((recovery.order, recovery.raised), (Order::Known, vec![C]));
    assert_eq!(recovery.ledger.unified(B, r(12)), Some(u(102)));
    assert_eq!(recovery.ledger.floor(C), u(106));
}

#[test]
fn a_store_that_went_back_is_refused_by_name() {
    let world = world(false);
    let refused = |observed: &[(StoreSlot, StoreRev)]| recover(restored(&world), observed).err();
    let back = WentBack {
        slot: B,
        known: r(10),
        found: r(9),
    };
    assert_eq!(
        refused(&[(A, r(11)), (B, r(9))]),
        Some(RecoverError::WentBack(back))
    );
    let own = WentBack {
        slot: A,
        known: r(11),
        found: r(10),
    };
    assert_eq!(
        refused(&[(A, r(10)), (B, r(10))]),
        Some(RecoverError::WentBack(own))
    );
    assert_eq!(refused(&[(B, r(10))]), Some(RecoverError::NoDefaultStore));
}

#[test]
fn a_retired_store_is_not_asked() {
    let mut world = world(false);
    world.ledger.retire(C);
    world.run(&Step::Flush(1));
    let recovery = recovered(&world, &[(A, 12), (B, 12)]);
    assert_eq!(recovery.order, Order::Known);
    let mut ledger = recovery.ledger;
    assert!(!ledger.observe(C, r(12)));
    assert_eq!(ledger.revive(C), Ok(()));
    assert!(ledger.observe(C, r(12)));
}

#[test]
fn what_a_recovery_could_not_tell_is_flushed_before_anything_is_given_out() {
    let alone = World::new(&[10]);
    assert!(
        !alone.ledger.must_flush(&alone.mark),
        "with one store nothing is written"
    );
    let several = World::new(&[10, 3]);
    assert!(several.ledger.must_flush(&several.mark));

    let mut world = world(false);
    world.run(&Step::Observe(1, 5));
    world.run(&Step::Compact(3));
    assert!(!world.ledger.must_flush(&world.mark));
    world.run(&Step::Add(1));
    assert!(world.ledger.must_flush(&world.mark));
    world.run(&Step::Flush(9));
    assert!(!world.ledger.must_flush(&world.mark));
}

#[test]
fn a_flush_that_is_not_complete_reserves_all_the_same() {
    let mut world = world(false);
    world.run(&Step::Observe(1, 300));
    (0..9).for_each(|i| world.run(&Step::Scatter(4_000_000_399 + 400 * i)));
    world.seal.reserved = u(5000);
    let before = restored(&world).ledger.head();
    world.run(&Step::Flush(1));
    let after = restored(&world);
    assert_eq!((after.ledger.head(), after.reserved), (before, u(5000)));
}

/// (store, r, u) of everything visible above `from`.
fn given_out(ledger: &Ledger, from: UnifiedRev) -> Vec<(StoreSlot, StoreRev, UnifiedRev)> {
    let all = (from.get() + 1..=ledger.head().get()).map(UnifiedRev::new);
    let slots: Vec<_> = ledger.stores().map(|(slot, _)| slot).collect();
    let exact = |at| {
        slots
            .iter()
            .filter_map(move |s| Some((*s, ledger.store_exact(*s, at)?, at)))
    };
    all.flat_map(exact).collect()
}

fn crash_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..20_usize, 1..5_i64).prop_map(|(s, n)| Step::Observe(s, n)),
        1 => (0..20_usize, 300..600_i64).prop_map(|(s, n)| Step::Observe(s, n)),
        3 => Just(Step::Flush(1)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No `u` means two things, unless every store that it may concern has a floor above both.
    #[test]
    fn after_a_crash_no_u_changes_its_meaning_below_a_floor(
        at in prop::collection::vec(1..30_i64, 2..6),
        steps in prop::collection::vec(crash_step(), 1..40),
        late in prop::collection::vec(prop_oneof![4 => Just(0), 1 => 1..4_i64], 6),
        answers in prop::collection::vec(prop::bool::weighted(0.9), 6),
    ) {
        let mut world = World::new(&at);
        world.seal.reserved = u(100_000);
        world.run(&Step::Flush(99));
        steps.iter().for_each(|step| world.run(step));

        let before = restored(&world);
        let persisted = before.ledger.head();
        let now = |slot: StoreSlot| {
            r(world.ledger.frontier(slot).get() + late[usize::from(slot.get())])
        };
        let answered = |slot: &StoreSlot| *slot == A || answers[usize::from(slot.get())];
        let slots: Vec<_> = world.ledger.stores().map(|(slot, _)| slot).collect();
        let observed: Vec<_> =
            slots.iter().filter(|s| answered(s)).map(|s| (*s, now(*s))).collect();
        let recovery = recover(before, &observed).unwrap();
        let (mut ledger, absent) = (recovery.ledger, recovery.absent);
        for slot in absent {
            ledger.return_of(slot, now(slot)).unwrap();
        }

        for slot in &slots {
            prop_assert_eq!(ledger.frontier(*slot), now(*slot));
        }
        for (slot, r, u) in given_out(&world.ledger, u(0)) {
            let after = ledger.unified(slot, r).unwrap();
            let moved = ledger.floor(slot) > after && after > world.seal.reserved;
            prop_assert!(after == u || u > persisted && moved, "{slot} {r}: {u} -> {after}");
        }
        for u in (persisted.get() + 1..=world.ledger.head().get()).map(u) {
            let meanings = |l: &Ledger| -> BTreeSet<_> {
                slots.iter().filter_map(|s| Some((*s, l.store_exact(*s, u)?))).collect()
            };
            let after = meanings(&ledger);
            prop_assert!(after.is_empty() || after == meanings(&world.ledger), "{u}");
        }
        for slot in &slots {
            let floor = ledger.floor(*slot);
            prop_assert!(floor == UnifiedRev::default() || ledger.store_exact(*slot, floor).is_none());
        }
    }
}
