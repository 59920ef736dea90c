//! Where the watches of a stream stand, so that nobody has to look at all of them to know who is
//! behind.

use std::collections::{BTreeMap, BTreeSet};

/// The watches by the first revision that was not yet looked at for them.
#[derive(Debug, Default)]
pub(super) struct Positions {
    by_next: BTreeMap<i64, BTreeSet<i64>>,
}

/// Those that are furthest behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hindmost {
    pub(super) next: i64,
    pub(super) ids: Vec<i64>,
    /// The last revision before the next ones stand, so that they go on together.
    pub(super) to: i64,
}

impl Positions {
    pub(super) fn insert(&mut self, id: i64, next: i64) {
        self.by_next.entry(next).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, id: i64, next: i64) {
        if let Some(ids) = self.by_next.get_mut(&next) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_next.remove(&next);
            }
        }
    }

    /// Whether one has not been looked at up to `head`.
    pub(super) fn is_behind(&self, head: i64) -> bool {
        let first = self.by_next.first_key_value();
        first.is_some_and(|(next, _)| *next <= head)
    }

    pub(super) fn hindmost(&self) -> Option<Hindmost> {
        let mut all = self.by_next.iter();
        let (next, ids) = all.next()?;
        Some(Hindmost {
            next: *next,
            ids: ids.iter().copied().collect(),
            to: all.next().map_or(i64::MAX, |(next, _)| *next) - 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_stand_together_go_on_together() {
        let mut positions = Positions::default();
        assert_eq!(positions.hindmost(), None);
        assert!(!positions.is_behind(i64::MAX));
        for (id, next) in [(1, 5), (2, 3), (3, 3)] {
            positions.insert(id, next);
        }
        assert!(positions.is_behind(3) && !positions.is_behind(2));
        let (next, ids, to) = (3, vec![2, 3], 4);
        assert_eq!(positions.hindmost(), Some(Hindmost { next, ids, to }));
        positions.remove(2, 3);
        positions.remove(3, 3);
        let (next, ids, to) = (5, vec![1], i64::MAX - 1);
        assert_eq!(positions.hindmost(), Some(Hindmost { next, ids, to }));
    }
}
