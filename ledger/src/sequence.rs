//! Rule 5: an append-only sequence of symbols with rank and select: whose each `u` is, and which revisions of
//! the default store are hidden.
//!
//! ```text
//!   0                                    closed          len
//!   | chunk 0 | chunk 1 |  ...  | chunk n |  open: runs  |
//! ```
//!
//! Invariants:
//! 1. Closed chunks follow each other without a gap and never change. Each has [`CHUNK`] places, but
//!    one of a single symbol may have any multiple, so that a long run costs no more than a short one.
//! 2. The open end is shorter than a chunk, and its runs are maximal.
//! 3. Each track has exactly the places of its symbol.

mod chunk;
mod planes;
mod runs;
mod track;

pub(crate) use chunk::{Body, Chunk};
pub(crate) use planes::Planes;
pub(crate) use runs::Runs;

use track::Track;

/// One kind of thing in a sequence.
pub(crate) type Symbol = u16;

/// How many places a closed chunk has: what an offset of 16 bits reaches. The unit tests compare
/// with a model that walks through every place, and close chunks sooner.
pub(crate) const CHUNK: i64 = if cfg!(test) { 256 } else { 65_536 };

/// Equal symbols in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) symbol: Symbol,
    pub(crate) len: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    chunks: Vec<Chunk>,
    open: Vec<Run>,
    /// By symbol.
    tracks: Vec<Track>,
    closed: i64,
    len: i64,
}

impl Sequence {
    pub(crate) fn len(&self) -> i64 {
        self.len
    }

    /// Where the open end begins.
    pub(crate) fn closed(&self) -> i64 {
        self.closed
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    pub(crate) fn append(&mut self, symbol: Symbol, mut n: i64) {
        while n > 0 {
            let open = self.len - self.closed;
            if open == 0 && n >= CHUNK {
                let whole = n - n % CHUNK;
                self.push_chunk(Chunk::uniform(self.len, whole, symbol));
                n -= whole;
                continue;
            }
            let part = n.min(CHUNK - open);
            self.extend(symbol, part);
            n -= part;
            if self.len - self.closed == CHUNK {
                self.close();
            }
        }
    }

    /// Appends a chunk that is closed already. The open end must be empty.
    pub(crate) fn push_chunk(&mut self, chunk: Chunk) {
        for (local, n) in chunk.counts() {
            let symbol = chunk.symbol(local);
            let index = self.chunks.len();
            if let Some(track) = self.track_mut(symbol) {
                track.push_closed(chunk.start, index, local, n);
            }
        }
        self.len += chunk.len;
        self.closed = self.len;
        self.chunks.push(chunk);
    }

    fn extend(&mut self, symbol: Symbol, n: i64) {
        let start = self.len;
        self.len += n;
        match self.open.last_mut() {
            Some(run) if run.symbol == symbol => {
                run.len += n;
                if let Some(track) = self.track_mut(symbol) {
                    track.extend(n);
                }
            }
            _ => {
                self.open.push(Run { symbol, len: n });
                if let Some(track) = self.track_mut(symbol) {
                    track.push_open(start, n);
                }
            }
        }
    }

    fn close(&mut self) {
        let chunk = Chunk::pack(self.closed, &self.open);
        let index = self.chunks.len();
        for local in chunk.locals() {
            let symbol = chunk.symbol(local);
            if let Some(track) = self.track_mut(symbol) {
                track.close(chunk.start, index, local);
            }
        }
        self.closed = self.len;
        self.open.clear();
        self.chunks.push(chunk);
    }

    /// Always there: made on demand.
    fn track_mut(&mut self, symbol: Symbol) -> Option<&mut Track> {
        let index = usize::from(symbol);
        if self.tracks.len() <= index {
            self.tracks.resize_with(index + 1, Track::default);
        }
        self.tracks.get_mut(index)
    }

    fn track(&self, symbol: Symbol) -> Option<&Track> {
        self.tracks.get(usize::from(symbol))
    }

    /// How often the symbol occurs.
    pub(crate) fn count(&self, symbol: Symbol) -> i64 {
        self.track(symbol).map_or(0, Track::total)
    }

    /// How often the symbol occurs before `pos`.
    pub(crate) fn rank(&self, symbol: Symbol, pos: i64) -> i64 {
        self.look(symbol, pos).0
    }

    /// Where the symbol occurs for the time `k`, counted from 0.
    pub(crate) fn select(&self, symbol: Symbol, k: i64) -> Option<i64> {
        self.track(symbol)?.select(&self.chunks, k)
    }

    /// How often the symbol occurs before `pos`, and whether it is the one at `pos`.
    pub(crate) fn look(&self, symbol: Symbol, pos: i64) -> (i64, bool) {
        self.track(symbol)
            .map_or((0, false), |track| track.look(&self.chunks, pos))
    }

    /// What stands from `from` up to, but not including, `to`, as maximal runs.
    pub(crate) fn runs(&self, from: i64, to: i64) -> Vec<Run> {
        let mut cut = Cut {
            from,
            to,
            at: 0,
            runs: Vec::new(),
        };
        let first = self
            .chunks
            .partition_point(|chunk| chunk.start + chunk.len <= from);
        for chunk in self.chunks.get(first..).unwrap_or_default() {
            if chunk.start >= to {
                return cut.runs;
            }
            cut.at = chunk.start;
            chunk.for_each_run(|run| cut.add(run));
        }
        cut.at = self.closed;
        self.open.iter().for_each(|run| cut.add(*run));
        cut.runs
    }
}

/// Collects the part of passing runs that lies in a window.
struct Cut {
    from: i64,
    to: i64,
    at: i64,
    runs: Vec<Run>,
}

impl Cut {
    fn add(&mut self, run: Run) {
        let len = (self.at + run.len).min(self.to) - self.at.max(self.from);
        self.at += run.len;
        match self.runs.last_mut() {
            _ if len <= 0 => {}
            Some(last) if last.symbol == run.symbol => last.len += len,
            _ => self.runs.push(Run { len, ..run }),
        }
    }
}
