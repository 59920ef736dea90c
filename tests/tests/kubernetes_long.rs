//! As `kubernetes.rs`, with more of everything, once with the apiserver's own period between
//! comparisons, and with an older Kubernetes. `cargo xtask kubernetes --long`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a surprise ends the test with the reason"
)]

use std::time::Duration;

use keyloom_tests::{
    Etcd, Served, Version,
    kubernetes::{ControlPlane, Layout, Settings, Size, live, measure, stores::LATE, work},
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

/// For three apiservers at once.
const THREE: Size = Size {
    objects: 50,
    page: 37,
    checks: 0,
    patience: Duration::ZERO,
};

/// The apiserver's own period.
const OWN: Option<Duration> = None;

const SHORT: Option<Duration> = Some(Duration::from_secs(30));

fn settings(layout: &Layout, check_period: Option<Duration>) -> Settings {
    Settings {
        check_period,
        ..Settings::on(&layout.keyloom.url())
    }
}

#[tokio::test]
async fn a_cluster_lives_on_stores_of_every_kind() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::of_every_kind().await;
    let mut plane = ControlPlane::start(settings(&layout, OWN)).await;
    live(&mut layout, &mut plane, SIZE).await;
}

#[tokio::test]
async fn an_older_cluster_lives_on_stores_of_every_kind() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::of_every_kind().await;
    let settings = Settings {
        old: true,
        ..settings(&layout, OWN)
    };
    let mut plane = ControlPlane::start(settings).await;
    live(&mut layout, &mut plane, SIZE).await;
}

#[tokio::test]
async fn a_cluster_lives_on_files_of_keylooms_own() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::embedded().await;
    let mut plane = ControlPlane::start(settings(&layout, SHORT)).await;
    live(&mut layout, &mut plane, SIZE).await;
}

/// Three apiservers of one cluster move from its etcd to a Keyloom before it and back, one by one,
/// while objects are changed through the others; then over again, and on to a second store.
#[tokio::test]
async fn three_apiservers_move_over_one_by_one_and_back() {
    let _turn = TURN.lock().await;
    let etcds = Etcd::start_all([Version::V36, Version::V36]).await;
    let alone = format!("default: {{endpoint: '{}'}}\n", etcds[0].url());
    let mut keyloom = Served::keyloom("keyloom", &alone).await;
    let first = ControlPlane::start(Settings::on(&etcds[0].url())).await;
    let second = first.beside(Settings::on(&etcds[0].url())).await;
    let third = first.beside(Settings::on(&etcds[0].url())).await;
    let mut planes = [first, second, third];
    work::prepare(&planes[0].api).await;
    let mut watches = Vec::new();
    for plane in &planes {
        watches.push(work::watch_all(&plane.api).await);
    }
    work::create(&planes[0].api, THREE).await;
    let (etcd, over) = (etcds[0].url(), keyloom.url());
    let mut round = 0;
    for address in [&over, &etcd, &over] {
        for at in 0..planes.len() {
            round += 1;
            let other = planes[(at + 1) % planes.len()].api.clone();
            tokio::join!(
                planes[at].move_to(address),
                work::apply(&other, THREE, round)
            );
        }
        for (plane, watches) in planes.iter_mut().zip(&watches) {
            work::check_watches(&plane.api, watches, THREE).await;
            plane.check();
        }
        work::same(&planes[0].api, &planes[1].api, THREE).await;
        work::same(&planes[0].api, &planes[2].api, THREE).await;
    }
    // Every revision is still the etcd's own, and nothing of Keyloom's is in it.
    assert_eq!(
        keyloom.client().revision().await,
        etcds[0].client().revision().await
    );
    assert!(etcds[0].client().get("/_keyloom/term").await.is_none());

    let several = format!(
        "{alone}backends:\n- {{name: late, endpoint: '{}', namespace: {{namespace: {LATE}}}}}\n",
        etcds[1].url()
    );
    keyloom.restart_on(&several).await;
    work::create_namespace(&planes[0].api, LATE).await;
    let maps = work::CONFIG_MAPS.within(LATE);
    let map = serde_json::json!({"metadata": {"name": "o0"}});
    planes[0].api.create(&maps, &map).await;
    work::apply(&planes[1].api, THREE, round + 1).await;
    for (plane, watches) in planes.iter_mut().zip(&watches) {
        work::check_watches(&plane.api, watches, THREE).await;
        plane.check();
    }
    let key = format!("/registry/configmaps/{LATE}/o0");
    assert!(etcds[1].client().get(key).await.is_some(), "on its store");
}

/// A multiple of the number of clusters, so that each comes first equally often.
const ROUNDS: usize = 15;

/// Prints the table of `docs/operations/kubernetes.md`: three clusters at the same time, round after round.
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
        let plane = ControlPlane::start(Settings::on(&etcd)).await;
        work::prepare(&plane.api).await;
        planes.push((name, plane, Vec::new()));
    }
    for round in 0..ROUNDS {
        // Who comes first has what the one before left in the machine's caches.
        planes.rotate_left(1);
        for (_, plane, rounds) in &mut planes {
            rounds.push(measure::round(&plane.api, round).await);
        }
    }
    println!("| | objects created, per s | list, ms | watch, ms |\n|---|---|---|---|");
    for (name, _, rounds) in &planes {
        println!("{}", measure::row(name, rounds));
    }
}
