//! Something happens to a Keyloom, and one kind of call is made meanwhile. Everything else that goes
//! on, and what is held against it, is a [`Trial`]: writers, optimistic counters, and caches that
//! list and watch.

mod call;
mod files;

use std::{fmt, time::Duration};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{probe::Call, row::Row};
use crate::{
    etcd::{Etcd, Version},
    keyloom::Keyloom,
    poll::eventually,
    trial::Trial,
    wire::{Fault, Wire},
};
use call::Caller;
use files::Files;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is killed and started again.
    Killed,
    /// It is stopped for longer than its term, and goes on: nobody has taken over.
    Paused,
    /// It reaches no store any more, and another one takes over; then the network is whole again.
    CutOff,
}

/// A term that a busy machine keeps; and longer than that.
const TERM: &str = "5s";
const PAST_THE_TERM: Duration = Duration::from_secs(6);

/// Says what is served.
const PAGE: &str = "/topology";

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(50);

/// How many calls are made while nobody answers.
const CALLS: usize = 3;

/// The stores, the first Keyloom's ways to them, and the Keylooms.
#[derive(Debug)]
struct Ground {
    _stores: [Etcd; 2],
    _home: TempDir,
    wires: [Wire; 2],
    files: Files,
    first: Keyloom,
    second: Option<Keyloom>,
}

/// Runs one cell, and adds its row to the table.
pub async fn change(change: Change, call: Call) {
    let mut ground = Ground::new(change).await;
    let mut row = Row::of(&change.to_string(), &call.to_string());
    let mut trial = Trial::over(String::new());
    trial.begin(ground.first.url(), 971).await;
    let caller = Caller::new(call, ground.first.client(), &trial.book).await;
    let page = ground.first.admin_url(PAGE);
    eventually("the call without a fault", || {
        caller.call(&ground.files, &page)
    })
    .await;
    let caller = ground.change(change, caller, &mut row).await;
    trial.board.move_to(ground.serving().url());
    trial.settled().await;
    caller.must_be_right().await;
    let census = trial.finish().await;
    let writers = census.writers.iter().map(|writer| writer.acknowledged);
    let written = writers.sum::<u64>();
    row.write(&format!("{written} writes, {} events", census.events));
}

impl Ground {
    async fn new(change: Change) -> Self {
        let stores = Etcd::start_all([Version::V36, Version::V36]).await;
        let home = tempfile::tempdir().expect("a temporary folder");
        let wires = [Wire::to(&stores[0].url()), Wire::to(&stores[1].url())];
        // Two processes cannot share a SQLite file.
        let is_alone = change != Change::CutOff;
        let pods = is_alone.then(|| format!("sqlite://{}/pods.db", home.path().display()));
        let mut files = Files::default();
        let through = files.add([wires[0].url(), wires[1].url()], pods.clone());
        let mut first = Keyloom::launch_with(&through, &["--term", TERM]);
        files.lies_at(first.topology_file());
        first.ready().await;
        let second = (!is_alone).then(|| {
            let direct = files.add([stores[0].url(), stores[1].url()], pods);
            let second = Keyloom::launch_with(&direct, &["--term", TERM]);
            files.lies_at(second.topology_file());
            second
        });
        Self {
            _stores: stores,
            _home: home,
            wires,
            files,
            first,
            second,
        }
    }

    fn serving(&self) -> &Keyloom {
        self.second.as_ref().unwrap_or(&self.first)
    }

    /// Makes the change, with calls during it; gives back who calls whoever serves then.
    async fn change(&mut self, change: Change, caller: Caller, row: &mut Row) -> Caller {
        let begun = Instant::now();
        let page = self.first.admin_url(PAGE);
        match change {
            Change::Killed => {
                self.first.kill().await;
                during(&caller, &self.files, &page, row, CALLS).await;
                self.first.launch_again();
                self.first.ready().await;
            }
            Change::Paused => {
                self.first.pause();
                let resumed = async {
                    sleep(PAST_THE_TERM).await;
                    self.first.resume();
                };
                let calls = during(&caller, &self.files, &page, row, 1);
                tokio::join!(calls, resumed);
            }
            Change::CutOff => {
                for wire in &self.wires {
                    wire.set(Fault::Swallow);
                }
                let second = self.second.as_mut().expect("a second");
                let calls = during(&caller, &self.files, &page, row, CALLS);
                tokio::join!(calls, second.ready());
            }
        }
        let caller = caller.at(self.serving().client());
        let page = self.serving().admin_url(PAGE);
        eventually("the call after the fault", || {
            caller.call(&self.files, &page)
        })
        .await;
        row.recovered(begun.elapsed());
        if change == Change::CutOff {
            // The network is whole again: the first must have nothing to say.
            for wire in &self.wires {
                wire.set(Fault::None);
            }
            assert!(!self.first.ended().await.success());
        }
        caller
    }
}

/// Calls while something is wrong, of which each has its deadline.
async fn during(caller: &Caller, files: &Files, page: &str, row: &mut Row, calls: usize) {
    while row.calls() < calls {
        row.during(&caller.call(files, page).await);
        sleep(PAUSE).await;
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "Keyloom killed and started again",
            Self::Paused => "Keyloom paused for longer than its term",
            Self::CutOff => "Keyloom cut off from all stores, another one takes over",
        })
    }
}
