//! A Kubernetes on Keyloom, whose own comparisons of its cache with the store agree.
//!
//! One after the other: each has a kube-apiserver, which is a lot for a small machine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a surprise ends the test with the reason"
)]

use std::time::Duration;

use keyloom_tests::kubernetes::{ControlPlane, Layout, Settings, Size, work};
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
