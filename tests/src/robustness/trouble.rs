//! Trouble amid a round: what whoever makes it is told, and says.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use keyloom_testkit::{history::Recorder, program::Chance};
use tokio::time::{Instant, sleep};

use super::leases::Leases;
use crate::{Client, poll, split::everything};

/// How long nothing may change until everything that was under way is over.
const QUIET: Duration = Duration::from_millis(1_500);

/// A round, as whoever makes trouble in it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<'a> {
    pub(super) writing: &'a Cell<bool>,
    pub(super) recorder: &'a Recorder,
    pub(super) forgets: &'a RefCell<Vec<(u64, i64)>>,
    pub(super) leases: &'a Leases,
}

/// Whether the rounds have trouble, and who outlasts whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amid {
    /// All is well.
    Nothing,
    /// There is trouble until the clients have made their steps.
    TroubleWhileWriting,
    /// Clients go on until the trouble is over.
    WritingWhileTrouble,
}

impl Trouble<'_> {
    /// Whether the clients still write: else there is no more trouble to be made.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.writing.get()
    }

    /// Where whatever clients do is written down.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        self.recorder
    }

    /// A lease that is alive, or was; 0 where there was none yet.
    #[must_use]
    pub fn lease(&self, chance: &mut Chance) -> i64 {
        self.leases.one(chance)
    }

    /// The time by the clock of the history.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.recorder.now()
    }

    /// From that time on a watch of a range that the change moved begins above the change's revision:
    /// everything up to it may be answered with `compacted`.
    pub fn forgets(&self, since: u64, change: i64) {
        self.forgets.borrow_mut().push((since, change + 1));
    }

    /// Until the time is over, or the clients write no more.
    pub async fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.goes_on() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until a list of everything is answered, and until nothing has changed for some time.
pub(super) async fn wait_for_quiet(client: &Client) {
    let seen = Cell::new((0, Instant::now()));
    poll::eventually("an end of all changes", || async {
        let listed = client.kv().range(everything(0)).await;
        let header = listed.map_err(|status| status.to_string())?.into_inner();
        let revision = header.header.map_or(0, |header| header.revision);
        let (known, since) = seen.get();
        if revision != known {
            seen.set((revision, Instant::now()));
        } else if since.elapsed() > QUIET {
            return Ok(());
        }
        Err(format!("revision {revision}"))
    })
    .await;
}
