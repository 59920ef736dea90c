//! What of a range an expression matches, by walking its automaton along the range's bounds.
//!
//! The subjects of a range form a tree of prefixes. Only the two branches along the bounds need
//! every byte; each subtree between them is decided by the verdict of its state.

use bytes::{BufMut, Bytes, BytesMut};
use keyloom_etcd_api::KeyRange;

use super::automaton::{Automaton, START, Verdict};

/// Bounds longer than this are shortened, which can only widen the answer.
const LONGEST_BOUND: usize = 4096;
/// More pieces than this become one that is not exact.
const MOST_PIECES: usize = 1024;
/// How far the edges of a subtree are followed.
const DEEPEST_EDGE: usize = 64;

/// The pieces of a range that an expression claims, in order and disjoint; none means that no key
/// of the range can match.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) pieces: Vec<ClaimedRange>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClaimedRange {
    pub(crate) range: KeyRange,
    /// Whether every key of the piece matches; otherwise at least one key can.
    pub(crate) exact: bool,
}

/// A prefix on the way down, with what is left to visit below it.
struct Frame {
    state: u32,
    /// Whether the prefix is the beginning of the lower, and of the upper bound.
    low: bool,
    high: bool,
    /// The next byte to follow; 256 behind the last.
    byte: u16,
}

/// A subtree in which some keys match.
struct Mixed {
    path: Vec<u8>,
    state: u32,
}

struct Walk<'a> {
    automaton: &'a Automaton,
    low: &'a [u8],
    high: Option<&'a [u8]>,
    path: Vec<u8>,
    /// The first and the last of mixed subtrees with nothing exact between them: they become one
    /// piece, whose edges are looked for only once.
    mixed: Option<(Mixed, Mixed)>,
    claim: Claim,
}

impl Claim {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether every key of the range that was asked for matches.
    pub(crate) fn is_whole(&self, asked: &KeyRange) -> bool {
        matches!(self.pieces.as_slice(), [piece] if piece.exact && piece.range.covers(asked))
    }

    fn add(&mut self, range: KeyRange, exact: bool) {
        if range.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(last) if last.exact && exact && last.range.end.as_ref() == Some(&range.start) => {
                last.range.end = range.end;
            }
            _ => self.pieces.push(ClaimedRange { range, exact }),
        }
    }
}

impl Automaton {
    /// What of the subjects in `range` matches. A subject may be empty, so `start` may be.
    pub(crate) fn claim(&self, range: &KeyRange) -> Claim {
        let is_long = |bound: &Bytes| bound.len() > LONGEST_BOUND;
        if is_long(&range.start) || range.end.as_ref().is_some_and(is_long) {
            let mut claim = self.claim(&shortened(range));
            for piece in &mut claim.pieces {
                piece.exact = false;
            }
            return claim;
        }
        let mut walk = Walk {
            automaton: self,
            low: &range.start,
            high: range.end.as_deref(),
            path: Vec::new(),
            mixed: None,
            claim: Claim::default(),
        };
        walk.run();
        walk.claim
    }

    /// A key at or before the first match below `path`.
    fn lowest(&self, at: &Mixed) -> Bytes {
        let (mut path, mut state) = (BytesMut::from(&at.path[..]), at.state);
        for _ in 0..DEEPEST_EDGE {
            let next = self.runs(state).find(|run| self.is_live(run.next));
            let Some(run) = next.filter(|_| !self.accepts(state)) else {
                break;
            };
            path.put_u8(run.first);
            state = run.next;
        }
        path.freeze()
    }

    /// A key behind the last match below `path`; `None` where no key is.
    fn behind_highest(&self, at: &Mixed) -> Option<Bytes> {
        let (mut path, mut state) = (BytesMut::from(&at.path[..]), at.state);
        for _ in 0..DEEPEST_EDGE {
            if self.verdict(state) == Verdict::Universal {
                break;
            }
            let Some(run) = self.runs(state).rfind(|run| self.is_live(run.next)) else {
                return KeyRange::key(path.freeze()).end;
            };
            path.put_u8(run.last);
            state = run.next;
        }
        KeyRange::prefix(path.freeze()).end
    }

    fn is_live(&self, state: u32) -> bool {
        self.verdict(state) != Verdict::Dead
    }
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut open = Vec::new();
        self.enter(START, true, self.high.is_some(), &mut open);
        while let Some(frame) = open.last_mut() {
            if self.claim.pieces.len() >= MOST_PIECES {
                return self.give_up();
            }
            let Some((byte, last)) = self.next_bytes(frame) else {
                open.pop();
                self.path.pop();
                continue;
            };
            let depth = self.path.len();
            let low = frame.low && self.low.get(depth) == Some(&byte);
            let high = frame.high && self.high.and_then(|high| high.get(depth)) == Some(&byte);
            let next = self.automaton.next(frame.state, byte);
            let bounded = low || high;
            if !bounded && self.automaton.verdict(next) != Verdict::Few {
                frame.byte = u16::from(last) + 1;
                self.siblings(byte, last, next);
                continue;
            }
            frame.byte = u16::from(byte) + 1;
            self.path.push(byte);
            if !self.enter(next, low, high, &mut open) {
                self.path.pop();
            }
        }
        self.flush();
    }

    /// The next byte to follow, and the last of those behind it that lead to the same state and
    /// into subtrees without bounds.
    fn next_bytes(&self, frame: &Frame) -> Option<(u8, u8)> {
        let depth = self.path.len();
        let byte = u8::try_from(frame.byte).ok()?;
        let run = self.automaton.run_of(frame.state, byte);
        let bound = self.high.filter(|_| frame.high);
        match bound.map(|high| high.get(depth).copied()) {
            None => Some((byte, run)),
            Some(None) => None,
            Some(Some(bound)) if byte < bound => Some((byte, run.min(bound - 1))),
            Some(Some(bound)) => (byte == bound).then_some((byte, byte)),
        }
    }

    /// Decides the subtrees of neighbouring bytes that lead to one state, all without bounds.
    fn siblings(&mut self, first: u8, last: u8, state: u32) {
        let below = |byte: u8| [&self.path[..], &[byte]].concat();
        match self.automaton.verdict(state) {
            Verdict::Dead | Verdict::Few => {}
            Verdict::Universal => {
                let range = KeyRange {
                    start: Bytes::from(below(first)),
                    end: KeyRange::prefix(Bytes::from(below(last))).end,
                };
                self.exact(range);
            }
            Verdict::Many => {
                let [first, last] = [first, last].map(|byte| Mixed {
                    path: below(byte),
                    state,
                });
                self.mixed(first, last);
            }
        }
    }

    /// Decides the subtree below the path, or opens it: then gives true.
    fn enter(&mut self, state: u32, low: bool, high: bool, open: &mut Vec<Frame>) -> bool {
        let depth = self.path.len();
        if high && self.high.is_some_and(|bound| bound.len() <= depth) {
            return false;
        }
        let low = low && self.low.len() > depth;
        match self.automaton.verdict(state) {
            Verdict::Dead => return false,
            Verdict::Universal => {
                let range = self.clipped(subtree(&self.path), low, high);
                self.exact(range);
                return false;
            }
            Verdict::Many if !low && !high => {
                let [first, last] = [(); 2].map(|()| Mixed {
                    path: self.path.clone(),
                    state,
                });
                self.mixed(first, last);
                return false;
            }
            Verdict::Few | Verdict::Many => {}
        }
        if !low && self.automaton.accepts(state) {
            self.exact(KeyRange::key(Bytes::copy_from_slice(&self.path)));
        }
        let first = self.low.get(depth).copied().filter(|_| low).unwrap_or(0);
        open.push(Frame {
            state,
            low,
            high,
            byte: u16::from(first),
        });
        true
    }

    fn clipped(&self, mut range: KeyRange, low: bool, high: bool) -> KeyRange {
        if low {
            range.start = Bytes::copy_from_slice(self.low);
        }
        if let Some(bound) = self.high.filter(|_| high) {
            range.end = Some(Bytes::copy_from_slice(bound));
        }
        range
    }

    fn exact(&mut self, range: KeyRange) {
        self.flush();
        self.claim.add(range, true);
    }

    fn mixed(&mut self, first: Mixed, last: Mixed) {
        let first = self.mixed.take().map_or(first, |(first, _)| first);
        self.mixed = Some((first, last));
    }

    fn flush(&mut self) {
        if let Some((first, last)) = self.mixed.take() {
            let range = KeyRange {
                start: self.automaton.lowest(&first),
                end: self.automaton.behind_highest(&last),
            };
            self.claim.add(range, false);
        }
    }

    /// Makes one piece of everything from the first piece to the end of the range.
    fn give_up(&mut self) {
        let first = self.claim.pieces.first();
        let start = first.map_or_else(Bytes::new, |piece| piece.range.start.clone());
        let end = self.high.map(Bytes::copy_from_slice);
        self.claim.pieces.clear();
        self.claim.add(KeyRange { start, end }, false);
    }
}

/// Every subject that begins with `path`; unlike a key, it may be empty.
fn subtree(path: &[u8]) -> KeyRange {
    KeyRange {
        start: Bytes::copy_from_slice(path),
        end: KeyRange::prefix(Bytes::copy_from_slice(path)).end,
    }
}

/// The range with both bounds cut to their beginnings, so that it holds at least what it held.
fn shortened(range: &KeyRange) -> KeyRange {
    let cut = |bound: &Bytes| bound.slice(..bound.len().min(LONGEST_BOUND));
    let end = range.end.as_ref().and_then(|end| {
        if end.len() > LONGEST_BOUND {
            KeyRange::prefix(cut(end)).end
        } else {
            Some(end.clone())
        }
    });
    KeyRange {
        start: cut(&range.start),
        end,
    }
}

#[cfg(test)]
mod tests;
