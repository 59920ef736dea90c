//! What the operations of a history claim, sorted by what the search does with them.

use std::collections::HashMap;

use keyloom_etcd_api::EtcdError;

use super::{Operation, Outcome, Reason, Stuck, Violation};
use crate::{
    Answer, Step,
    model::Etcd,
    program::{Tolerance, blurred},
};

/// An operation with an outcome that the search has to explain.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) operation: &'a Operation,
    pub(super) returned: u64,
    pub(super) claim: Claim,
}

#[derive(Debug)]
pub(super) enum Claim {
    /// It wrote at this revision.
    Wrote(i64, Answer),
    /// It changed nothing and was answered at this revision.
    Read(i64, Answer),
    /// It was refused, at whatever revision.
    Refused(EtcdError),
}

/// A history as the search sees it.
#[derive(Debug, Default)]
pub(super) struct Questions<'a> {
    /// In the order in which they began.
    pub(super) known: Vec<Known<'a>>,
    /// Writes that may have happened.
    pub(super) unknown: Vec<&'a Operation>,
    /// Ranges that allow stale data, with their answers.
    pub(super) stale: Vec<(&'a Operation, Answer)>,
    /// The highest revision that one of those was answered at. The last writes before it can all
    /// be of unknown outcome, with nothing else after them.
    pub(super) stale_up_to: i64,
    /// Which of the known wrote at a revision.
    pub(super) writers: HashMap<i64, usize>,
}

impl<'a> Questions<'a> {
    pub(super) fn of(operations: &'a [Operation], compacted: bool) -> Self {
        let mut questions = Self::default();
        let mut ordered: Vec<_> = operations.iter().collect();
        ordered.sort_by_key(|operation| operation.invoked);
        for operation in ordered {
            if !matches!(operation.step, Step::Compact(_)) {
                questions.add(operation, compacted);
            }
        }
        questions
    }

    fn add(&mut self, operation: &'a Operation, compacted: bool) {
        match &operation.outcome {
            Outcome::Never => {}
            Outcome::Unknown if operation.step.only_reads() => {}
            Outcome::Unknown => self.unknown.push(operation),
            Outcome::Refused(EtcdError::Compacted) if compacted => {}
            Outcome::Refused(error) => self.know(operation, Claim::Refused(*error)),
            Outcome::Answered(answer) => self.answered(operation, answer),
        }
    }

    fn answered(&mut self, operation: &'a Operation, answer: &Answer) {
        let blurred = blurred(answer, Tolerance { cluster_id: true });
        let revision = answer.revision();
        if operation.step.may_be_stale() {
            self.stale_up_to = self.stale_up_to.max(revision);
            self.stale.push((operation, blurred));
        } else if answer.wrote() {
            self.writers.entry(revision).or_insert(self.known.len());
            self.know(operation, Claim::Wrote(revision, blurred));
        } else {
            self.know(operation, Claim::Read(revision, blurred));
        }
    }

    fn know(&mut self, operation: &'a Operation, claim: Claim) {
        self.known.push(Known {
            operation,
            returned: operation.returned.unwrap_or(u64::MAX),
            claim,
        });
    }
}

/// What no order can mend: a revision that was given to two writes, or that is not above the
/// start.
pub(super) fn contradiction(questions: &Questions<'_>, start: &Etcd) -> Option<Violation> {
    let blame = |known: &Known<'_>, reason| Violation {
        revision: start.revision(),
        placed: 0,
        of: questions.known.len(),
        stuck: vec![Stuck {
            operation: known.operation.clone(),
            reason,
        }],
        told: Vec::new(),
    };
    questions.known.iter().enumerate().find_map(|(at, known)| {
        let (revision, lowest) = match &known.claim {
            Claim::Wrote(revision, _) => (*revision, start.revision() + 1),
            Claim::Read(revision, _) => (*revision, start.revision()),
            Claim::Refused(_) => return None,
        };
        if revision < lowest {
            return Some(blame(known, Reason::BeforeStart { revision }));
        }
        let first = questions.writers.get(&revision)?;
        let twice = matches!(known.claim, Claim::Wrote(..)) && *first != at;
        twice.then(|| blame(known, Reason::GivenTwice { revision }))
    })
}
