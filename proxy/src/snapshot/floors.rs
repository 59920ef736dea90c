//! Below which unified revision ranges that moved can no longer be read or watched.
//!
//! What such a range held below the change lies on the store that it has left, where no route leads
//! any more. Bounded: of a key range or namespace that moves to and fro only the last change
//! counts, and above [`MOST`] entries the oldest become one floor for all keys.

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_ledger::UnifiedRev;
use keyloom_topology::{Affected, Moved};

/// How many moved ranges and namespaces are told apart.
const MOST: usize = 512;

/// The keys of one change.
#[derive(Clone, Debug)]
struct Change {
    at: UnifiedRev,
    moved: Vec<Moved>,
    bases: Vec<Bytes>,
    affected: Affected,
}

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floors {
    /// The oldest first.
    changes: Vec<Change>,
    /// The floor of every key.
    of_all: UnifiedRev,
}

/// One change, as it is kept with the ledger.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptFloor {
    pub(crate) at: UnifiedRev,
    pub(crate) moved: Vec<Moved>,
    pub(crate) bases: Vec<Bytes>,
}

impl Floors {
    /// With a change at `at`, above all changes so far.
    pub(crate) fn add(&mut self, at: UnifiedRev, moved: &[Moved], bases: &[Bytes]) {
        for change in &mut self.changes {
            let before = change.moved.len();
            change.moved.retain(|each| !moved.contains(each));
            if change.moved.len() != before {
                change.affected = Affected::of(&change.moved, &change.bases);
            }
        }
        self.changes.retain(|change| !change.moved.is_empty());
        self.changes.push(Change {
            at,
            affected: Affected::of(moved, bases),
            moved: moved.to_vec(),
            bases: bases.to_vec(),
        });
        while self
            .changes
            .iter()
            .map(|change| change.moved.len())
            .sum::<usize>()
            > MOST
        {
            let oldest = self.changes.remove(0);
            self.of_all = self.of_all.max(oldest.at);
        }
    }

    /// The floor of a range; 0 where it never moved.
    pub(crate) fn of(&self, range: &KeyRange) -> UnifiedRev {
        let touching = self.changes.iter().rev();
        let last = touching
            .into_iter()
            .find(|change| change.affected.touches(range));
        last.map_or(self.of_all, |change| change.at.max(self.of_all))
    }

    /// Whether something can be below the floor of its range.
    pub(crate) fn reach(&self, u: i64) -> bool {
        let last = self.changes.last().map_or(self.of_all, |change| change.at);
        u < last.max(self.of_all).get()
    }

    /// Forgets what a compaction of everything covers.
    pub(crate) fn compacted(&mut self, at: UnifiedRev) {
        self.changes.retain(|change| change.at > at);
    }

    pub(crate) fn of_all(&self) -> UnifiedRev {
        self.of_all
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = KeptFloor> {
        self.changes.iter().map(|change| KeptFloor {
            at: change.at,
            moved: change.moved.clone(),
            bases: change.bases.clone(),
        })
    }

    /// As they were kept.
    pub(crate) fn restored(of_all: UnifiedRev, kept: impl IntoIterator<Item = KeptFloor>) -> Self {
        let changes = kept.into_iter().map(|kept| Change {
            at: kept.at,
            affected: Affected::of(&kept.moved, &kept.bases),
            moved: kept.moved,
            bases: kept.bases,
        });
        Self {
            changes: changes.collect(),
            of_all,
        }
    }
}

impl keyloom_hub::RangeFloors for Floors {
    fn of(&self, range: &KeyRange) -> UnifiedRev {
        Self::of(self, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Moved {
        Moved::Namespace(name.to_owned())
    }

    fn floor(floors: &Floors, prefix: &'static str) -> i64 {
        floors.of(&KeyRange::prefix(prefix.into())).get()
    }

    #[test]
    fn only_what_moved_has_a_floor_and_the_last_move_counts() {
        let bases = [Bytes::from_static(b"/registry/")];
        let mut floors = Floors::default();
        assert!(!floors.reach(1));
        floors.add(
            UnifiedRev::new(10),
            &[namespace("a"), namespace("b")],
            &bases,
        );
        floors.add(UnifiedRev::new(20), &[namespace("a")], &bases);
        assert_eq!(floor(&floors, "/registry/pods/a/"), 20);
        assert_eq!(floor(&floors, "/registry/pods/b/"), 10);
        assert_eq!(floor(&floors, "/registry/pods/c/"), 0);
        assert_eq!(floor(&floors, "/registry/"), 20);
        assert!(floors.reach(19) && !floors.reach(20));
        let again = Floors::restored(floors.of_all(), floors.kept());
        assert_eq!(floor(&again, "/registry/pods/b/"), 10);
        assert_eq!(
            again.kept().collect::<Vec<_>>(),
            floors.kept().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_range_that_moves_for_ever_takes_no_more_room() {
        let bases = [Bytes::from_static(b"/registry/")];
        let mut floors = Floors::default();
        for at in 1..1000 {
            floors.add(UnifiedRev::new(at), &[namespace("a")], &bases);
        }
        assert_eq!(floors.changes.len(), 1);
        for at in 1000..3000 {
            let name = format!("n{at}");
            floors.add(UnifiedRev::new(at), &[namespace(&name)], &bases);
        }
        assert!(floors.changes.len() <= MOST);
        // Nothing that moved is below its floor, though others may have one that is higher.
        assert!(floor(&floors, "/registry/pods/a/") >= 999);
        assert_eq!(floor(&floors, "/registry/pods/n2999/"), 2999);
        assert!(floor(&floors, "/registry/pods/n1000/") >= 1000);
    }
}
