//! Counting keys without looking at each.
//!
//! kube-apiserver wants the exact count of a prefix with every page of a list, so that counting
//! would cost more than listing. So the key space is cut into blocks of a few hundred keys, and it
//! is known how many each has: a count is the sum of the whole blocks in its range, plus a look at
//! the two cut ones. A count at an earlier or later moment adds or takes away the keys that came or
//! went in between: the last of them are remembered, older ones are read from the history.
//!
//! The counts are kept in the database too, written together with the changes that they count, so
//! that opening reads one row for each block and not one for each key.
//!
//! Invariants:
//! 1. `blocks` is in the order of `from`; the first begins at the empty key; each ends where the
//!    next begins.
//! 2. The counts are those after the change at `place`. The writer moves both in one step.
//! 3. `moves` has every key that came or went after `moves_after`, in the order of places.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use parking_lot::RwLock;

use crate::session::{At, ChangeSeq, Marks, Session, Sql, Values};

/// How many keys a new block has.
const BLOCK: usize = 512;

/// A block that has grown past this is cut.
const LARGEST: i64 = 1024;

/// One that has shrunk to less goes into the one before it, where there is room.
const SMALLEST: i64 = 64;

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
    place: ChangeSeq,
    revision: i64,
    blocks: Vec<Block>,
    moves: VecDeque<Move>,
    moves_after: ChangeSeq,
}

/// A key that came (+1) or went (-1).
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) place: ChangeSeq,
    pub(crate) key: Bytes,
    pub(crate) difference: i64,
}

/// A block as it will be: where it begins, and its keys; `None` where it will not be.
pub(crate) type BlockChange = (Bytes, Option<i64>);

/// The counts of the newest state.
#[derive(Debug)]
pub(crate) struct KeyCounts {
    state: RwLock<Blocks>,
}

/// What the key counts knew of a range a moment ago.
///
/// Taken before the snapshot that it is used with, so that it is never ahead of it: what lies
/// between the two can then be read from the snapshot.
#[derive(Debug)]
pub(crate) struct Glance(Option<Known>);

#[derive(Debug)]
struct Known {
    place: ChangeSeq,
    revision: i64,
    /// The whole blocks in the range, as a range.
    whole: KeyRange,
    count: i64,
}

impl Default for KeyCounts {
    fn default() -> Self {
        let blocks = vec![Block {
            from: Bytes::new(),
            count: 0,
        }];
        Self {
            state: RwLock::new(Blocks::new(ChangeSeq(0), 0, blocks)),
        }
    }
}

impl Blocks {
    fn new(place: ChangeSeq, revision: i64, blocks: Vec<Block>) -> Self {
        Self {
            place,
            revision,
            blocks,
            moves: VecDeque::new(),
            moves_after: place,
        }
    }

    /// The block of a key.
    fn at(&self, key: &[u8]) -> usize {
        let behind = self.blocks.partition_point(|block| block.from[..] <= *key);
        behind.saturating_sub(1)
    }

    fn set(&mut self, from: Bytes, count: Option<i64>) {
        let at = self.blocks.binary_search_by(|block| block.from.cmp(&from));
        match (at, count) {
            (Ok(at), Some(count)) => {
                if let Some(block) = self.blocks.get_mut(at) {
                    block.count = count;
                }
            }
            (Ok(at), None) => drop(self.blocks.remove(at)),
            (Err(at), Some(count)) => self.blocks.insert(at, Block { from, count }),
            (Err(_), None) => {}
        }
    }

    fn remember(&mut self, step: &Move) {
        if self.moves.len() == REMEMBERED
            && let Some(forgotten) = self.moves.pop_front()
        {
            self.moves_after = forgotten.place;
        }
        // A part of a request would keep all of it, and others that came in the same buffer.
        let key = Bytes::copy_from_slice(&step.key);
        self.moves.push_back(Move { key, ..*step });
    }

    /// How many more keys a range has after `to` than after `from`, as far as is remembered.
    fn difference(&self, keys: &KeyRange, from: ChangeSeq, to: ChangeSeq) -> Option<i64> {
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

impl KeyCounts {
    /// Takes over what is kept: the keys of each block.
    pub(crate) fn restore(&self, marks: &Marks, kept: Vec<(Bytes, i64)>) {
        let block = |(from, count)| Block { from, count };
        let blocks = kept.into_iter().map(block).collect();
        let place = ChangeSeq(marks.next_place.0 - 1);
        *self.state.write() = Blocks::new(place, marks.revision, blocks);
    }

    /// Every block, as it would be kept.
    pub(crate) fn blocks(&self) -> Vec<BlockChange> {
        let state = self.state.read();
        let block = |block: &Block| (block.from.clone(), Some(block.count));
        state.blocks.iter().map(block).collect()
    }

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
        let place = ChangeSeq(marks.next_place.0 - 1);
        *self.state.write() = Blocks::new(place, marks.revision, blocks);
        Ok(())
    }

    /// What keys that come and go will make of the blocks. `scan` gives the keys of a range as they
    /// will be, to cut blocks that have grown too large.
    pub(crate) fn plan<'m>(
        &self,
        moves: impl Iterator<Item = (&'m [u8], i64)>,
        scan: impl FnMut(&KeyRange) -> Sql<Vec<Bytes>>,
    ) -> Sql<Vec<BlockChange>> {
        let state = self.state.read();
        let mut counts = BTreeMap::new();
        for (key, difference) in moves {
            let at = state.at(key);
            let Some(block) = state.blocks.get(at) else {
                continue;
            };
            *counts.entry(at).or_insert(block.count) += difference;
        }
        BlockPlan {
            state: &state,
            counts,
        }
        .changes(scan)
    }

    /// Follows a commit: what was planned, and which keys came and went.
    pub(crate) fn follow(
        &self,
        marks: &Marks,
        planned: Vec<BlockChange>,
        moves: impl Iterator<Item = Move>,
    ) {
        let mut state = self.state.write();
        for (from, count) in planned {
            state.set(from, count);
        }
        for step in moves {
            state.remember(&step);
        }
        state.place = ChangeSeq(marks.next_place.0 - 1);
        state.revision = marks.revision;
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

/// How many keys some blocks will have.
struct BlockPlan<'s> {
    state: &'s Blocks,
    counts: BTreeMap<usize, i64>,
}

impl BlockPlan<'_> {
    fn changes(
        mut self,
        mut scan: impl FnMut(&KeyRange) -> Sql<Vec<Bytes>>,
    ) -> Sql<Vec<BlockChange>> {
        let mut changes = Vec::new();
        // From the end: a block that goes into the one before it is looked at before that one.
        while let Some((at, count)) = self.counts.pop_last() {
            let Some(block) = self.state.blocks.get(at) else {
                continue;
            };
            if self.goes_into_the_one_before(at, count) {
                changes.push((block.from.clone(), None));
            } else if count > LARGEST {
                let next = self.state.blocks.get(at + 1);
                let range = KeyRange {
                    start: block.from.clone(),
                    end: next.map(|next| next.from.clone()),
                };
                changes.extend(parts(&block.from, &scan(&range)?));
            } else {
                changes.push((block.from.clone(), Some(count)));
            }
        }
        Ok(changes)
    }

    /// Where it does, that one is counted.
    fn goes_into_the_one_before(&mut self, at: usize, count: i64) -> bool {
        let Some((before, block)) = at
            .checked_sub(1)
            .and_then(|before| Some((before, self.state.blocks.get(before)?)))
        else {
            return false;
        };
        let in_it = self.counts.get(&before).copied().unwrap_or(block.count);
        let goes = count == 0 || (count < SMALLEST && in_it + count <= LARGEST / 2);
        if goes && count > 0 {
            self.counts.insert(before, in_it + count);
        }
        goes
    }
}

/// What a block of these keys is cut into.
fn parts(from: &Bytes, keys: &[Bytes]) -> Vec<BlockChange> {
    let part = |(number, keys): (usize, &[Bytes])| {
        let from = if number == 0 { from } else { keys.first()? };
        Some((from.clone(), i64::try_from(keys.len()).ok()))
    };
    keys.chunks(BLOCK).enumerate().filter_map(part).collect()
}

impl Glance {
    /// How many living keys the range of the glance has, in the session's snapshot.
    pub(crate) fn count<S: Session>(
        &self,
        key_counts: &KeyCounts,
        session: &mut S,
        keys: &KeyRange,
        at: At,
        marks: &Marks,
    ) -> Sql<i64> {
        let asked = match at {
            At::Now => ChangeSeq(marks.next_place.0 - 1),
            At::After(place) => place,
        };
        let Some(known) = &self.0 else {
            return session.count(keys, at);
        };
        let Some(mut count) = known.count_at(key_counts, session, asked, marks)? else {
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
        key_counts: &KeyCounts,
        session: &mut S,
        asked: ChangeSeq,
        marks: &Marks,
    ) -> Sql<Option<i64>> {
        let (from, to) = (self.place.min(asked), self.place.max(asked));
        let sign = if asked >= self.place { 1 } else { -1 };
        if from == to {
            return Ok(Some(self.count));
        }
        if let Some(difference) = key_counts.state.read().difference(&self.whole, from, to) {
            return Ok(Some(self.count + sign * difference));
        }
        // Counts from below the compacted revision may miss changes that are swept by now.
        if to.0 - from.0 > FAR || self.revision < marks.compacted {
            return Ok(None);
        }
        Ok(Some(
            self.count + sign * difference(session, &self.whole, from, to)?,
        ))
    }
}

/// How many more keys a range has after `to` than after `from`, by the history.
fn difference<S: Session>(
    session: &mut S,
    keys: &KeyRange,
    from: ChangeSeq,
    to: ChangeSeq,
) -> Sql<i64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_keeps_no_request() {
        let key_counts = KeyCounts::default();
        let request = Bytes::from(vec![b'k'; 8 * 1024]);
        let marks = Marks {
            revision: 2,
            next_place: ChangeSeq(2),
            compacted: -1,
            swept: ChangeSeq(0),
        };
        let came = Move {
            place: ChangeSeq(1),
            key: request.slice(..10),
            difference: 1,
        };
        key_counts.follow(&marks, Vec::new(), std::iter::once(came));
        let remembered = key_counts.state.read().moves[0].key.clone();
        assert_eq!(remembered, request.slice(..10));
        assert!(request.is_unique(), "somebody has the request still");
    }
}
