//! What is done to stores and topology while clients work.

use std::{fmt, time::Duration};

use keyloom_testkit::program::Chance;
use tokio::time::sleep;

use super::ground::Ground;
use crate::{etcd::Etcd, keyloom::Keyloom, robustness::Trouble};

/// How often each was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    pub reloads: u64,
    pub kills: u64,
    pub pauses: u64,
}

impl Done {
    fn all(&self) -> u64 {
        self.reloads + self.kills + self.pauses
    }

    pub fn add(&mut self, other: &Self) {
        self.reloads += other.reloads;
        self.kills += other.kills;
        self.pauses += other.pauses;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reloads,
            kills,
            pauses,
        } = self;
        write!(
            f,
            "{reloads} reloads, {kills} kills and {pauses} pauses of stores"
        )
    }
}

/// How it is made.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// In milliseconds, between one trouble and the next.
    pub from: i64,
    pub to: i64,
}

/// Makes trouble for as long as clients write: one kind after the other, `before` says how many there
/// were.
pub async fn make(
    ground: &mut Ground,
    keyloom: &Keyloom,
    chance: &mut Chance,
    manner: Manner,
    before: &Done,
    trouble: &Trouble<'_>,
) -> Done {
    let mut done = Done::default();
    loop {
        trouble.wait(millis(chance, manner.from, manner.to)).await;
        if !trouble.goes_on() {
            return done;
        }
        let made = before.all() + done.all();
        match made % 3 {
            0 => {
                let since = trouble.now();
                let revision = ground.reload(keyloom).await;
                trouble.forgets(since, revision);
                done.reloads += 1;
            }
            1 => {
                kill(one_of(ground, chance), chance).await;
                done.kills += 1;
            }
            _ => {
                pause(one_of(ground, chance), chance).await;
                done.pauses += 1;
            }
        }
    }
}

fn one_of<'a>(ground: &'a mut Ground, chance: &mut Chance) -> &'a mut Etcd {
    if chance.percent(50) {
        &mut ground.default
    } else {
        &mut ground.tenant
    }
}

/// Ends a store as a crash would, and starts it again.
pub async fn kill(store: &mut Etcd, chance: &mut Chance) {
    store.kill().await;
    sleep(millis(chance, 0, 1_500)).await;
    store.restart().await;
}

async fn pause(store: &mut Etcd, chance: &mut Chance) {
    store.pause();
    sleep(millis(chance, 100, 4_000)).await;
    store.resume();
}

fn millis(chance: &mut Chance, from: i64, to: i64) -> Duration {
    Duration::from_millis(chance.between(from, to).unsigned_abs())
}
