//! A Kubernetes on Keyloom, whose own comparisons of its cache with the store agree.
//!
//! One after the other: each has a kube-apiserver, which is a lot for a small machine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a surprise ends the test with the reason"
)]

use std::time::Duration;

use keyloom_tests::{
    Etcd, Etcdctl, Version,
    kubernetes::{
        ControlPlane, Doorway, Layout, Settings, Size, api::LISTED, stores::Served, work,
    },
};
use tokio::sync::Mutex;

static TURN: Mutex<()> = Mutex::const_new(());

const SIZE: Size = Size {
    objects: 30,
    page: 17,
    checks: 1,
    patience: Duration::from_secs(300),
};

fn settings(layout: &Layout) -> Settings {
    Settings {
        etcd: layout.keyloom.url(),
        old: false,
        watch_cache: true,
        check_period: Some(Duration::from_secs(10)),
    }
}

#[tokio::test]
async fn a_cluster_lives_on_stores_of_every_kind() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::of_every_kind().await;
    let mut plane = ControlPlane::start(settings(&layout)).await;
    work::live(&mut layout, &mut plane, SIZE).await;
}

#[tokio::test]
async fn a_cluster_lives_on_files_of_keylooms_own() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::embedded().await;
    let mut plane = ControlPlane::start(settings(&layout)).await;
    work::live(&mut layout, &mut plane, SIZE).await;
}

/// Keyloom comes before the etcd of a running cluster and goes away again: nothing is listed anew.
#[tokio::test]
async fn keyloom_is_put_before_an_etcd_and_taken_away() {
    let _turn = TURN.lock().await;
    let etcd = Etcd::start(Version::V36).await;
    let topology = format!("default: {{endpoint: '{}'}}\n", etcd.url());
    let mut keyloom = Served::keyloom("keyloom", &topology).await;
    let door = Doorway::to(&etcd.url()).await;
    let settings = Settings {
        etcd: door.url(),
        old: false,
        watch_cache: true,
        check_period: Some(Duration::from_secs(10)),
    };
    let mut plane = ControlPlane::start(settings).await;
    let api = plane.api.clone();
    work::prepare(&api).await;
    let watches = work::watch_all(&api).await;
    work::create(&api, SIZE).await;
    work::check_watches(&api, &watches, SIZE).await;
    let before = work::lists(&api).await;

    door.lead_to(&keyloom.url());
    work::apply(&api, SIZE, 1).await;
    work::check_watches(&api, &watches, SIZE).await;

    door.lead_to(&etcd.url());
    keyloom.end().await;
    work::apply(&api, SIZE, 2).await;
    work::check_watches(&api, &watches, SIZE).await;

    assert!(before > 0.0, "the caches were filled");
    let after = work::lists(&api).await;
    assert!(
        (after - before).abs() < f64::EPSILON,
        "{before} lists, then {after}"
    );
    for watching in &watches {
        let seen = watching.seen().await;
        assert!(
            seen.iter().all(|seen| seen.kind != LISTED),
            "a watch began anew"
        );
    }
    // What is there is the cluster's, and nothing of Keyloom's.
    let etcdctl = Etcdctl::new(Version::V36, &etcd.url());
    let keys = etcdctl.run(&["get", "", "--from-key", "--keys-only"]);
    for key in keys.lines().filter(|key| !key.is_empty()) {
        let known = key.starts_with("/registry/") || key.starts_with("compact_rev_key");
        assert!(known, "{key}");
    }
    let maps = keys
        .lines()
        .filter(|key| key.starts_with("/registry/configmaps/tenant-"));
    assert!(maps.count() >= 2 * SIZE.objects, "{keys}");
    plane.check();
}
