//! The language of an expression as a deterministic automaton whose states know what can follow.
//!
//! It reads the whole subject from its first byte. Every state has a verdict about the keys that
//! begin with what was read, so that a walk along the bounds of a range decides exactly whether
//! the range can hold a match. A state that has seen a match accepts whatever follows.

use std::collections::{HashMap, HashSet, VecDeque};

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton as _, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start},
};

use super::{RegexpError, syntax};

/// Bounds what one expression may cost in memory and time.
const MOST_BYTES: usize = 8 << 20;
/// A language of more intervals than this is not enumerated.
pub(super) const MOST_PIECES: u32 = 256;

/// What a state knows about all keys that begin with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None matches.
    Dead,
    /// All match.
    Universal,
    /// Those that match form at most [`MOST_PIECES`] intervals.
    Few,
    /// Some match, and they cannot be enumerated.
    Many,
}

#[derive(Debug)]
pub(crate) struct Automaton {
    states: Vec<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// Whether exactly what was read matches.
    pub(super) accepts: bool,
    pub(super) verdict: Verdict,
    /// For runs of bytes: the last byte of the run and the state that it leads to.
    runs: Vec<(u8, u32)>,
}

/// Neighbouring bytes that lead to one state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) first: u8,
    pub(super) last: u8,
    pub(super) next: u32,
}

/// The state that has seen a match.
const MATCHED: u32 = 0;
pub(super) const START: u32 = 1;

impl Automaton {
    pub(super) fn new(pattern: &str) -> Result<Self, RegexpError> {
        let nfa = thompson::NFA::compiler()
            .syntax(syntax())
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(MOST_BYTES)),
            )
            .build(pattern)
            .map_err(|error| RegexpError::Nfa(Box::new(error)))?;
        let dfa = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .match_kind(MatchKind::All)
                    .start_kind(StartKind::Unanchored)
                    .dfa_size_limit(Some(MOST_BYTES))
                    .determinize_size_limit(Some(MOST_BYTES)),
            )
            .build_from_nfa(&nfa)
            .map_err(|error| RegexpError::Automaton(Box::new(error)))?;
        let begin = start::Config::new().anchored(Anchored::No);
        let begin = dfa.start_state(&begin).map_err(|_| RegexpError::NoStart)?;
        let mut states = explore(&dfa, begin);
        judge(&mut states);
        Ok(Self { states })
    }

    /// Whether no subject matches.
    pub(crate) fn is_dead(&self) -> bool {
        self.verdict(START) == Verdict::Dead
    }

    /// Whether all subjects that match form a few intervals.
    pub(crate) fn is_enumerable(&self) -> bool {
        self.verdict(START) != Verdict::Many
    }

    /// One of the shortest subjects that match.
    pub(crate) fn shortest(&self) -> Option<Vec<u8>> {
        let mut seen = HashSet::from([START]);
        let mut open = VecDeque::from([(START, Vec::new())]);
        while let Some((state, path)) = open.pop_front() {
            if self.accepts(state) {
                return Some(path);
            }
            for run in self.runs(state) {
                if self.verdict(run.next) != Verdict::Dead && seen.insert(run.next) {
                    open.push_back((run.next, [&path[..], &[run.first]].concat()));
                }
            }
        }
        None
    }

    /// Whether a match can begin behind any text: such an expression is not anchored, or its anchor
    /// has no use.
    pub(crate) fn matches_after_anything(&self) -> bool {
        // A byte that no expression names stands for any text; a slash ends every segment.
        [b'/', 0xfe].iter().all(|byte| {
            let state = self.next(START, *byte);
            let again = self.next(state, *byte);
            self.verdict(again) != Verdict::Dead
        }) && self.verdict(START) != Verdict::Universal
    }

    pub(super) fn verdict(&self, state: u32) -> Verdict {
        self.state(state).map_or(Verdict::Dead, |s| s.verdict)
    }

    pub(super) fn accepts(&self, state: u32) -> bool {
        self.state(state).is_some_and(|s| s.accepts)
    }

    pub(super) fn next(&self, state: u32, byte: u8) -> u32 {
        self.state(state).map_or(MATCHED, |s| s.next(byte))
    }

    /// The last of the bytes behind `byte` that lead where it leads.
    pub(super) fn run_of(&self, state: u32, byte: u8) -> u8 {
        let found = self.state(state).and_then(|s| s.runs.get(s.run_at(byte)));
        found.map_or(u8::MAX, |(last, _)| *last)
    }

    /// Where each byte leads, neighbours together.
    pub(super) fn runs(&self, state: u32) -> impl DoubleEndedIterator<Item = Run> {
        let runs = self.state(state).map_or(&[][..], |s| &s.runs);
        runs.iter().enumerate().map(|(number, (last, next))| Run {
            first: match number.checked_sub(1).and_then(|before| runs.get(before)) {
                Some((before, _)) => before.saturating_add(1),
                None => 0,
            },
            last: *last,
            next: *next,
        })
    }

    fn state(&self, state: u32) -> Option<&State> {
        self.states.get(state as usize)
    }
}

impl State {
    fn run_at(&self, byte: u8) -> usize {
        self.runs.partition_point(|(last, _)| *last < byte)
    }

    fn next(&self, byte: u8) -> u32 {
        self.runs
            .get(self.run_at(byte))
            .map_or(MATCHED, |(_, next)| *next)
    }
}

/// Copies the part of the automaton that can be reached. All states that have seen a match become
/// one, so that what follows a match is not explored.
fn explore(dfa: &dense::DFA<Vec<u32>>, begin: StateID) -> Vec<State> {
    let mut states = vec![State {
        accepts: true,
        verdict: Verdict::Universal,
        runs: vec![(u8::MAX, MATCHED)],
    }];
    let mut numbers = HashMap::from([(begin, START)]);
    let mut found = vec![begin];
    let mut at = 0;
    while let Some(id) = found.get(at).copied() {
        at += 1;
        let mut runs: Vec<(u8, u32)> = Vec::new();
        for byte in 0..=u8::MAX {
            let next = dfa.next_state(id, byte);
            // A state is entered one byte after its match: what was read before has matched.
            let number = if dfa.is_match_state(next) {
                MATCHED
            } else {
                *numbers.entry(next).or_insert_with(|| {
                    found.push(next);
                    u32::try_from(found.len()).unwrap_or(u32::MAX)
                })
            };
            match runs.last_mut() {
                Some((last, same)) if *same == number => *last = byte,
                _ => runs.push((byte, number)),
            }
        }
        states.push(State {
            accepts: dfa.is_match_state(dfa.next_eoi_state(id)),
            verdict: Verdict::Many,
            runs,
        });
    }
    states
}

/// Gives every state its verdict.
fn judge(states: &mut [State]) {
    let before = predecessors(states);
    let can_accept = reached(states, &before, |state| state.accepts);
    let can_reject = reached(states, &before, |state| !state.accepts);
    for (state, (accept, reject)) in states.iter_mut().zip(can_accept.iter().zip(&can_reject)) {
        state.verdict = match (accept, reject) {
            (false, _) => Verdict::Dead,
            (true, false) => Verdict::Universal,
            (true, true) => Verdict::Many,
        };
    }
    count_pieces(states, &before);
}

fn predecessors(states: &[State]) -> Vec<Vec<u32>> {
    let mut before = vec![Vec::new(); states.len()];
    for (number, state) in (0..).zip(states) {
        for (_, next) in &state.runs {
            if let Some(list) = before.get_mut(*next as usize)
                && list.last() != Some(&number)
            {
                list.push(number);
            }
        }
    }
    before
}

/// Which states can reach one that `is_goal`.
fn reached(states: &[State], before: &[Vec<u32>], is_goal: impl Fn(&State) -> bool) -> Vec<bool> {
    let mut marks: Vec<bool> = states.iter().map(is_goal).collect();
    let goals = (0..).zip(&marks).filter(|(_, mark)| **mark);
    let mut open: Vec<u32> = goals.map(|(number, _)| number).collect();
    while let Some(number) = open.pop() {
        for earlier in before.get(number as usize).into_iter().flatten() {
            if let Some(mark) = marks.get_mut(*earlier as usize)
                && !*mark
            {
                *mark = true;
                open.push(*earlier);
            }
        }
    }
    marks
}

/// Finds the states from which the language is a few intervals: those that lead to no cycle, taken
/// from the ends backwards.
fn count_pieces(states: &mut [State], before: &[Vec<u32>]) {
    let mut pieces: Vec<Option<u32>> = vec![None; states.len()];
    let mut ready: Vec<u32> = (0..).take(states.len()).collect();
    while let Some(number) = ready.pop() {
        let count = pieces_of(states, &pieces, number);
        let Some(slot) = pieces.get_mut(number as usize) else {
            continue;
        };
        if slot.is_none() && count.is_some() {
            *slot = count;
            ready.extend(before.get(number as usize).into_iter().flatten());
        }
    }
    for (state, pieces) in states.iter_mut().zip(pieces) {
        if state.verdict == Verdict::Many && pieces.is_some_and(|count| count <= MOST_PIECES) {
            state.verdict = Verdict::Few;
        }
    }
}

/// The number of intervals from a state on, where that of everything behind it is known.
fn pieces_of(states: &[State], pieces: &[Option<u32>], number: u32) -> Option<u32> {
    let state = states.get(number as usize)?;
    match state.verdict {
        Verdict::Dead => return Some(0),
        Verdict::Universal => return Some(1),
        Verdict::Few | Verdict::Many => {}
    }
    let mut total = u32::from(state.accepts);
    let mut first = 0u32;
    for (last, next) in &state.runs {
        let each = (*pieces.get(*next as usize)?)?;
        let is_whole = states.get(*next as usize)?.verdict == Verdict::Universal;
        let bytes = u32::from(*last) + 1 - first;
        first = u32::from(*last) + 1;
        // Neighbouring bytes behind which everything matches are one interval.
        total = total.saturating_add(if is_whole {
            1
        } else {
            each.saturating_mul(bytes)
        });
    }
    Some(total)
}
