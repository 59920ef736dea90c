//! As `kubernetes.rs`, with more of everything, the apiserver's own period between comparisons, and
//! an older Kubernetes. `cargo xtask kubernetes --long`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a surprise ends the test with the reason"
)]

use std::time::Duration;

use keyloom_tests::{
    Etcd, Version,
    kubernetes::{ControlPlane, Layout, Settings, Size, measure, stores::Served, work},
};
use tokio::sync::Mutex;

static TURN: Mutex<()> = Mutex::const_new(());

const SIZE: Size = Size {
    objects: 500,
    page: 37,
    checks: 3,
    // Each comparison comes 5 to 7.5 minutes after the one before.
    patience: Duration::from_secs(45 * 60),
};

fn settings(layout: &Layout, old: bool) -> Settings {
    Settings {
        etcd: layout.keyloom.url(),
        old,
        watch_cache: true,
        check_period: None,
    }
}

#[tokio::test]
async fn a_cluster_lives_on_stores_of_every_kind() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::of_every_kind().await;
    let mut plane = ControlPlane::start(settings(&layout, false)).await;
    work::live(&mut layout, &mut plane, SIZE).await;
}

#[tokio::test]
async fn an_older_cluster_lives_on_stores_of_every_kind() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::of_every_kind().await;
    let mut plane = ControlPlane::start(settings(&layout, true)).await;
    work::live(&mut layout, &mut plane, SIZE).await;
}

#[tokio::test]
async fn a_cluster_lives_on_files_of_keylooms_own() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::embedded().await;
    let mut plane = ControlPlane::start(settings(&layout, false)).await;
    work::live(&mut layout, &mut plane, SIZE).await;
}

/// Prints the table of `docs/benchmarks.md`: three clusters at the same time, round after round.
#[tokio::test]
async fn side_by_side() {
    let _turn = TURN.lock().await;
    let bare = Etcd::start(Version::V36).await;
    let behind = Etcd::start(Version::V36).await;
    let one = format!("default: {{endpoint: '{}'}}\n", behind.url());
    let one = Served::keyloom("one", &one).await;
    let four = Layout::of_etcds().await;
    let endpoints = [
        ("bare etcd", bare.url()),
        ("Keyloom, one store", one.url()),
        ("Keyloom, four stores", four.keyloom.url()),
    ];
    let mut planes = Vec::new();
    for (name, etcd) in endpoints {
        let settings = Settings {
            etcd,
            ..settings(&four, false)
        };
        let plane = ControlPlane::start(settings).await;
        work::prepare(&plane.api).await;
        planes.push((name, plane, Vec::new()));
    }
    for round in 0..7 {
        for (_, plane, rounds) in &mut planes {
            rounds.push(measure::round(&plane.api, round).await);
        }
    }
    println!("| | objects created, per s | list, ms | watch, ms |\n|---|---|---|---|");
    for (name, _, rounds) in &planes {
        println!("{}", measure::row(name, rounds));
    }
}
