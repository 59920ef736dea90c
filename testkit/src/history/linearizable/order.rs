//! Which operations have a place in the order so far, and how to take places back.

#![expect(
    clippy::indexing_slicing,
    reason = "every index is a place in the list that it is used on"
)]

use std::collections::HashMap;

use super::{
    Operation,
    claim::{Claim, Known, Questions},
};
use crate::program::Chance;

/// An operation with a place.
#[derive(Clone, Copy)]
pub(super) enum Placed {
    Known(usize),
    Unknown(usize),
}

pub(super) struct Order<'a> {
    questions: &'a Questions<'a>,
    known: Vec<bool>,
    unknown: Vec<bool>,
    /// Everything known before this has a place.
    low: usize,
    /// How many reads that were answered at a revision have no place yet.
    reads_left: HashMap<i64, usize>,
    /// What was placed, in order.
    trail: Vec<Placed>,
    /// The hash of the set of what was placed.
    fingerprint: u128,
}

impl<'a> Order<'a> {
    pub(super) fn new(questions: &'a Questions<'a>) -> Self {
        let mut reads_left = HashMap::new();
        for known in &questions.known {
            if let Claim::Read(revision, _) = known.claim {
                *reads_left.entry(revision).or_default() += 1;
            }
        }
        Self {
            questions,
            known: vec![false; questions.known.len()],
            unknown: vec![false; questions.unknown.len()],
            low: 0,
            reads_left,
            trail: Vec::new(),
            fingerprint: 0,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.low == self.known.len()
    }

    /// How many operations have a place.
    pub(super) fn len(&self) -> usize {
        self.trail.len()
    }

    /// How many of them have a known outcome.
    pub(super) fn known_placed(&self) -> usize {
        let known = |placed: &&Placed| matches!(placed, Placed::Known(_));
        self.trail.iter().filter(known).count()
    }

    /// Stands for the set of operations that have a place.
    pub(super) fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Whether there are reads that must have a place before this revision passes.
    pub(super) fn has_reads_at(&self, revision: i64) -> bool {
        self.reads_left.get(&revision).is_some_and(|left| *left > 0)
    }

    /// The known operations without a place.
    pub(super) fn unplaced(&self) -> impl Iterator<Item = &'a Known<'a>> {
        let questions: &'a Questions<'a> = self.questions;
        (self.low..self.known.len())
            .filter(|&at| !self.known[at])
            .map(|at| &questions.known[at])
    }

    /// The known operations without a place that began before any of them ended.
    pub(super) fn enabled(&self) -> Vec<(usize, &'a Known<'a>)> {
        let mut soonest = u64::MAX;
        let mut enabled = Vec::new();
        for (at, known) in self.questions.known.iter().enumerate().skip(self.low) {
            if known.operation.invoked > soonest {
                break;
            }
            if !self.known[at] {
                soonest = soonest.min(known.returned);
                enabled.push((at, known));
            }
        }
        enabled
    }

    /// Whether nothing without a place ended before this operation began.
    pub(super) fn can_be_next(&self, operation: &Operation) -> bool {
        let ended_before = |(_, known): &(usize, &Known<'_>)| known.returned < operation.invoked;
        !self.enabled().iter().any(ended_before)
    }

    /// The writes of unknown outcome that can be next.
    pub(super) fn enabled_unknown(&self) -> Vec<usize> {
        let unknown = self.questions.unknown.iter().enumerate();
        unknown
            .filter(|(at, operation)| !self.unknown[*at] && self.can_be_next(operation))
            .map(|(at, _)| at)
            .collect()
    }

    pub(super) fn place(&mut self, placed: Placed) {
        match placed {
            Placed::Known(at) => {
                self.known[at] = true;
                self.count_read(at, -1);
            }
            Placed::Unknown(at) => self.unknown[at] = true,
        }
        self.fingerprint ^= fingerprint(placed);
        self.trail.push(placed);
        while self.known.get(self.low) == Some(&true) {
            self.low += 1;
        }
    }

    /// Leaves only what was placed first.
    pub(super) fn go_back(&mut self, len: usize) {
        for placed in self.trail.split_off(len) {
            match placed {
                Placed::Known(at) => {
                    self.known[at] = false;
                    self.count_read(at, 1);
                    self.low = self.low.min(at);
                }
                Placed::Unknown(at) => self.unknown[at] = false,
            }
            self.fingerprint ^= fingerprint(placed);
        }
    }

    fn count_read(&mut self, at: usize, by: isize) {
        if let Claim::Read(revision, _) = self.questions.known[at].claim
            && let Some(left) = self.reads_left.get_mut(&revision)
        {
            *left = left.saturating_add_signed(by);
        }
    }
}

/// 128 bits that stand for an operation.
fn fingerprint(placed: Placed) -> u128 {
    let (kind, at) = match placed {
        Placed::Known(at) => (1, at),
        Placed::Unknown(at) => (2, at),
    };
    let mut chance = Chance::new((u64::try_from(at).unwrap_or(u64::MAX) << 2) | kind);
    (u128::from(chance.next_number()) << 64) | u128::from(chance.next_number())
}
