//! A closed part of a sequence, in the smallest of three forms: one symbol throughout, a list of runs,
//! or packed symbols.
//!
//! Invariants:
//! 1. The alphabet has the chunk's symbols in order, each of which occurs; a symbol's index in it is
//!    its *local* number.
//! 2. A uniform chunk has one symbol and any length; the others have two or more and at most 65,536
//!    places, a multiple of 64.

use super::planes::Planes;
use super::runs::Runs;
use super::{Run, Symbol};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    pub(crate) start: i64,
    pub(crate) len: i64,
    pub(crate) alphabet: Box<[Symbol]>,
    pub(crate) body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    Uniform,
    Runs(Runs),
    Planes(Planes),
}

impl Chunk {
    pub(crate) fn uniform(start: i64, len: i64, symbol: Symbol) -> Self {
        Self {
            start,
            len,
            alphabet: Box::new([symbol]),
            body: Body::Uniform,
        }
    }

    /// Packs runs into the form that takes the least memory.
    pub(crate) fn pack(start: i64, runs: &[Run]) -> Self {
        let len = runs.iter().map(|run| run.len).sum();
        let mut alphabet: Vec<Symbol> = runs.iter().map(|run| run.symbol).collect();
        alphabet.sort_unstable();
        alphabet.dedup();
        let local = |symbol| alphabet.binary_search(&symbol).unwrap_or_default() as Symbol;
        let runs: Vec<Run> = runs
            .iter()
            .map(|run| Run {
                symbol: local(run.symbol),
                ..*run
            })
            .collect();
        let symbols = alphabet.len();
        let body = if symbols < 2 {
            Body::Uniform
        } else if Runs::size(symbols, runs.len()) <= Planes::size(symbols, len) {
            Body::Runs(Runs::new(symbols, &runs))
        } else {
            Body::Planes(Planes::new(symbols, len, &runs))
        };
        Self {
            start,
            len,
            alphabet: alphabet.into(),
            body,
        }
    }

    pub(crate) fn locals(&self) -> std::ops::Range<u16> {
        0..self.alphabet.len() as u16
    }

    pub(crate) fn symbol(&self, local: u16) -> Symbol {
        self.alphabet
            .get(usize::from(local))
            .copied()
            .unwrap_or_default()
    }

    /// How often each local symbol occurs.
    pub(crate) fn counts(&self) -> Vec<(u16, i64)> {
        let count = |local| match &self.body {
            Body::Uniform => self.len,
            Body::Runs(runs) => runs.count(local),
            Body::Planes(planes) => planes.count(local),
        };
        self.locals().map(|local| (local, count(local))).collect()
    }

    /// How often the symbol occurs before `pos`, which is in the chunk, and whether `pos` has it.
    pub(crate) fn look(&self, local: u16, pos: i64) -> (i64, bool) {
        match &self.body {
            Body::Uniform => (pos, true),
            Body::Runs(runs) => runs.look(local, pos),
            Body::Planes(planes) => planes.look(local, pos),
        }
    }

    /// Where the symbol occurs for the time `k`, which it does.
    pub(crate) fn select(&self, local: u16, k: i64) -> i64 {
        match &self.body {
            Body::Uniform => k,
            Body::Runs(runs) => runs.select(local, k),
            Body::Planes(planes) => planes.select(local, k),
        }
    }

    /// Its runs in order; neighbours may have the same symbol.
    pub(crate) fn for_each_run(&self, mut f: impl FnMut(Run)) {
        self.for_each_local_run(|run| {
            f(Run {
                symbol: self.symbol(run.symbol),
                ..run
            })
        });
    }

    /// As [`Self::for_each_run`], with local symbols.
    pub(crate) fn for_each_local_run(&self, mut f: impl FnMut(Run)) {
        match &self.body {
            Body::Uniform => f(Run {
                symbol: 0,
                len: self.len,
            }),
            Body::Runs(runs) => runs.in_order(self.len).into_iter().for_each(f),
            Body::Planes(planes) => {
                planes.for_each(|symbol| f(Run { symbol, len: 1 }));
            }
        }
    }
}
