//! Whether a history is linearizable: whether its operations can be put into one order that
//! respects real time and in which one etcd gives just these answers.
//!
//! A search as that of Wing and Gong, with the memory of Lowe, made short by revisions:
//!
//! - An answer that wrote says at which revision, so at most one operation fits each place.
//! - Any other answer says at which revision it was made; the state there is the only one that it
//!   can be held against.
//! - Only a revision that no answer claims leaves a choice: which of the writes with an unknown
//!   outcome took it.
//!
//! Nothing is assumed that etcd does not promise: a history is called a violation only where no
//! order exists. (The states and sets that were seen before are told apart by 128 bits each.)

mod claim;
mod order;
mod witness;

mod search;

mod report;

pub use report::{Reason, Stuck, Verdict, Violation};

use std::collections::BTreeSet;

use super::{History, Operation, Outcome, Replay};
use crate::{Step, model::Etcd};

/// What a history is held against.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The state before the first operation.
    pub start: Etcd,
    /// Whether revisions may pass at which no key changed and which nobody was told.
    pub gaps: bool,
    /// How many times the model may be asked before the question is given up.
    pub budget: u64,
    /// What watchers were told: of each revision that it covers, no order may tell another story.
    pub witness: Option<Replay>,
    /// Leases that may have ended, revoked or expired, at any time. Where all keys that watchers
    /// saw deleted at a revision hung on one of these, its end explains that revision.
    pub ended_leases: BTreeSet<i64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            start: Etcd::default(),
            gaps: false,
            budget: 5_000_000,
            witness: None,
            ended_leases: BTreeSet::new(),
        }
    }
}

/// Checks a history of ranges, puts, deletes and transactions.
///
/// Compactions are taken as not having happened: reads that they refused are not checked, and
/// histories without one may not hold such refusals. Reads that allow stale data are held against
/// the state at the revision of their answer only.
#[must_use]
pub fn check_linearizable(history: &History, rules: &Rules) -> Verdict {
    let compacts = |operation: &Operation| matches!(operation.step, Step::Compact(_));
    let compacted = history.operations.iter().any(compacts);
    let questions = claim::Questions::of(&history.operations, compacted);
    match claim::contradiction(&questions, &rules.start) {
        Some(violation) => Verdict::Violation(violation),
        None => search::search(&questions, rules),
    }
}

#[cfg(test)]
mod tests;
