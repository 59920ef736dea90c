//! A chunk as runs, by symbol: four bytes a run.
//!
//! Invariants: symbol `s` has the runs `offsets[s]..offsets[s + 1]`, the last of which is a mark that
//! counts all of them; starts and counts grow strictly but for the mark's start, which nobody reads.

use super::Run;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Runs {
    offsets: Box<[u32]>,
    starts: Box<[u16]>,
    /// How many of the symbol come before. Less than 65,536, as a chunk in this form has two symbols.
    befores: Box<[u16]>,
}

impl Runs {
    /// Memory in bytes.
    pub(super) fn size(symbols: usize, runs: usize) -> usize {
        (runs + symbols) * 4 + (symbols + 1) * 4
    }

    /// Of runs with local symbols.
    pub(crate) fn new(symbols: usize, runs: &[Run]) -> Self {
        let mut by_symbol: Vec<Vec<(u16, u16)>> = vec![Vec::new(); symbols];
        let mut totals = vec![0_i64; symbols];
        let mut at = 0;
        for run in runs {
            let index = usize::from(run.symbol);
            if let (Some(list), Some(total)) = (by_symbol.get_mut(index), totals.get_mut(index)) {
                list.push((at as u16, *total as u16));
                *total += run.len;
            }
            at += run.len;
        }
        let mut offsets = vec![0];
        let (mut starts, mut befores) = (Vec::new(), Vec::new());
        for (list, total) in by_symbol.into_iter().zip(totals) {
            starts.extend(list.iter().map(|(start, _)| *start).chain([u16::MAX]));
            befores.extend(list.iter().map(|(_, before)| *before).chain([total as u16]));
            offsets.push(starts.len() as u32);
        }
        Self {
            offsets: offsets.into(),
            starts: starts.into(),
            befores: befores.into(),
        }
    }

    /// Starts and counts of a symbol's runs; the counts have one more, for the total.
    fn of(&self, local: u16) -> (&[u16], &[u16]) {
        let offset = |i: usize| self.offsets.get(i).map_or(0, |at| *at as usize);
        let (from, to) = (offset(usize::from(local)), offset(usize::from(local) + 1));
        let starts = self
            .starts
            .get(from..to.saturating_sub(1))
            .unwrap_or_default();
        (starts, self.befores.get(from..to).unwrap_or_default())
    }

    pub(crate) fn count(&self, local: u16) -> i64 {
        self.of(local).1.last().map_or(0, |n| i64::from(*n))
    }

    pub(super) fn look(&self, local: u16, pos: i64) -> (i64, bool) {
        let (starts, befores) = self.of(local);
        let next = starts.partition_point(|start| i64::from(*start) <= pos);
        let Some(i) = next.checked_sub(1) else {
            return (0, false);
        };
        let before = |i: usize| befores.get(i).map_or(0, |n| i64::from(*n));
        let start = starts.get(i).map_or(0, |n| i64::from(*n));
        let (rank, end) = (before(i) + pos - start, before(next));
        (rank.min(end), rank < end)
    }

    pub(super) fn select(&self, local: u16, k: i64) -> i64 {
        let (starts, befores) = self.of(local);
        let counts = befores.get(..starts.len()).unwrap_or_default();
        let i = counts
            .partition_point(|n| i64::from(*n) <= k)
            .saturating_sub(1);
        let at = |list: &[u16]| list.get(i).map_or(0, |n| i64::from(*n));
        at(starts) + k - at(befores)
    }

    pub(super) fn in_order(&self, len: i64) -> Vec<Run> {
        let mut starts: Vec<(i64, u16)> = (0..self.offsets.len().saturating_sub(1) as u16)
            .flat_map(|local| {
                self.of(local)
                    .0
                    .iter()
                    .map(move |at| (i64::from(*at), local))
            })
            .collect();
        starts.sort_unstable();
        let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([len]);
        let runs = starts.iter().zip(ends);
        runs.map(|((at, symbol), end)| Run {
            symbol: *symbol,
            len: end - at,
        })
        .collect()
    }
}
