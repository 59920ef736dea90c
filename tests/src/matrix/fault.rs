//! What happens to a store.

use std::{fmt, time::Duration};

use super::ground::Ground;
use crate::wire;

/// A store that something happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The one that holds the order.
    Default,
    /// Any other.
    Tenant,
    /// One that is a file.
    Pods,
}

impl Victim {
    /// A key that lies on it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Default => "/registry/secrets/default/probe",
            Self::Tenant => "/registry/secrets/tenant-a/probe",
            Self::Pods => "/registry/pods/default/probe",
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its connections are reset, and new ones too.
    Down,
    /// Its process is stopped: connections stay open, and nothing is answered.
    Hung,
    /// The network swallows everything, either way.
    HalfOpen,
    /// Every exchange takes half a second more, give or take 200 ms.
    Slow,
    /// It does what it is asked, and its answers are lost.
    AnswersLost,
    /// Its process is killed, and started again.
    Killed,
    /// No room is left for what it writes: a file's disk is full, an etcd has used up its quota.
    Full,
}

impl Fault {
    pub async fn begin(self, ground: &mut Ground, victim: Victim) {
        let set = |fault| ground.wire(victim).set(fault);
        match self {
            Self::Down => set(wire::Fault::Cut),
            Self::HalfOpen => set(wire::Fault::Swallow),
            Self::AnswersLost => set(wire::Fault::DropAnswers),
            Self::Slow => {
                let (from, to) = (Duration::from_millis(150), Duration::from_millis(350));
                set(wire::Fault::Delay(from, to));
            }
            Self::Hung => ground.store(victim).pause(),
            Self::Killed => ground.store(victim).kill().await,
            Self::Full => ground.fill(victim).await,
        }
    }

    pub async fn end(self, ground: &mut Ground, victim: Victim) {
        match self {
            Self::Hung => ground.store(victim).resume(),
            Self::Killed => ground.store(victim).restart().await,
            Self::Full => ground.make_room(victim).await,
            _ => ground.wire(victim).set(wire::Fault::None),
        }
    }

    /// Whether calls that need the store can be answered meanwhile.
    #[must_use]
    pub fn is_passable(self) -> bool {
        self == Self::Slow
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down: connections are reset",
            Self::Hung => "hung: its process is stopped",
            Self::HalfOpen => "half-open: the network swallows everything",
            Self::Slow => "slow: 500 ms more, give or take 200 ms",
            Self::AnswersLost => "answers are lost after the commit",
            Self::Killed => "killed and started again",
            Self::Full => "full: no room for what is written",
        })
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "the default store",
            Self::Tenant => "a store",
            Self::Pods => "a SQLite store",
        })
    }
}
