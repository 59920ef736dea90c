//! As `kubernetes.rs`, with more of everything, the apiserver's own period between comparisons, and
//! an older Kubernetes. `cargo xtask kubernetes --long`.

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
