//! Disjoint intervals in order, with a tree of their smallest ranks: finds the first and the last
//! interval of a slice that comes before a given rank in few steps, however long the slice.

use std::ops::Range;

use bytes::Bytes;

use super::Rank;

#[derive(Clone, Debug, Default)]
pub(super) struct RankedNames {
    /// Namespaces, each with a slash at the end, in order.
    names: Vec<Bytes>,
    ranks: Vec<Rank>,
    /// A binary tree over `ranks`: the node `n` holds the smallest of `2n` and `2n + 1`, and the
    /// leaves begin at `leaves`.
    tree: Vec<Rank>,
    leaves: usize,
}

impl RankedNames {
    /// `names` need not be in order; each is there once.
    pub(super) fn new(mut names: Vec<(Bytes, Rank)>) -> Self {
        names.sort();
        let leaves = names.len().next_power_of_two();
        let mut tree = vec![Rank::DEFAULT; leaves];
        tree.extend(names.iter().map(|(_, rank)| *rank));
        tree.resize(2 * leaves, Rank::DEFAULT);
        for node in (1..leaves).rev() {
            let least = at(&tree, 2 * node).min(at(&tree, 2 * node + 1));
            if let Some(slot) = tree.get_mut(node) {
                *slot = least;
            }
        }
        let (names, ranks) = names.into_iter().unzip();
        Self {
            names,
            ranks,
            tree,
            leaves,
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<(&Bytes, Rank)> {
        Some((self.names.get(number)?, *self.ranks.get(number)?))
    }

    pub(super) fn ranks(&self) -> impl Iterator<Item = Rank> {
        self.ranks.iter().copied()
    }

    /// The smallest rank of all.
    pub(super) fn least(&self) -> Rank {
        self.least_of(0..self.names.len())
    }

    /// The names whose objects a range of one directory, given below the directory, can hold.
    pub(super) fn overlapping(&self, start: &[u8], end: Option<&[u8]>) -> Range<usize> {
        // The interval of a name ends where its slash is replaced by the next byte.
        let first = self.names.partition_point(|name| ends_before(name, start));
        let behind = match end {
            Some(end) => self.names.partition_point(|name| name[..] < *end),
            None => self.names.len(),
        };
        first..behind.max(first)
    }

    /// The first of a slice that comes before `rank`.
    pub(super) fn first_before(&self, slice: Range<usize>, rank: Rank) -> Option<usize> {
        self.search(slice, rank, false)
    }

    /// The last of a slice that comes before `rank`.
    pub(super) fn last_before(&self, slice: Range<usize>, rank: Rank) -> Option<usize> {
        self.search(slice, rank, true)
    }

    fn search(&self, slice: Range<usize>, rank: Rank, from_end: bool) -> Option<usize> {
        let (mut low, mut high) = (slice.start, slice.end);
        if low >= high || self.least_of(low..high) >= rank {
            return None;
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            let (near, far) = if from_end {
                (middle..high, low..middle)
            } else {
                (low..middle, middle..high)
            };
            let next = if self.least_of(near.clone()) < rank {
                near
            } else {
                far
            };
            (low, high) = (next.start, next.end);
        }
        Some(low)
    }

    /// The smallest rank of a slice.
    fn least_of(&self, slice: Range<usize>) -> Rank {
        let (mut low, mut high) = (slice.start + self.leaves, slice.end + self.leaves);
        let mut least = Rank::DEFAULT;
        while low < high {
            if low % 2 == 1 {
                least = least.min(at(&self.tree, low));
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                least = least.min(at(&self.tree, high));
            }
            low /= 2;
            high /= 2;
        }
        least
    }
}

fn at(tree: &[Rank], node: usize) -> Rank {
    tree.get(node).copied().unwrap_or(Rank::DEFAULT)
}

/// Whether every key that begins with `name` (slash included) comes before `start`.
fn ends_before(name: &[u8], start: &[u8]) -> bool {
    name < start && !start.starts_with(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(names: &[(&'static str, u32)]) -> RankedNames {
        let names = names.iter();
        RankedNames::new(
            names
                .map(|(n, rank)| (Bytes::from(*n), Rank(*rank)))
                .collect(),
        )
    }

    #[test]
    fn the_tree_agrees_with_a_search_one_by_one() {
        let ranks = [5, 1, 9, 9, 3, 7, 2];
        let names = ["a/", "b/", "c/", "d/", "e/", "f/", "g/"];
        let pairs: Vec<_> = names.into_iter().zip(ranks).collect();
        let ranked = ranked(&pairs);
        for low in 0..=7 {
            for high in low..=7 {
                for rank in 0..=10 {
                    let before = |n: &usize| ranks[*n] < rank;
                    assert_eq!(
                        ranked.first_before(low..high, Rank(rank)),
                        (low..high).find(before),
                    );
                    assert_eq!(
                        ranked.last_before(low..high, Rank(rank)),
                        (low..high).rev().find(before),
                    );
                }
            }
        }
        assert_eq!(ranked.least(), Rank(1));
        assert_eq!(RankedNames::default().least(), Rank::DEFAULT);
    }

    #[test]
    fn names_are_found_by_the_keys_below_them() {
        // `a-b/` comes before `a/`: a hyphen is smaller than a slash.
        let ranked = ranked(&[("a/", 1), ("a-b/", 2), ("b/", 3)]);
        assert_eq!(ranked.overlapping(b"", None), 0..3);
        assert_eq!(ranked.overlapping(b"a/", Some(b"a0")), 1..2);
        assert_eq!(ranked.overlapping(b"a/x", Some(b"a/y")), 1..2);
        assert_eq!(ranked.overlapping(b"a0", Some(b"b")), 2..2);
        assert_eq!(ranked.overlapping(b"a", Some(b"a/")), 0..1);
    }
}
