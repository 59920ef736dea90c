//! The search for an order.
//!
//! Between two choices everything follows: [`Search::advance`] places what can only stand where it
//! stands. It stops at the end, at a dead end, or at a revision that no answer claims.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use keyloom_etcd_api::{EtcdError, mvccpb::Event};

use super::{
    Operation, Reason, Rules, Stuck, Verdict, Violation,
    claim::{Claim, Known, Questions},
    order::{Order, Placed},
    witness,
};
use crate::{
    Answer, Step,
    model::Etcd,
    program::{Tolerance, blurred, same_answer},
};

const BLUR: Tolerance = Tolerance { cluster_id: true };

/// How many operations a report of a dead end names.
const NAMED: usize = 16;

pub(super) fn search(questions: &Questions<'_>, rules: &Rules) -> Verdict {
    let mut search = Search::new(questions, rules);
    match search.run() {
        Ok(true) => Verdict::Linearizable,
        Ok(false) => Verdict::Violation(search.furthest),
        Err(BudgetSpent) => Verdict::TooHard {
            placed: search.order.known_placed(),
            of: questions.known.len(),
        },
    }
}

struct BudgetSpent;

/// Where [`Search::advance`] stopped.
enum Stop {
    /// Everything is placed.
    End,
    /// This order leads nowhere.
    DeadEnd,
    /// No answer claims the next revision.
    Choice,
}

/// Who took a revision that no answer claims.
#[derive(Clone, Copy)]
enum Candidate {
    /// A write of unknown outcome.
    Unknown(usize),
    /// The end of a lease, which took its keys with it.
    Lease,
    Nobody,
}

/// A point to come back to, and what is left to try there.
struct Choice {
    placed: usize,
    revision: i64,
    left: Vec<Candidate>,
}

struct Search<'a> {
    questions: &'a Questions<'a>,
    rules: &'a Rules,
    budget: u64,
    etcd: Etcd,
    /// The hash of the state at each revision since the start.
    states: Vec<u128>,
    order: Order<'a>,
    /// The choices that were met: what was placed, and the state.
    seen: HashSet<(u128, u128)>,
    /// The dead end that most operations led to.
    furthest: Violation,
}

impl<'a> Search<'a> {
    fn new(questions: &'a Questions<'a>, rules: &'a Rules) -> Self {
        Self {
            questions,
            rules,
            budget: rules.budget,
            etcd: rules.start.clone(),
            states: vec![0],
            order: Order::new(questions),
            seen: HashSet::new(),
            furthest: Violation {
                revision: rules.start.revision(),
                placed: 0,
                of: questions.known.len(),
                stuck: Vec::new(),
                told: Vec::new(),
            },
        }
    }

    /// Tries every choice, depth first.
    fn run(&mut self) -> Result<bool, BudgetSpent> {
        let mut choices = Vec::new();
        loop {
            match self.advance()? {
                Stop::End => return Ok(true),
                Stop::DeadEnd => {}
                Stop::Choice => choices.push(self.choice()),
            }
            if !self.take_next(&mut choices)? {
                return Ok(false);
            }
        }
    }

    /// Goes back to the last choice with something left to try, and tries it.
    fn take_next(&mut self, choices: &mut Vec<Choice>) -> Result<bool, BudgetSpent> {
        while let Some(choice) = choices.last_mut() {
            self.go_back(choice);
            match choice.left.pop() {
                None => drop(choices.pop()),
                Some(candidate) if self.follow(candidate)? => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    fn choice(&mut self) -> Choice {
        Choice {
            placed: self.order.len(),
            revision: self.etcd.revision(),
            left: self.candidates(),
        }
    }

    /// Who can have taken the next revision, the likeliest last.
    fn candidates(&mut self) -> Vec<Candidate> {
        if !self.seen.insert((self.order.fingerprint(), self.state())) {
            return Vec::new();
        }
        let unknown = self.order.enabled_unknown().into_iter().rev();
        let others = [
            self.rules.gaps.then_some(Candidate::Nobody),
            witness::ended_lease(self.rules, &self.etcd).then_some(Candidate::Lease),
        ];
        let others = others.into_iter().flatten();
        let candidates: Vec<_> = others.chain(unknown.map(Candidate::Unknown)).collect();
        if candidates.is_empty() {
            self.nobody_wrote(None);
        }
        candidates
    }

    /// Gives the next revision to a candidate. False where it would not have taken one, or where
    /// watchers saw something else there.
    fn follow(&mut self, candidate: Candidate) -> Result<bool, BudgetSpent> {
        self.spend()?;
        let before = self.etcd.revision();
        match candidate {
            Candidate::Nobody => self.etcd.keyspace_mut().skip(),
            Candidate::Lease => witness::end_lease(self.rules, &mut self.etcd),
            // What it would have been answered, nobody knows.
            Candidate::Unknown(at) => {
                let operation = self.questions.unknown.get(at);
                drop(operation.map(|operation| self.etcd.apply(&operation.step)));
            }
        }
        if self.etcd.revision() == before {
            return Ok(false);
        }
        if let Some(reason) = witness::contradiction(self.rules, &self.etcd) {
            self.etcd.keyspace_mut().roll_back(before);
            let unknown = match candidate {
                Candidate::Unknown(at) => self.questions.unknown.get(at),
                Candidate::Lease | Candidate::Nobody => None,
            };
            let operation = unknown.map(|operation| (*operation).clone());
            self.nobody_wrote(operation.map(|operation| Stuck { operation, reason }));
            return Ok(false);
        }
        if let Candidate::Unknown(at) = candidate {
            self.order.place(Placed::Unknown(at));
        }
        self.push_state();
        Ok(true)
    }

    /// Places what follows from what is placed.
    fn advance(&mut self) -> Result<Stop, BudgetSpent> {
        loop {
            if !self.place_reads()? {
                return Ok(Stop::DeadEnd);
            }
            let (now, next) = (self.etcd.revision(), self.etcd.revision() + 1);
            if self.order.is_complete() && now >= self.questions.stale_up_to {
                return self.check_stale();
            }
            if self.order.has_reads_at(now) {
                self.dead_end(|known| why_left_behind(known, now));
                return Ok(Stop::DeadEnd);
            }
            match self.questions.writers.get(&next) {
                None => return Ok(Stop::Choice),
                Some(&writer) if self.place_write(writer)? => {}
                Some(_) => return Ok(Stop::DeadEnd),
            }
        }
    }

    /// Places every operation that can stand here and changes nothing: that is no choice, for it
    /// is in nobody's way. False where one was answered otherwise than etcd answers here, and
    /// cannot stand anywhere else.
    fn place_reads(&mut self) -> Result<bool, BudgetSpent> {
        loop {
            let before = self.order.len();
            for (at, known) in self.order.enabled() {
                let fits = match &known.claim {
                    Claim::Wrote(..) => false,
                    Claim::Read(revision, _) if *revision > self.etcd.revision() => false,
                    Claim::Read(_, answer) if self.answers(known.operation, answer)? => true,
                    Claim::Read(..) => return Ok(false),
                    Claim::Refused(error) => self.refuses(&known.operation.step, *error)?,
                };
                if fits {
                    self.order.place(Placed::Known(at));
                }
            }
            if self.order.len() == before {
                return Ok(true);
            }
        }
    }

    /// Places the write that claims the next revision.
    fn place_write(&mut self, at: usize) -> Result<bool, BudgetSpent> {
        let Some(Known {
            operation,
            claim: Claim::Wrote(revision, answer),
            ..
        }) = self.questions.known.get(at)
        else {
            return Ok(false);
        };
        if !self.order.can_be_next(operation) {
            let revision = *revision;
            self.dead_end_of(operation, Reason::BeganAfter { revision });
            return Ok(false);
        }
        if !self.answers(operation, answer)? {
            return Ok(false);
        }
        if let Some(reason) = witness::contradiction(self.rules, &self.etcd) {
            self.dead_end_of(operation, reason);
            self.etcd.keyspace_mut().roll_back(*revision - 1);
            return Ok(false);
        }
        self.order.place(Placed::Known(at));
        self.push_state();
        Ok(true)
    }

    /// Whether etcd gives this answer here. What it writes in doing so stays.
    fn answers(&mut self, operation: &Operation, answer: &Answer) -> Result<bool, BudgetSpent> {
        self.spend()?;
        let before = self.etcd.revision();
        let expected = self.etcd.apply(&operation.step);
        if matches!(&expected, Ok(expected) if blurred(expected, BLUR) == *answer) {
            return Ok(true);
        }
        self.etcd.keyspace_mut().roll_back(before);
        self.dead_end_by(operation, expected, answer);
        Ok(false)
    }

    fn refuses(&mut self, step: &Step, error: EtcdError) -> Result<bool, BudgetSpent> {
        self.spend()?;
        let before = self.etcd.revision();
        let refused = self.etcd.apply(step).err() == Some(error);
        self.etcd.keyspace_mut().roll_back(before);
        Ok(refused)
    }

    /// Reads that allow stale data must have seen a state that was, once all states are known.
    fn check_stale(&mut self) -> Result<Stop, BudgetSpent> {
        for (operation, answer) in &self.questions.stale {
            let Step::Range(request) = &operation.step else {
                continue;
            };
            self.spend()?;
            let expected = self.etcd.range_as_of(request, answer.revision());
            let expected = expected.map(Answer::Range);
            if !matches!(&expected, Ok(expected) if blurred(expected, BLUR) == *answer) {
                self.dead_end_by(operation, expected, answer);
                return Ok(Stop::DeadEnd);
            }
        }
        Ok(Stop::End)
    }

    fn go_back(&mut self, to: &Choice) {
        self.order.go_back(to.placed);
        let undone = self.etcd.revision() - to.revision;
        self.etcd.keyspace_mut().roll_back(to.revision);
        let undone = usize::try_from(undone).unwrap_or(0);
        self.states
            .truncate(self.states.len().saturating_sub(undone));
    }

    fn state(&self) -> u128 {
        self.states.last().copied().unwrap_or(0)
    }

    /// Takes the revision just written into the hash of the state.
    fn push_state(&mut self) {
        let changes = self.etcd.keyspace().changes(self.etcd.revision());
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, self.state(), changes).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        self.states.push((half(1) << 64) | half(2));
    }

    fn spend(&mut self) -> Result<(), BudgetSpent> {
        self.budget = self.budget.checked_sub(1).ok_or(BudgetSpent)?;
        Ok(())
    }

    /// Remembers that nothing that could stand here does.
    fn dead_end(&mut self, why: impl Fn(&Known<'_>) -> Reason) {
        let stuck = self.unplaced(why).collect();
        self.note(stuck, Vec::new());
    }

    /// Remembers that the next revision is nobody's, and not that of this one either.
    fn nobody_wrote(&mut self, candidate: Option<Stuck>) {
        let revision = self.etcd.revision() + 1;
        let waiting = self.unplaced(|_| Reason::NobodyWrote { revision });
        let stuck = candidate.into_iter().chain(waiting).collect();
        let told = witness::told(self.rules, revision).unwrap_or_default();
        self.note(stuck, told.to_vec());
    }

    /// Some operations without a place.
    fn unplaced(&self, why: impl Fn(&Known<'_>) -> Reason) -> impl Iterator<Item = Stuck> {
        self.order.unplaced().take(NAMED).map(move |known| Stuck {
            operation: known.operation.clone(),
            reason: why(known),
        })
    }

    fn dead_end_of(&mut self, operation: &Operation, reason: Reason) {
        let stuck = Stuck {
            operation: operation.clone(),
            reason,
        };
        self.note(vec![stuck], Vec::new());
    }

    fn dead_end_by(
        &mut self,
        operation: &Operation,
        expected: Result<Answer, EtcdError>,
        answer: &Answer,
    ) {
        let expected = expected.map_err(Into::into);
        if let Err(difference) = same_answer(&expected, &Ok(answer.clone()), BLUR) {
            self.dead_end_of(operation, Reason::Answer(difference));
        }
    }

    fn note(&mut self, stuck: Vec<Stuck>, told: Vec<Event>) {
        let placed = self.order.known_placed();
        let is_first = self.furthest.stuck.is_empty() && self.furthest.told.is_empty();
        if is_first || placed > self.furthest.placed {
            self.furthest.placed = placed;
            self.furthest.revision = self.etcd.revision();
            self.furthest.stuck = stuck;
            self.furthest.told = told;
        }
    }
}

/// Why an operation has no place where a read at the revision `now` has none.
fn why_left_behind(known: &Known<'_>, now: i64) -> Reason {
    match known.claim {
        Claim::Read(revision, _) if revision == now => Reason::TooLate { revision },
        Claim::Read(..) | Claim::Wrote(..) | Claim::Refused(_) => Reason::Waits,
    }
}
