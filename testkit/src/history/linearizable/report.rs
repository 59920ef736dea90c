//! What the checker found, for people.

use std::fmt;

use keyloom_etcd_api::mvccpb::Event;

use crate::program::Difference;

use super::Operation;

/// What became of the question.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// One etcd could have answered so.
    Linearizable,
    /// No etcd could.
    Violation(Violation),
    /// The budget ran out first.
    TooHard {
        /// How many operations were in order at best.
        placed: usize,
        of: usize,
    },
}

impl Verdict {
    /// The violation, if there is one.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        match self {
            Self::Violation(violation) => Some(violation),
            Self::Linearizable | Self::TooHard { .. } => None,
        }
    }
}

/// The furthest that any order got.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The revision that was reached.
    pub revision: i64,
    /// How many operations were in order up to there.
    pub placed: usize,
    pub of: usize,
    /// The operations that do not go on.
    pub stuck: Vec<Stuck>,
    /// What watchers were told of the next revision, where nobody can have written it.
    pub told: Vec<Event>,
}

/// An operation that fits nowhere.
#[derive(Clone, Debug)]
pub struct Stuck {
    pub operation: Operation,
    pub reason: Reason,
}

/// Why an operation does not fit.
#[derive(Clone, Debug)]
pub enum Reason {
    /// etcd would have answered otherwise at the revision of the answer.
    Answer(Difference),
    /// It was answered at a revision that had passed before it began: something that is later in
    /// the order ended before.
    TooLate { revision: i64 },
    /// It wrote at a revision that must have passed before it began.
    BeganAfter { revision: i64 },
    /// It waits for a revision that nobody can have written.
    NobodyWrote { revision: i64 },
    /// Others must come first.
    Waits,
    /// Its revision was given to another write too.
    GivenTwice { revision: i64 },
    /// Watchers were told something else of its revision.
    ToldOtherwise {
        revision: i64,
        expected: Vec<Event>,
        told: Vec<Event>,
    },
    /// Its revision was over before the history began, or there is none in its answer.
    BeforeStart { revision: i64 },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "not linearizable: {} of {} operations in order up to revision {}",
            self.placed, self.of, self.revision
        )?;
        if !self.told.is_empty() {
            let (next, told) = (self.revision + 1, &self.told);
            writeln!(f, "watchers were told of revision {next}: {told:#?}")?;
        }
        for Stuck { operation, reason } in self.stuck.iter().take(5) {
            writeln!(
                f,
                "client {}, from {} to {:?}: {reason}\n{:#?}\n{:#?}",
                operation.client,
                operation.invoked,
                operation.returned,
                operation.step,
                operation.outcome
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(difference) => write!(f, "{difference}"),
            Self::TooLate { revision } => write!(
                f,
                "answered at revision {revision}, which had passed before it began"
            ),
            Self::Waits => write!(f, "waits for others"),
            Self::BeganAfter { revision } => write!(
                f,
                "wrote revision {revision}, but it began after an operation had ended that is later in the order"
            ),
            Self::NobodyWrote { revision } => {
                write!(f, "nobody can have written revision {revision} by then")
            }
            Self::GivenTwice { revision } => {
                write!(f, "revision {revision} was given to another write too")
            }
            Self::ToldOtherwise {
                revision,
                expected,
                told,
            } => write!(
                f,
                "watchers were told of revision {revision}: {told:#?}, and it did: {expected:#?}"
            ),
            Self::BeforeStart { revision } => {
                write!(f, "revision {revision} was over before the history began")
            }
        }
    }
}
