//! Clients at the same time: what they see together is what one etcd could have shown them.

use keyloom_testkit::{
    history::Outcome,
    program::{Group, Settings},
};
use keyloom_tests::{
    Etcd, Ground, Keyloom, Kind, Version,
    crowd::Crowd,
    duel::steps,
    ground::{self, ETCDS},
    topology::{Matcher, Topology},
};

const CLIENTS: u64 = 8;

/// Few keys, so that clients meet. Reads go over all stores, each write stays on one: what splits
/// is not one operation.
fn settings() -> Settings {
    Settings {
        spanning_writes: false,
        compactions: false,
        bad_requests: false,
        ..Settings::new(vec![
            Group::new("/registry/pods/default/", &["web-1", "web-2"]),
            Group::new("/registry/pods/tenant-a/", &["web-1", "web-2"]),
            Group::new("/registry/secrets/default/", &["token", "tls"]),
            Group::new("compact_rev_key", &[""]),
        ])
    }
}

fn topology() -> Topology {
    Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ])
}

/// That a history says something: an empty one is always right, and so is one whose ends are unknown.
/// How many are refused, with etcd's errors, is the programs' luck: about a fifth.
fn assert_answered(crowd: &Crowd) {
    let operations = crowd.history().operations;
    let count = |which: fn(&Outcome) -> bool| {
        let are = operations
            .iter()
            .filter(|operation| which(&operation.outcome));
        are.count()
    };
    let answered = count(|outcome| matches!(outcome, Outcome::Answered(_)));
    let known = answered + count(|outcome| matches!(outcome, Outcome::Refused(_)));
    let of = operations.len();
    assert!(answered * 2 > of, "{answered} of {of} answered");
    assert!(known * 10 > of * 9, "{known} of {of} with a known end");
}

/// Clients over three stores.
pub(crate) async fn see_one_etcd(stores: [Kind; 3], seed: u64) {
    let ground = Ground::start(&stores).await;
    let keyloom = ground::serve(&topology().file(ground.endpoints())).await;
    let mut crowd = Crowd::new(CLIENTS, seed, &settings());
    crowd.run(keyloom.url(), steps(8_000) / 8).await;
    assert_answered(&crowd);
    crowd.check();
}

/// The order is the same before and after a clean end, for calls cut off by it too.
pub(crate) async fn see_no_restart(mut keyloom: Keyloom, seed: u64) {
    let mut crowd = Crowd::new(CLIENTS, seed, &settings());
    let url = keyloom.url().to_owned();
    crowd.run(&url, 150).await;
    let (ended, ()) = tokio::join!(keyloom.terminate(), crowd.run(&url, 20));
    assert!(ended.success());
    keyloom.start_again().await;
    crowd.run(keyloom.url(), 150).await;
    crowd.check();
}

#[tokio::test]
async fn eight_clients_over_three_stores_see_one_etcd() {
    see_one_etcd(ETCDS, 301).await;
}

#[tokio::test]
async fn a_restart_amid_eight_clients_is_not_seen_in_their_answers() {
    let ground = Ground::start(&ETCDS).await;
    let keyloom = ground::serve(&topology().file(ground.endpoints())).await;
    see_no_restart(keyloom, 302).await;
}

/// The yardstick: the same clients on one etcd.
#[tokio::test]
async fn eight_clients_on_an_etcd_see_one_etcd() {
    let etcd = Etcd::start(Version::V36).await;
    let mut crowd = Crowd::new(CLIENTS, 303, &settings());
    crowd.run(&etcd.url(), 300).await;
    assert_answered(&crowd);
    crowd.check();
}
