//! In front of one store nothing shows that Keyloom is there: every answer is the store's own,
//! revisions included. Nor does an empty second store change one.

use keyloom_etcd_api::etcdserverpb::{CompactionRequest, RangeRequest};
use keyloom_testkit::{Step, program::Settings};
use keyloom_tests::{
    Client, Duel, Etcd, Keyloom, Version,
    duel::{everyday_keys, grant_leases, steps},
    split::Split,
    topology::{Matcher, Topology},
};

async fn front_of_one(version: Version, seed: u64, length: usize) {
    let [reference, store] = Etcd::start_all([version; 2]).await;
    let keyloom = Keyloom::in_front_of(&store.url()).await;
    let (reference, tested) = (reference.client(), keyloom.client());
    let mut settings = Settings::new(everyday_keys());
    settings.invalid_sorts = version.survives_invalid_sorts();
    settings.leases = grant_leases(&[&reference, &tested]).await;
    Duel::new(seed, settings, reference, tested)
        .run(length)
        .await;
}

#[tokio::test]
async fn in_front_of_etcd_3_6_answers_are_equal() {
    front_of_one(Version::V36, 101, steps(12_000)).await;
}

#[tokio::test]
async fn in_front_of_etcd_3_6_answers_are_equal_again() {
    front_of_one(Version::V36, 102, steps(12_000)).await;
}

#[tokio::test]
async fn in_front_of_etcd_3_4_answers_are_equal() {
    front_of_one(Version::V34, 103, steps(10_000)).await;
}

/// No key of the program lies on the second store, but ranges reach over it; so do a few of the bad
/// requests, which then are refused.
async fn front_of_one_and_an_empty_one(version: Version, seed: u64, length: usize) {
    let [reference, store, empty] = Etcd::start_all([version, version, Version::V36]).await;
    let topology = Topology::new(&[("empty", Matcher::Prefix("events"))]);
    let keyloom = Keyloom::start(&topology.file(&[store.url(), empty.url()])).await;
    let settings = Settings {
        spanning_writes: false,
        invalid_sorts: version.survives_invalid_sorts(),
        ..Settings::new(everyday_keys())
    };
    let duel = Duel::new(seed, settings, reference.client(), keyloom.client());
    Split::new(duel, topology).run(length).await;
}

#[tokio::test]
async fn with_an_empty_second_store_answers_are_equal_on_etcd_3_6() {
    front_of_one_and_an_empty_one(Version::V36, 104, steps(10_000)).await;
}

#[tokio::test]
async fn with_an_empty_second_store_answers_are_equal_on_etcd_3_4() {
    front_of_one_and_an_empty_one(Version::V34, 105, steps(8_000)).await;
}

/// Writes a history into an etcd, and compacts a part of it.
async fn make_history(client: &Client) -> i64 {
    let mut settings = Settings::new(everyday_keys());
    settings.leases = grant_leases(&[client]).await;
    settings.compactions = false;
    Duel::new(106, settings, client.clone(), client.clone())
        .run_alone(600)
        .await;
    let head = client.revision().await;
    let request = CompactionRequest {
        revision: head / 2,
        physical: true,
    };
    client.kv().compact(request).await.expect("a compaction");
    head
}

/// What an operator compares before and after: contents, revision, size of the history.
async fn state(client: &Client) -> (u32, i64, i64) {
    let hash = client.hash().await;
    (
        hash.hash,
        hash.compact_revision,
        hash.header.expect("a header").revision,
    )
}

#[tokio::test]
async fn in_front_of_a_history_it_reads_the_same_and_changes_nothing() {
    let store = Etcd::start(Version::V36).await;
    let direct = store.client();
    let head = make_history(&direct).await;
    let before = state(&direct).await;

    let mut keyloom = Keyloom::in_front_of(&store.url()).await;
    let settings = Settings {
        bad_requests: false,
        ..Settings::new(everyday_keys())
    };
    let mut duel = Duel::new(107, settings, direct.clone(), keyloom.client());
    for revision in 1..=head + 1 {
        let range = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision,
            ..RangeRequest::default()
        };
        duel.compare(&Step::Range(range)).await;
    }
    duel.run_reads(2_000).await;

    assert!(keyloom.terminate().await.success());
    assert_eq!(state(&direct).await, before);
}

#[tokio::test]
async fn killed_in_front_of_a_history_it_leaves_nothing_either() {
    let store = Etcd::start(Version::V36).await;
    let direct = store.client();
    make_history(&direct).await;
    let before = state(&direct).await;

    let mut keyloom = Keyloom::in_front_of(&store.url()).await;
    assert_eq!(keyloom.client().revision().await, before.2);
    keyloom.kill().await;
    keyloom.start_again().await;
    assert_eq!(state(&keyloom.client()).await, before);
    assert_eq!(state(&direct).await, before);
}
