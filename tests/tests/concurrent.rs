//! Clients at the same time: what they see together is what one etcd could have shown them.

use keyloom_testkit::{
    history::Outcome,
    program::{Group, Settings},
};
use keyloom_tests::{
    Etcd, Keyloom, Version,
    crowd::Crowd,
    duel::steps,
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

async fn three_etcds() -> (Vec<Etcd>, String) {
    let etcds = Etcd::start_all([Version::V36, Version::V34, Version::V36]).await;
    let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
    (etcds.into(), topology().file(&urls))
}

/// That most of a history was answered: an empty one is always right.
fn assert_answered(crowd: &Crowd) {
    let operations = crowd.history().operations;
    let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered(_));
    let count = operations
        .iter()
        .filter(|operation| answered(&operation.outcome))
        .count();
    assert!(
        count * 10 > operations.len() * 8,
        "{count} of {} answered",
        operations.len()
    );
}

#[tokio::test]
async fn eight_clients_over_three_stores_see_one_etcd() {
    let (_etcds, topology) = three_etcds().await;
    let keyloom = Keyloom::start(&topology).await;
    let mut crowd = Crowd::new(CLIENTS, 301, &settings());
    crowd.run(keyloom.url(), steps(8_000) / 8).await;
    assert_answered(&crowd);
    crowd.check();
}

/// The order is the same before and after a clean end, for calls cut off by it too.
#[tokio::test]
async fn a_restart_amid_eight_clients_is_not_seen_in_their_answers() {
    let (_etcds, topology) = three_etcds().await;
    let mut keyloom = Keyloom::start(&topology).await;
    let mut crowd = Crowd::new(CLIENTS, 302, &settings());
    let url = keyloom.url().to_owned();
    crowd.run(&url, 150).await;
    let (ended, ()) = tokio::join!(keyloom.terminate(), crowd.run(&url, 20));
    assert!(ended.success());
    keyloom.start_again().await;
    crowd.run(keyloom.url(), 150).await;
    crowd.check();
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
