//! Everything at once over stores of different versions behind one Keyloom, and every checker over
//! what its clients were told.
//!
//! The short form is part of every run. The long one goes on for as long as it is told:
//! `KEYLOOM_MINUTES=60 cargo xtask e2e robustness`; `KEYLOOM_PAUSE` is a writer's longest pause
//! between two steps, in milliseconds, and `KEYLOOM_SEED` moves the programs.

use std::{env, time::Duration};

use keyloom_testkit::program::Group;
use keyloom_tests::{
    Etcd, Keyloom, Version,
    robustness::{Amid, Counts, Course, Run, WRITERS},
    topology::{Matcher, Topology},
};
use tokio::time::Instant;

/// Rounds of the short form.
const ROUNDS: u64 = 3;

/// In how many rounds Keyloom is restarted once.
const RESTART: u64 = 3;

fn topology() -> Topology {
    Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ])
}

/// Few keys, so that clients meet.
pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["web-1", "web-2", "web-3"]),
        Group::new("/registry/pods/tenant-a/", &["web-1", "web-2"]),
        Group::new("/registry/secrets/tenant-a/", &["token", "tls"]),
        Group::new("/registry/secrets/default/", &["token", "tls", "b"]),
        Group::new("compact_rev_key", &[""]),
    ]
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

fn course(url: String, stores: Vec<String>, topology: Topology) -> Course {
    Course {
        url,
        headers_are_bookmarks: stores.len() > 1,
        stores,
        topology,
        amid: Amid::Nothing,
        writers: WRITERS,
        groups: groups(),
        steps: 150,
        pause: Duration::from_millis(number("KEYLOOM_PAUSE").unwrap_or(40)),
        values_lost: 3,
        pinned: false,
    }
}

/// A run that did nothing finds nothing.
fn assert_lively(counts: &Counts) {
    assert!(counts.answered * 2 > counts.operations, "{counts}");
    let known = counts.answered + counts.refused;
    assert!(known * 10 > counts.operations * 7, "{counts}");
    let each = [
        counts.compactions,
        counts.revoked,
        counts.expired,
        counts.keys_ended,
        counts.reconnects,
        counts.events,
        counts.progress,
    ];
    assert!(each.iter().all(|count| *count > 0), "{counts}");
}

#[tokio::test]
async fn robustness_of_three_stores_behind_keyloom() {
    let versions = [Version::V36, Version::V34, Version::V36];
    let etcds = Etcd::start_all(versions).await;
    let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
    // A machine that is short of time must not end the term.
    let mut keyloom = Keyloom::launch_with(&topology().file(&urls), &["--term", "30s"]);
    keyloom.ready().await;
    let course = course(keyloom.url().to_owned(), urls, topology());
    let minutes = Duration::from_secs(60 * number("KEYLOOM_MINUTES").unwrap_or(0));
    let end = Instant::now() + minutes;
    let mut run = Run::begin(course, 901).await;
    while run.counts.rounds < ROUNDS || Instant::now() < end {
        run.round().await;
        if run.counts.rounds % RESTART == RESTART - 1 {
            assert!(keyloom.terminate().await.success(), "a clean end");
            keyloom.start_again().await;
            run.move_to(keyloom.url()).await;
        }
    }
    assert_lively(&run.counts);
}

/// The yardstick: the same on one etcd.
#[tokio::test]
async fn robustness_of_an_etcd() {
    let etcd = Etcd::start(Version::V36).await;
    let course = course(etcd.url(), vec![etcd.url()], Topology::new(&[]));
    let mut run = Run::begin(course, 902).await;
    run.round().await;
    assert_lively(&run.counts);
}
