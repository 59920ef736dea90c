//! Fixed claims that end at a slash, by hash: a key is looked up at the depths where claims are.

use std::collections::HashMap;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use super::{Rank, under};

/// Paths below the registry prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct PathTable {
    /// Whole keys.
    keys: HashMap<Box<[u8]>, Rank>,
    /// Everything below a path; with a slash at the end.
    below: HashMap<Box<[u8]>, Rank>,
    /// A bit for each number of slashes in `keys`, and in `below`.
    key_depths: u64,
    depths: u64,
}

impl PathTable {
    pub(super) fn claim_key(&mut self, path: &[u8], rank: Rank) {
        self.key_depths |= bit(slashes(path));
        first(&mut self.keys, path.into(), rank);
    }

    pub(super) fn claim_below(&mut self, path: &[u8], rank: Rank) {
        let with_slash = [path, b"/"].concat();
        self.depths |= bit(slashes(&with_slash));
        first(&mut self.below, with_slash.into(), rank);
    }

    pub(super) fn rank_of(&self, below: &[u8]) -> Rank {
        let mut rank = Rank::DEFAULT;
        let mut depth = 0;
        for (at, _) in below.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            depth += 1;
            if self.depths & bit(depth) != 0 {
                let found = below.get(..=at).and_then(|path| self.below.get(path));
                rank = found.map_or(rank, |found| rank.min(*found));
            }
        }
        if self.key_depths & bit(depth) != 0 {
            rank = self.keys.get(below).map_or(rank, |found| rank.min(*found));
        }
        rank
    }

    /// Every claim as a range of keys.
    pub(super) fn ranges(&self, bases: &[Bytes], out: &mut Vec<(KeyRange, Rank)>) {
        for base in bases {
            let keys = self.keys.iter().map(|(path, rank)| {
                let key = KeyRange::key(Bytes::copy_from_slice(path));
                (under(base, &key), *rank)
            });
            out.extend(keys);
            let below = self.below.iter().map(|(path, rank)| {
                let range = KeyRange::prefix(Bytes::copy_from_slice(path));
                (under(base, &range), *rank)
            });
            out.extend(below);
        }
    }
}

/// Keeps the first route that claims a path.
fn first(table: &mut HashMap<Box<[u8]>, Rank>, path: Box<[u8]>, rank: Rank) {
    let slot = table.entry(path).or_insert(rank);
    *slot = rank.min(*slot);
}

fn slashes(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

/// Depths beyond 63 share a bit.
fn bit(depth: usize) -> u64 {
    1 << depth.min(63)
}
