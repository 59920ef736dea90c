//! Keyloom at full load for long: nothing may break, and nothing may grow.
//!
//! Two etcds and a SQLite file; two parts, the first twice as long as the second:
//!
//! 1. One Keyloom lives through everything: writers, transactions, leases, compactions, deletes over
//!    stores, watches that come and go, lists, and beside them reloads of the topology, kills and
//!    pauses of stores. In rounds, after each of which all that clients were told is held against
//!    etcd's promises; nothing of clients that are gone may be left, and the memory may not grow.
//! 2. Keyloom itself is killed at random moments, amid its start too, in windows of which each
//!    begins with nothing: no acknowledged write may be lost, no event lost, repeated or torn.
//!
//! `cargo xtask soak` takes an hour, `--minutes` says another time; without it, as in continuous
//! integration, both parts end as soon as everything happened. `bare` (feature `long`) is the same load
//! on an etcd alone.

#![allow(clippy::print_stderr, reason = "a long run says how far it is")]

#[cfg(feature = "long")]
mod bare;

use std::time::Duration;

use keyloom_testkit::program::Chance;
use keyloom_tests::{
    Keyloom,
    duel::seed,
    robustness::{Amid, Counts, Course, Run, WRITERS},
    soak::{
        fill::fill,
        ground::{Ground, wipe},
        readers::Readers,
        samples::Samples,
        trouble::{self, Done, Manner},
    },
    trial::{
        self, Trial,
        census::{Times, asked},
    },
};
use tokio::time::{Instant, sleep};

use crate::robustness::groups;

/// Revisions of each store that are kept in memory: few, so that this is full soon and watches are
/// caught up from stores as well.
const HISTORY: &str = "20000";

/// Objects that come and go before a run that says whether memory grows; of the SQLite file's.
const OBJECTS: usize = 200_000;
const FOLDER: &str = "/registry/pods/default/";

/// After so many rounds everything must have happened at least once; it takes four and a few more.
const PATIENCE: u64 = 60;

/// What is done in which time.
struct Plan {
    living: Duration,
    killing: Duration,
    /// Steps of each writer in a round.
    steps: usize,
    manner: Manner,
    sample: Duration,
    /// A window of kills.
    window: Duration,
    /// Whether it is long enough to tell whether memory grows.
    is_long: bool,
}

impl Plan {
    fn asked() -> Self {
        let minutes = asked("KEYLOOM_MINUTES", 0);
        let third = Duration::from_secs(20) * u32::try_from(minutes).expect("some hours");
        if minutes == 0 {
            return Self {
                living: third,
                killing: third,
                steps: 120,
                manner: Manner { from: 100, to: 600 },
                sample: Duration::from_secs(1),
                window: Duration::ZERO,
                is_long: false,
            };
        }
        Self {
            living: third * 2,
            killing: third,
            steps: 1_500,
            manner: Manner {
                from: 1_000,
                to: 5_000,
            },
            sample: Duration::from_secs(5),
            window: Duration::from_secs(120),
            is_long: minutes >= 30,
        }
    }
}

#[tokio::test]
async fn nothing_breaks_and_nothing_grows() {
    let plan = Plan::asked();
    let mut ground = Ground::new().await;
    let samples = live(&plan, &mut ground).await;
    kill(&plan, &mut ground).await;
    if plan.is_long {
        samples.must_be_flat();
    }
}

async fn live(plan: &Plan, ground: &mut Ground) -> Samples {
    // A store that is away must not end the term.
    let arguments = ["--term", "30s", "--watch-history", HISTORY];
    let mut keyloom = Keyloom::launch_with(&ground.file(), &arguments);
    keyloom.ready().await;
    if plan.is_long {
        fill(&keyloom.client(), FOLDER, OBJECTS).await;
    }
    let samples = Samples::default();
    let work = rounds(plan, ground, &keyloom, &samples);
    tokio::select! {
        () = samples.take(&keyloom, plan.sample) => unreachable!("it never ends"),
        () = work => {}
    }
    eprintln!("{}", samples.report());
    assert!(keyloom.terminate().await.success(), "a clean end");
    samples
}

async fn rounds(plan: &Plan, ground: &mut Ground, keyloom: &Keyloom, samples: &Samples) {
    let course = Course {
        url: keyloom.url().to_owned(),
        headers_are_bookmarks: true,
        stores: Vec::new(),
        topology: trial::topology(),
        amid: Amid::TroubleWhileWriting,
        writers: WRITERS,
        groups: groups(),
        steps: plan.steps,
        pause: Duration::from_millis(asked("KEYLOOM_PAUSE", 0) as u64),
        values_lost: 3,
        pinned: asked("KEYLOOM_PINNED", 0) > 0,
    };
    let begun = Instant::now();
    let (mut run, mut chance) = (Run::begin(course, 951).await, Chance::new(seed(952)));
    let (mut done, mut read) = (Done::default(), 0);
    let goes_on = |run: &Run, done: &Done| {
        let rounds = run.counts.rounds;
        let lacks = !happened(&run.counts, done) && rounds < PATIENCE;
        rounds < 4 || begun.elapsed() < plan.living || lacks
    };
    while goes_on(&run, &done) {
        let readers = Readers::start(keyloom.url(), 2);
        run.round_amid(async |trouble| {
            let (manner, before) = (plan.manner, done.clone());
            let more = trouble::make(ground, keyloom, &mut chance, manner, &before, trouble).await;
            done.add(&more);
        })
        .await;
        read += readers.answered();
        drop(readers);
        samples.must_be_quiet(keyloom).await;
        eprintln!("{:?}: {done}; {read} reads beside", begun.elapsed());
    }
    let counts = &run.counts;
    assert!(counts.answered * 2 > counts.operations, "{counts}");
    assert!(happened(counts, &done), "{done}; {counts}");
}

/// Whether each of what this is about happened.
fn happened(counts: &Counts, done: &Done) -> bool {
    let each = [
        done.reloads,
        done.kills + done.pauses,
        counts.compactions,
        counts.revoked,
        counts.expired,
        counts.reconnects,
        counts.events,
        counts.progress,
    ];
    each.iter().all(|count| *count > 0)
}

async fn kill(plan: &Plan, ground: &mut Ground) {
    let mut keyloom = Keyloom::launch_with(&ground.file(), &["--term", "1s"]);
    keyloom.ready().await;
    let mut chance = Chance::new(seed(953));
    let (mut kills, mut stores, mut recovery) = (0, 0, Times::default());
    let begun = Instant::now();
    for window in 0.. {
        wipe(&keyloom.client()).await;
        let mut trial = Trial::over(ground.file());
        trial.begin(keyloom.url(), seed(954 + window)).await;
        let opened = Instant::now();
        for number in 0.. {
            if number >= 3 && opened.elapsed() >= plan.window {
                break;
            }
            // Not a wait for anything: the moment is what is drawn.
            let time = chance.between(0, 3_000).unsigned_abs();
            sleep(Duration::from_millis(time)).await;
            match chance.below(4) {
                0 => drop(ground.reload(&keyloom).await),
                1 => {
                    trouble::kill(&mut ground.tenant, &mut chance).await;
                    stores += 1;
                }
                _ => {}
            }
            let gone = Instant::now();
            keyloom.kill().await;
            keyloom.launch_again();
            kills += 1;
            if chance.percent(25) {
                let time = chance.between(0, 1_500).unsigned_abs();
                sleep(Duration::from_millis(time)).await;
                keyloom.kill().await;
                keyloom.launch_again();
                kills += 1;
            }
            keyloom.ready().await;
            trial.board.move_to(keyloom.url());
            trial.settled().await;
            recovery.add(gone.elapsed());
        }
        let census = trial.finish().await;
        eprintln!(
            "{:?}: {kills} kills; in this window {census}",
            begun.elapsed()
        );
        if begun.elapsed() >= plan.killing {
            break;
        }
    }
    eprintln!(
        "{kills} kills of keyloom, {stores} of a store beside; until every cache is up to date: \
         {recovery}"
    );
}
