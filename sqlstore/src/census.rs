//! Counting keys without looking at each.
//!
//! kube-apiserver wants the exact count of a prefix with every page of a list, so that counting
//! would cost more than listing. The census cuts the key space into blocks of a few hundred
//! keys and knows how many each has: a count is the sum of the whole blocks in its range, plus
//! a look at the two cut ones. A count at another moment than the census's adds or takes away
//! the keys that came or went in between: the last of them are remembered, older ones are read
//! from the history.
//!
//! Invariants:
//! 1. `blocks` is in the order of `from`; the first begins at the empty key; each ends where the
//!    next begins.
//! 2. The counts are those after the change at `place`. The writer moves both in one step.
//! 3. `moves` has every key that came or went after `moves_after`, in the order of places.

use std::collections::VecDeque;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use parking_lot::RwLock;

use crate::session::{At, Marks, Place, Session, Sql, Values};

/// How many keys a new block has.
const BLOCK: usize = 512;

/// A block that has grown past this is cut in two.
const LARGEST: i64 = 1024;

/// With more changes in between it is cheaper to look at the keys.
const FAR: i64 = 50_000;

/// So many keys that came or went are remembered: those of the last minutes.
const REMEMBERED: usize = 50_000;

#[derive(Clone, Debug)]
struct Block {
    from: Bytes,
    count: i64,
}

#[derive(Debug)]
struct Blocks {
    place: Place,
    revision: i64,
    blocks: Vec<Block>,
    moves: VecDeque<Move>,
    moves_after: Place,
}

/// A key that came (+1) or went (-1).
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) place: Place,
    pub(crate) key: Bytes,
    pub(crate) difference: i64,
}

/// The counts of the newest state.
#[derive(Debug)]
pub(crate) struct Census {
    state: RwLock<Blocks>,
}

/// What the census knew of a range a moment ago.
///
/// Taken before the snapshot that it is used with, so that it is never ahead of it: what lies
/// between the two can then be read from the snapshot.
#[derive(Debug)]
pub(crate) struct Glance(Option<Known>);

#[derive(Debug)]
struct Known {
    place: Place,
    revision: i64,
    /// The whole blocks in the range, as a range.
    whole: KeyRange,
    count: i64,
}

impl Default for Census {
    fn default() -> Self {
        let blocks = vec![Block {
            from: Bytes::new(),
            count: 0,
        }];
        Self {
            state: RwLock::new(Blocks::new(Place(0), 0, blocks)),
        }
    }
}

impl Blocks {
    fn new(place: Place, revision: i64, blocks: Vec<Block>) -> Self {
        Self {
            place,
            revision,
            blocks,
            moves: VecDeque::new(),
            moves_after: place,
        }
    }

    fn remember(&mut self, step: Move) {
        if self.moves.len() == REMEMBERED
            && let Some(forgotten) = self.moves.pop_front()
        {
            self.moves_after = forgotten.place;
        }
        self.moves.push_back(step);
    }

    /// How many more keys a range has after `to` than after `from`, as far as is remembered.
    fn difference(&self, keys: &KeyRange, from: Place, to: Place) -> Option<i64> {
        if from < self.moves_after || to > self.place {
            return None;
        }
        let first = self.moves.partition_point(|step| step.place <= from);
        let steps = self
            .moves
            .range(first..)
            .take_while(|step| step.place <= to);
        Some(
            steps
                .filter(|step| keys.contains(&step.key))
                .map(|step| step.difference)
                .sum(),
        )
    }
}

impl Census {
    /// Counts anew. `keys` gives every living key in order to what it is called with.
    pub(crate) fn rebuild(
        &self,
        marks: &Marks,
        keys: impl FnOnce(&mut dyn FnMut(&[u8])) -> Sql<()>,
    ) -> Sql<()> {
        let mut blocks = Vec::new();
        let (mut last, mut in_last) = (
            Block {
                from: Bytes::new(),
                count: 0,
            },
            0,
        );
        keys(&mut |key| {
            if in_last == BLOCK {
                let next = Block {
                    from: Bytes::copy_from_slice(key),
                    count: 0,
                };
                blocks.push(std::mem::replace(&mut last, next));
                in_last = 0;
            }
            last.count += 1;
            in_last += 1;
        })?;
        blocks.push(last);
        let place = Place(marks.next_place.0 - 1);
        *self.state.write() = Blocks::new(place, marks.revision, blocks);
        Ok(())
    }

    /// Follows a commit: which keys came and went. Says whether a block has grown too large.
    pub(crate) fn follow(&self, marks: &Marks, moves: impl Iterator<Item = Move>) -> bool {
        let mut state = self.state.write();
        let (mut emptied, mut overgrown) = (false, false);
        for step in moves {
            let at = state.blocks.partition_point(|block| block.from <= step.key);
            if let Some(block) = state.blocks.get_mut(at.saturating_sub(1)) {
                block.count += step.difference;
                emptied |= block.count == 0;
                overgrown |= block.count > LARGEST;
            }
            state.remember(step);
        }
        state.place = Place(marks.next_place.0 - 1);
        state.revision = marks.revision;
        if emptied {
            // The first block stays: every key must find one.
            let mut first = true;
            state
                .blocks
                .retain(|block| std::mem::take(&mut first) || block.count > 0);
        }
        overgrown
    }

    /// A block that has grown too large.
    pub(crate) fn overgrown(&self) -> Option<KeyRange> {
        let state = self.state.read();
        let at = state
            .blocks
            .iter()
            .position(|block| block.count > LARGEST)?;
        let start = state.blocks.get(at)?.from.clone();
        let end = state.blocks.get(at + 1).map(|next| next.from.clone());
        Some(KeyRange { start, end })
    }

    /// Cuts the block that begins at `from` into blocks of the usual size.
    pub(crate) fn cut(&self, from: &[u8], keys: &[Bytes]) {
        let mut state = self.state.write();
        let Some(at) = state
            .blocks
            .iter()
            .position(|block| block.from[..] == *from)
        else {
            return;
        };
        let parts = keys.chunks(BLOCK).enumerate().filter_map(|(part, keys)| {
            let from = if part == 0 {
                Bytes::copy_from_slice(from)
            } else {
                keys.first()?.clone()
            };
            Some(Block {
                from,
                count: i64::try_from(keys.len()).ok()?,
            })
        });
        let parts: Vec<_> = parts.collect();
        state.blocks.splice(at..=at, parts);
    }

    pub(crate) fn total(&self) -> i64 {
        self.state
            .read()
            .blocks
            .iter()
            .map(|block| block.count)
            .sum()
    }

    /// Looks at a range, before the snapshot in which it is to be counted.
    pub(crate) fn glance(&self, keys: &KeyRange) -> Glance {
        Glance(self.known(keys))
    }

    /// `None` where no whole block is in the range.
    fn known(&self, keys: &KeyRange) -> Option<Known> {
        let state = self.state.read();
        let first = state
            .blocks
            .partition_point(|block| block.from < keys.start);
        let behind = match &keys.end {
            Some(end) => state
                .blocks
                .partition_point(|block| block.from <= *end)
                .checked_sub(1)?,
            None => state.blocks.len(),
        };
        let whole = state
            .blocks
            .get(first..behind)
            .filter(|whole| !whole.is_empty())?;
        Some(Known {
            place: state.place,
            revision: state.revision,
            whole: KeyRange {
                start: whole.first()?.from.clone(),
                end: state.blocks.get(behind).map(|next| next.from.clone()),
            },
            count: whole.iter().map(|block| block.count).sum(),
        })
    }
}

impl Glance {
    /// How many living keys the range of the glance has, in the session's snapshot.
    pub(crate) fn count<S: Session>(
        &self,
        census: &Census,
        session: &mut S,
        keys: &KeyRange,
        at: At,
        marks: &Marks,
    ) -> Sql<i64> {
        let asked = match at {
            At::Now => Place(marks.next_place.0 - 1),
            At::After(place) => place,
        };
        let Some(known) = &self.0 else {
            return session.count(keys, at);
        };
        let Some(mut count) = known.count_at(census, session, asked, marks)? else {
            return session.count(keys, at);
        };
        if keys.start < known.whole.start {
            let edge = KeyRange {
                start: keys.start.clone(),
                end: Some(known.whole.start.clone()),
            };
            count += session.count(&edge, at)?;
        }
        if let Some(end) = known
            .whole
            .end
            .clone()
            .filter(|end| Some(end) != keys.end.as_ref())
        {
            let edge = KeyRange {
                start: end,
                end: keys.end.clone(),
            };
            count += session.count(&edge, at)?;
        }
        Ok(count)
    }
}

impl Known {
    /// How many keys the whole blocks had after `asked`; `None` where a look at the keys is
    /// cheaper, or the only way.
    fn count_at<S: Session>(
        &self,
        census: &Census,
        session: &mut S,
        asked: Place,
        marks: &Marks,
    ) -> Sql<Option<i64>> {
        let (from, to) = (self.place.min(asked), self.place.max(asked));
        let sign = if asked >= self.place { 1 } else { -1 };
        if from == to {
            return Ok(Some(self.count));
        }
        if let Some(difference) = census.state.read().difference(&self.whole, from, to) {
            return Ok(Some(self.count + sign * difference));
        }
        // A census from below the compacted revision may miss changes that are swept by now.
        if to.0 - from.0 > FAR || self.revision < marks.compacted {
            return Ok(None);
        }
        Ok(Some(
            self.count + sign * difference(session, &self.whole, from, to)?,
        ))
    }
}

/// How many more keys a range has after `to` than after `from`, by the history.
fn difference<S: Session>(session: &mut S, keys: &KeyRange, from: Place, to: Place) -> Sql<i64> {
    let mut difference = 0;
    session.changes(from, to, Values::Leave, &mut |_, row| {
        if keys.contains(row.key) {
            difference += match row.version {
                1 => 1,
                0 => -1,
                _ => 0,
            };
        }
        true
    })?;
    Ok(difference)
}
