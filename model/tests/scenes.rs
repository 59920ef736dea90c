//! Every scene at its small size, in every order of its steps; and Keyloom with one rule left out,
//! which the model must find.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use keyloom_model::{
    Scene, Without,
    leases::Leases,
    scenes::{self, compaction_crash, routes_crash, routes_strays},
};
use stateright::{Checker as _, HasDiscoveries, Model as _};

/// Explores all of a scene.
#[track_caller]
fn holds(scene: Scene) {
    let checker = scene.checker().threads(2).spawn_bfs().join();
    // Prints the steps that lead to what must not be, or what was never reached.
    checker.assert_properties();
}

/// Without the rule, the scene shows one of these.
#[track_caller]
fn breaks(scene: Scene, rule: Without, expected: &[&str]) {
    // What is to be reached is not asked for here.
    let scene = Scene {
        reaches: Vec::new(),
        ..scene.without(rule)
    };
    let name = scene.name;
    let checker = scene
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let found: Vec<_> = checker.discoveries().into_keys().collect();
    assert!(
        found.iter().any(|found| expected.contains(found)),
        "{name} without {rule:?}: {found:?}"
    );
}

const TORN: &str = "a unified revision has one content";
const BACKWARDS: &str = "no key goes back";
const LOST: &str = "no acknowledged write is lost";
const REAL_TIME: &str = "revisions grow with real time";
const REASSIGNED: &str = "a revision is one write's for ever";
const NOT_DENSE: &str = "Keyloom's own writes take no revision";
const REPEATED: &str = "no event comes twice";
const SKIPPED: &str = "no event is left out";
const COMPACTED_READ: &str = "what is compacted is not read";
const OVERTAKEN: &str = "no watch is overtaken by a compaction";
const ANY: &[&str] = &[
    NOT_DENSE,
    TORN,
    BACKWARDS,
    LOST,
    REAL_TIME,
    REASSIGNED,
    REPEATED,
    SKIPPED,
    COMPACTED_READ,
    OVERTAKEN,
];

// === as it is ===

#[test]
fn ordering_holds() {
    holds(scenes::ordering(1));
}

#[test]
fn recovery_holds() {
    holds(scenes::recovery(1));
}

#[test]
fn takings_that_never_served_hold() {
    holds(scenes::takings(1));
}

#[test]
fn terms_and_take_over_hold() {
    holds(scenes::leadership(1));
}

#[test]
fn stores_that_are_absent_at_a_start_hold() {
    holds(scenes::absence(1));
}

#[test]
fn what_is_reserved_is_given_out_once() {
    holds(scenes::reservation(1));
}

#[test]
fn watches_and_lists_hold() {
    holds(scenes::watches(1));
}

#[test]
fn compaction_holds() {
    holds(scenes::compaction(1));
    holds(compaction_crash(1));
}

#[test]
fn compaction_by_others_holds() {
    holds(scenes::other_compaction(1));
}

#[test]
fn changes_of_routes_hold() {
    holds(scenes::routes(1));
    holds(routes_strays(1));
    holds(routes_crash(1));
}

#[test]
fn stores_that_go_back_are_shut_out() {
    holds(scenes::backups(1, false));
    holds(scenes::backups(1, true));
}

#[test]
fn leases_hold() {
    let leases = Leases {
        size: 1,
        without: Without::Nothing,
    };
    leases
        .checker()
        .threads(2)
        .spawn_bfs()
        .join()
        .assert_properties();
}

// === with one rule left out ===

#[test]
fn ordering_needs_its_rules() {
    breaks(scenes::ordering(1), Without::HeaderBelowNext, ANY);
    breaks(scenes::recovery(1), Without::OwnWriteAwaited, ANY);
    breaks(scenes::reservation(1), Without::Reservation, ANY);
}

#[test]
fn stores_that_go_back_need_their_rules() {
    breaks(scenes::backups(1, false), Without::WentBackSeen, ANY);
    breaks(scenes::backups(1, true), Without::ClusterSeen, ANY);
}

#[test]
fn recovery_needs_its_rules() {
    breaks(scenes::absence(1), Without::Hole, ANY);
    breaks(scenes::recovery(1), Without::Floor, ANY);
    breaks(scenes::recovery(1), Without::WatchFloor, ANY);
    breaks(scenes::takings(1), Without::TakingsKnown, &[NOT_DENSE]);
}

#[test]
fn absence_needs_its_rules() {
    breaks(scenes::absence(1), Without::Return, ANY);
    breaks(scenes::absence(1), Without::AbsentHeld, ANY);
    breaks(
        scenes::absence(1),
        Without::ReturnCancels,
        &[REPEATED, TORN, BACKWARDS],
    );
}

#[test]
fn terms_need_their_rules() {
    breaks(scenes::leadership(1), Without::Compare, ANY);
    breaks(scenes::leadership(1), Without::DeadlineCheck, ANY);
    breaks(scenes::leadership(1), Without::SuccessorWait, ANY);
    breaks(scenes::leadership(1), Without::CountedFromSending, ANY);
}

#[test]
fn watches_need_their_rules() {
    breaks(
        scenes::watches(1),
        Without::Bound,
        &[SKIPPED, TORN, BACKWARDS],
    );
}

#[test]
fn compaction_needs_its_rules() {
    breaks(
        compaction_crash(1),
        Without::CompactionRecorded,
        &[COMPACTED_READ],
    );
    breaks(
        scenes::compaction(1),
        Without::CompactionBehindWatch,
        &[OVERTAKEN],
    );
    breaks(
        scenes::other_compaction(1),
        Without::LossRaisesFloor,
        &[SKIPPED, TORN, BACKWARDS],
    );
}

#[test]
fn routes_need_their_rules() {
    breaks(scenes::routes(1), Without::Drain, ANY);
    breaks(scenes::routes(1), Without::HiddenKeysChecked, ANY);
    breaks(scenes::routes(1), Without::AmidChangeSeen, ANY);
    breaks(routes_strays(1), Without::GainedCancelled, ANY);
    breaks(routes_strays(1), Without::WatchAboveChange, ANY);
    breaks(routes_crash(1), Without::ChangeRecorded, ANY);
}

#[test]
fn leases_need_their_rules() {
    for without in [
        Without::Turns,
        Without::DefaultAsked,
        Without::UnknownIsAsked,
        Without::DefaultLast,
    ] {
        let leases = Leases { size: 1, without };
        let checker = leases
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let found = checker.discovery("a lease that is gone holds no key");
        assert!(found.is_some(), "{without:?}");
    }
}
