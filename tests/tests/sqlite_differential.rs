//! The differential tests of etcds, with SQLite files as the stores: alone, and among etcds. What
//! ranges and transactions answer is compared in [`crate::sqlite`].

use keyloom_tests::{
    Etcd, Keyloom, Kind, Version,
    duel::{everyday_keys, steps},
    ground::{FILE_AMONG, FILE_FIRST, FILES},
    watching::WatchDuel,
};

use crate::{
    bad_requests::{self, Stage},
    concurrent, leases, watches,
};

// === watches ===

#[tokio::test]
async fn alone_watches_are_told_the_same() {
    let (reference, mut keyloom) = tokio::join!(Etcd::start(Version::V36), Keyloom::alone());
    let settings = watches::settings(everyday_keys());
    let mut duel = WatchDuel::new(711, settings, reference.client(), keyloom.client());
    duel.run(steps(1_500) / 2).await;
    assert!(keyloom.terminate().await.success(), "a clean end");
    keyloom.start_again().await;
    duel.go_on_with(keyloom.client()).await;
    duel.run(steps(1_500) / 2).await;
    assert!(duel.events > 1_000 && duel.asked > 20, "{duel:?}");
    assert!(duel.lost > 0, "{duel:?}");
}

#[tokio::test]
async fn over_files_and_etcds_watches_are_told_as_by_one_etcd() {
    for (stores, seed) in [(FILE_FIRST, 712), (FILE_AMONG, 713), (FILES, 714)] {
        let topology = watches::by_namespace_and_prefix();
        let duel = watches::same_as_one(&topology, stores, seed, steps(1_500)).await;
        watches::assert_eventful(&duel);
    }
}

// === leases ===

#[tokio::test]
async fn alone_lease_calls_are_answered_alike() {
    let (reference, keyloom) = tokio::join!(Etcd::start(Version::V36), Keyloom::alone());
    leases::same_before_and_after(&reference.client(), keyloom, 811).await;
}

#[tokio::test]
async fn over_files_and_etcds_lease_calls_are_answered_as_by_one_etcd() {
    for (stores, seed) in [(FILE_FIRST, 812), (FILE_AMONG, 813), (FILES, 814)] {
        leases::same_as_one(stores, seed).await;
    }
}

// === clients at the same time ===

#[tokio::test]
async fn eight_clients_on_files_and_etcds_see_one_etcd() {
    for (stores, seed) in [(FILE_FIRST, 311), (FILE_AMONG, 312)] {
        concurrent::see_one_etcd(stores, seed).await;
    }
}

#[tokio::test]
async fn a_restart_of_a_file_amid_eight_clients_is_not_seen_in_their_answers() {
    concurrent::see_no_restart(Keyloom::alone().await, 313).await;
}

// === requests that nobody should send ===

#[tokio::test]
async fn spoilt_requests_to_files_get_etcds_code() {
    let stages = [
        Stage::with_a_file().await,
        Stage::over([Kind::File, Kind::Etcd(Version::V36)]).await,
    ];
    for (stage, seed) in stages.into_iter().zip(511..) {
        bad_requests::spoilt_requests_get_etcds_code(stage, seed, steps(2_000)).await;
    }
}

#[tokio::test]
async fn oversized_requests_to_files_get_etcds_code() {
    bad_requests::oversized_requests_get_etcds_code(Stage::with_a_file().await).await;
    let among = Stage::over([Kind::Etcd(Version::V36), Kind::File]).await;
    bad_requests::oversized_requests_get_etcds_code(among).await;
}
