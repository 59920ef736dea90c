//! Where one symbol occurs: the index over the closed chunks that have it, and its open runs.
//!
//! A piece (a closed chunk, or an open run) has in it what the next one counts before it, less what
//! it counts itself. Both counts and starts grow, so rank and select are one binary search and one
//! question to a chunk.
//!
//! Invariants: `starts`, `befores` and `places` are equally long; both rows of numbers grow strictly;
//! open runs come after every closed piece.

use super::chunk::Chunk;

#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    starts: Vec<i64>,
    befores: Vec<i64>,
    places: Vec<Place>,
    open: Vec<Open>,
    total: i64,
}

/// A closed chunk that has the symbol, and the symbol's number in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: u32,
    local: u16,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    start: i64,
    /// How many of the symbol come before.
    before: i64,
}

impl Track {
    pub(super) fn total(&self) -> i64 {
        self.total
    }

    // === writing ===

    pub(super) fn push_open(&mut self, start: i64, n: i64) {
        self.open.push(Open {
            start,
            before: self.total,
        });
        self.total += n;
    }

    /// Makes the last open run longer.
    pub(super) fn extend(&mut self, n: i64) {
        self.total += n;
    }

    /// The open runs are now in that chunk.
    pub(super) fn close(&mut self, start: i64, chunk: usize, local: u16) {
        let before = self.open.first().map_or(self.total, |run| run.before);
        self.push_place(start, before, chunk, local);
        self.open.clear();
    }

    pub(super) fn push_closed(&mut self, start: i64, chunk: usize, local: u16, n: i64) {
        self.push_place(start, self.total, chunk, local);
        self.total += n;
    }

    fn push_place(&mut self, start: i64, before: i64, chunk: usize, local: u16) {
        // 2^32 chunks of 2^16 are more than etcd's revisions can count to in a lifetime.
        let chunk = u32::try_from(chunk).unwrap_or(u32::MAX);
        self.starts.push(start);
        self.befores.push(before);
        self.places.push(Place { chunk, local });
    }

    // === reading ===

    /// How many of the symbol come before `pos`, and whether `pos` is one.
    pub(super) fn look(&self, chunks: &[Chunk], pos: i64) -> (i64, bool) {
        match self.open.first() {
            Some(first) if first.start <= pos => self.look_open(pos),
            _ => self.look_closed(chunks, pos),
        }
    }

    fn look_open(&self, pos: i64) -> (i64, bool) {
        let next = self.open.partition_point(|run| run.start <= pos);
        let Some(run) = next.checked_sub(1).and_then(|i| self.open.get(i)) else {
            return (0, false);
        };
        let end = self.open.get(next).map_or(self.total, |run| run.before);
        // What is asked for may be any number.
        let rank = run.before.saturating_add(pos - run.start);
        (rank.min(end), rank < end)
    }

    fn look_closed(&self, chunks: &[Chunk], pos: i64) -> (i64, bool) {
        let next = after(&self.starts, pos);
        let Some(piece) = next.checked_sub(1).and_then(|i| self.piece(chunks, i)) else {
            return (0, false);
        };
        let offset = pos - piece.chunk.start;
        if offset >= piece.chunk.len {
            return (piece.before + piece.count, false);
        }
        let (rank, here) = piece.chunk.look(piece.local, offset);
        (piece.before + rank, here)
    }

    pub(super) fn select(&self, chunks: &[Chunk], k: i64) -> Option<i64> {
        if k < 0 || k >= self.total {
            return None;
        }
        if self.open.first().is_some_and(|run| run.before <= k) {
            let next = self.open.partition_point(|run| run.before <= k);
            let run = self.open.get(next.checked_sub(1)?)?;
            return Some(run.start + k - run.before);
        }
        let next = after(&self.befores, k);
        let piece = self.piece(chunks, next.checked_sub(1)?)?;
        Some(piece.chunk.start + piece.chunk.select(piece.local, k - piece.before))
    }

    fn piece<'a>(&self, chunks: &'a [Chunk], i: usize) -> Option<Piece<'a>> {
        let before = *self.befores.get(i)?;
        let place = self.places.get(i)?;
        let after = self.befores.get(i + 1).copied();
        let after = after.or_else(|| self.open.first().map(|run| run.before));
        Some(Piece {
            chunk: chunks.get(place.chunk as usize)?,
            local: place.local,
            before,
            count: after.unwrap_or(self.total) - before,
        })
    }
}

struct Piece<'a> {
    chunk: &'a Chunk,
    local: u16,
    before: i64,
    count: i64,
}

/// How many of a growing row are at most `x`. Most chunks are equally long and most stores keep their
/// share, so the place is near where a straight line has it, and a search from there is short.
fn after(row: &[i64], x: i64) -> usize {
    let (Some(first), Some(last)) = (row.first(), row.last()) else {
        return 0;
    };
    let span = (last - first).max(1) as f64;
    let guess = (((x - first) as f64 / span) * row.len() as f64) as usize;
    let (mut low, mut high, mut step) = (guess.min(row.len()), guess.min(row.len()), 1);
    while low > 0 && row.get(low - 1).is_some_and(|at| *at > x) {
        high = low - 1;
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 1;
    while row.get(high).is_some_and(|at| *at <= x) {
        low = high + 1;
        high = (high + step).min(row.len());
        step *= 2;
    }
    low + row
        .get(low..high)
        .map_or(0, |part| part.partition_point(|at| *at <= x))
}
