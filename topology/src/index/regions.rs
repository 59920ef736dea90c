//! The key space cut into regions, each claimed by one rank.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use super::Rank;

/// A partition of all keys: each region reaches from its start to the start of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Regions {
    starts: Vec<Bytes>,
    /// As long as `starts`; unclaimed regions have [`Rank::DEFAULT`].
    ranks: Vec<Rank>,
}

impl Regions {
    /// Resolves claims that overlap: the smallest rank wins. Regions end at `cuts` even where the
    /// same rank goes on.
    pub(super) fn flatten(claims: &[(KeyRange, Rank)], cuts: &[Bytes]) -> Self {
        let mut edges: BTreeMap<&[u8], Vec<(Rank, bool)>> = BTreeMap::new();
        edges.entry(&[]).or_default();
        for cut in cuts {
            edges.entry(cut).or_default();
        }
        for (range, rank) in claims.iter().filter(|(range, _)| !range.is_empty()) {
            edges.entry(&range.start).or_default().push((*rank, true));
            if let Some(end) = &range.end {
                edges.entry(end).or_default().push((*rank, false));
            }
        }
        sweep(edges, cuts)
    }

    pub(super) fn rank_at(&self, key: &[u8]) -> Rank {
        let after = self.starts.partition_point(|start| start[..] <= *key);
        let at = after.checked_sub(1).and_then(|at| self.ranks.get(at));
        at.copied().unwrap_or(Rank::DEFAULT)
    }

    /// The ranks of all regions that are claimed.
    pub(super) fn claims(&self) -> impl Iterator<Item = Rank> {
        let ranks = self.ranks.iter().copied();
        ranks.filter(|rank| *rank != Rank::DEFAULT)
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The regions that overlap a range that is not empty.
    pub(super) fn overlapping(&self, range: &KeyRange) -> std::ops::Range<usize> {
        let first = self
            .starts
            .partition_point(|start| *start <= range.start)
            .saturating_sub(1);
        let behind = match &range.end {
            Some(end) => self.starts.partition_point(|start| start < end),
            None => self.starts.len(),
        };
        first..behind
    }

    pub(super) fn get(&self, number: usize) -> Option<(KeyRange, Rank)> {
        let range = KeyRange {
            start: self.starts.get(number)?.clone(),
            end: self.starts.get(number + 1).cloned(),
        };
        Some((range, *self.ranks.get(number)?))
    }

    /// What of a range lies in each region that overlaps it.
    pub(super) fn pieces(&self, range: &KeyRange) -> impl Iterator<Item = (KeyRange, Rank)> {
        self.overlapping(range).filter_map(move |number| {
            let (region, rank) = self.get(number)?;
            Some((region.intersection(range)?, rank))
        })
    }

    /// Lets earlier claims take whole regions.
    pub(super) fn lower(&mut self, rank: impl Fn(&KeyRange, Rank) -> Rank) {
        for number in 0..self.len() {
            let lowered = self.get(number).map(|(range, now)| rank(&range, now));
            if let (Some(slot), Some(lowered)) = (self.ranks.get_mut(number), lowered) {
                *slot = lowered;
            }
        }
    }
}

fn sweep(edges: BTreeMap<&[u8], Vec<(Rank, bool)>>, cuts: &[Bytes]) -> Regions {
    let mut regions = Regions {
        starts: Vec::new(),
        ranks: Vec::new(),
    };
    let mut open: BTreeMap<Rank, usize> = BTreeMap::new();
    for (start, changes) in edges {
        for (rank, begins) in changes {
            let count = open.entry(rank).or_default();
            // Of one rank, a claim may end where another begins; the count is right at the end.
            *count = if begins {
                count.wrapping_add(1)
            } else {
                count.wrapping_sub(1)
            };
            if *count == 0 {
                open.remove(&rank);
            }
        }
        let rank = open.keys().next().copied().unwrap_or(Rank::DEFAULT);
        if regions.ranks.last() != Some(&rank) || cuts.iter().any(|cut| cut[..] == *start) {
            regions.starts.push(Bytes::copy_from_slice(start));
            regions.ranks.push(rank);
        }
    }
    regions
}
