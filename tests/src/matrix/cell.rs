//! A fault and a kind of call, and what came of it.

use std::time::Duration;

use keyloom_etcd_api::{Code, EtcdError, Status};
use keyloom_testkit::program::Group;
use tokio::time::{Instant, sleep};

use super::{
    fault::{Fault, Victim},
    ground::Ground,
    probe::{Call, Probe},
    row::Row,
};
use crate::{
    poll::eventually,
    robustness::{Amid, Course, Run, Trouble},
    trial,
};

/// How long a fault lasts at least, and how many calls are made in it at least.
const LASTS: Duration = Duration::from_millis(1_000);
const CALLS: usize = 3;

/// Runs one cell, and adds its row to the table.
pub async fn run(fault: Fault, victim: Victim, call: Call) {
    let (mut ground, victim) = match (fault, victim) {
        (Fault::Full, Victim::Pods) => match Ground::on_small_disk().await {
            Some(ground) => (ground, victim),
            // The nearest thing: the quota of an etcd.
            None => (Ground::new(Victim::Tenant).await, Victim::Tenant),
        },
        _ => (Ground::new(victim).await, victim),
    };
    let course = Course {
        url: ground.keyloom.url().to_owned(),
        stores: Vec::new(),
        topology: trial::topology(),
        headers_are_bookmarks: true,
        groups: groups(),
        amid: Amid::WritingWhileTrouble,
        writers: 4,
        steps: 20,
        pause: Duration::from_millis(60),
        values_lost: 3,
        pinned: false,
    };
    let mut run = Run::begin(course, 961).await;
    let mut row = Row::new(fault, victim, call);
    run.round_amid(async |trouble| {
        amid(&mut ground, fault, victim, call, trouble, &mut row).await;
    })
    .await;
    assert!(run.counts.events > 0, "{}", run.counts);
    let end = ground.keyloom.terminate().await;
    assert!(end.success(), "{end}: {}", ground.keyloom.log());
    row.finish(&run.counts);
}

/// Few keys, so that clients meet.
fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["web-1", "web-2"]),
        Group::new("/registry/secrets/tenant-a/", &["token", "tls"]),
        Group::new("/registry/secrets/default/", &["token", "tls"]),
    ]
}

/// Before the fault, during it and after it.
async fn amid(
    ground: &mut Ground,
    fault: Fault,
    victim: Victim,
    call: Call,
    trouble: &Trouble<'_>,
    row: &mut Row,
) {
    let probe = Probe::new(call, victim, ground, trouble);
    eventually("the call without a fault", || probe.on_victim(ground)).await;
    eventually("the call elsewhere", || probe.on_others()).await;
    fault.begin(ground, victim).await;
    if fault == Fault::Full {
        probe.until_full().await;
    }
    let begun = Instant::now();
    while row.calls() < CALLS || begun.elapsed() < LASTS {
        let elsewhere = async {
            // The order is held by the default store: without it everything may come to wait.
            if victim != Victim::Default {
                let answer = probe.on_others().await;
                answer.unwrap_or_else(|status| panic!("a call elsewhere failed: {status:?}"));
            }
        };
        let (answer, ()) = tokio::join!(probe.on_victim(ground), elsewhere);
        if let Err(status) = &answer {
            assert_is_of_the_fault(fault, status);
        }
        row.during(&answer);
        sleep(Duration::from_millis(50)).await;
    }
    fault.end(ground, victim).await;
    let ended = Instant::now();
    eventually("the call after the fault", || probe.on_victim(ground)).await;
    row.recovered(ended.elapsed());
    probe.settle_reloads(ground).await;
}

/// An error says that a store is not there, or that nothing is known yet; never anything of the data.
fn assert_is_of_the_fault(fault: Fault, status: &Status) {
    if fault == Fault::Full && EtcdError::of(status) == Some(EtcdError::NoSpace) {
        return;
    }
    assert!(
        matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
        ),
        "{status:?}"
    );
}
