//! The yardstick: an etcd that is killed amid the same load, with nothing between it and its clients.
//! What it does not keep, nobody can keep over it.
//!
//! `cargo xtask soak bare`; `KEYLOOM_KILLS` says how often each is killed, and `KEYLOOM_PINNED=1` lets
//! transactions that write read at revisions of the past, which no etcd survives
//! (`reference::a_killed_etcd_3_6_takes_what_it_refused`). An etcd 3.4 is not here: its progress runs
//! ahead of its events, so that its watches break their promises without a kill.

use std::time::Duration;

use keyloom_testkit::program::Chance;
use keyloom_tests::{
    Etcd, Version,
    duel::seed,
    robustness::{Amid, Course, Run, WRITERS},
    soak::trouble::kill,
    topology::Topology,
    trial::census::asked,
};

#[tokio::test]
async fn a_killed_etcd_3_6_keeps_its_promises() {
    let etcd = Etcd::start(Version::V36).await;
    keeps_its_promises(etcd, 955).await;
}

#[tokio::test]
async fn a_killed_etcd_3_6_whose_writes_wait_for_the_disk_keeps_its_promises() {
    let etcd = Etcd::start_with_fsync(Version::V36).await;
    keeps_its_promises(etcd, 957).await;
}

async fn keeps_its_promises(mut etcd: Etcd, number: u64) {
    let course = Course {
        url: etcd.url(),
        headers_are_bookmarks: false,
        stores: Vec::new(),
        topology: Topology::new(&[]),
        amid: Amid::TroubleWhileWriting,
        writers: WRITERS,
        groups: super::groups(),
        steps: 1_500,
        pause: Duration::from_millis(asked("KEYLOOM_PAUSE", 0) as u64),
        // All watches catch up at once, beside compactions.
        values_lost: usize::MAX,
        pinned: asked("KEYLOOM_PINNED", 0) > 0,
    };
    let (mut run, mut chance) = (Run::begin(course, number).await, Chance::new(seed(number)));
    let (wanted, mut kills) = (asked("KEYLOOM_KILLS", 40), 0);
    while kills < wanted {
        run.round_amid(async |trouble| {
            loop {
                let time = chance.between(200, 1_500).unsigned_abs();
                trouble.wait(Duration::from_millis(time)).await;
                if !trouble.goes_on() {
                    break;
                }
                kill(&mut etcd, &mut chance).await;
                kills += 1;
            }
        })
        .await;
        eprintln!("{:?}: {kills} kills", etcd.version());
    }
}
