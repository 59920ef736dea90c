//! What would route elsewhere under another topology.
//!
//! Both key spaces are cut at the borders of both. In each piece the two decisions are compared: the
//! fixed claim, every namespace that can be there, and the expressions that can match there. Where
//! expressions differ, the whole piece is reported.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use super::{Index, Rank, below, namespaces::Zone, under};
use crate::{
    regexp::RegexpSet,
    spec::StoreSpec,
    topology::{Move, Moved},
};

/// One of the two topologies.
#[derive(Clone, Copy)]
pub(crate) struct Side<'t> {
    pub(crate) index: &'t Index,
    pub(crate) stores: &'t [StoreSpec],
    pub(crate) set: &'t RegexpSet,
}

/// A piece of the key space with the fixed claim of each side.
struct ComparedRange {
    range: KeyRange,
    old: SideClaims,
    new: SideClaims,
}

/// What one side says of a piece.
struct SideClaims {
    fixed: Rank,
    /// The expressions before it that can match in the piece.
    expressions: Vec<Rank>,
}

/// How a side decides about one namespace in a piece: the store, and how many of the expressions
/// that can match in the piece come before.
type Decision<'t> = (&'t str, usize);

struct Diff<'t> {
    old: Side<'t>,
    new: Side<'t>,
    /// Names with a slash at the end, and what stands before the `*` of wildcards, of both sides.
    names: BTreeSet<Bytes>,
    /// The namespaces that move in general.
    general: HashSet<(Bytes, &'t str, &'t str)>,
    moves: Vec<Move>,
}

/// Everything that would move: namespaces, then keys in order.
pub(crate) fn moves(old: Side<'_>, new: Side<'_>) -> Vec<Move> {
    let names = [old, new].map(|side| side.index.namespaces.given().cloned());
    let mut diff = Diff {
        old,
        new,
        names: names.into_iter().flatten().collect(),
        general: HashSet::new(),
        moves: Vec::new(),
    };
    diff.namespaces_in_general();
    for number in 0..old.index.fixed.len() {
        let Some((region, rank)) = old.index.fixed.get(number) else {
            continue;
        };
        for (range, new) in new.index.fixed.pieces(&region) {
            let (old, new) = (diff.old.claims(rank, &range), diff.new.claims(new, &range));
            diff.piece(&ComparedRange { range, old, new });
        }
    }
    diff.moves
}

impl<'t> Diff<'t> {
    /// What moves in every resource is said once and not for each resource.
    fn namespaces_in_general(&mut self) {
        for name in &self.names {
            let old = self.old.claim(b"", name).min(Rank::DEFAULT);
            let (from, to) = (
                self.old.owner(old),
                self.new.owner(self.new.claim(b"", name)),
            );
            if from != to {
                self.general.insert((name.clone(), from, to));
                self.moves.push(Move {
                    what: Moved::Namespace(shown(name)),
                    from: vec![from.to_owned()],
                    to: vec![to.to_owned()],
                });
            }
        }
    }

    fn piece(&mut self, piece: &ComparedRange) {
        let ComparedRange { range, old, new } = piece;
        if self.old.index.bases != self.new.index.bases {
            // Even the same expression reads other subjects.
            self.add(range);
        } else if self.old.patterns(old) != self.new.patterns(new)
            || self.old.owner(old.fixed) != self.new.owner(new.fixed)
        {
            self.add(range);
        } else {
            self.namespaces(piece);
        }
    }

    /// The namespaces that differ in a piece whose fixed claim does not.
    fn namespaces(&mut self, piece: &ComparedRange) {
        let Some((base, range)) = below(&self.old.index.bases, &piece.range) else {
            return;
        };
        match self.old.index.namespaces.zone(&range) {
            // The claim of the one namespace is part of the fixed claims.
            Zone::One(_) => {}
            Zone::Directory { directory, names } => {
                let prefix = [&base[..], &directory].concat();
                let directory = directory.strip_suffix(b"/").unwrap_or(&directory);
                for name in self.names_in(&names) {
                    self.name_in(piece, &prefix, directory, &name);
                }
            }
            Zone::Wide => self.many_directories(piece, &base, &range),
        }
    }

    fn many_directories(&mut self, piece: &ComparedRange, base: &[u8], range: &KeyRange) {
        let everywhere: Vec<_> = self.names.iter().cloned().collect();
        let differs = everywhere.iter().any(|name| {
            let (from, to) = self.decisions(piece, b"", name);
            from != to && !self.is_general(name, from, to)
        });
        if differs {
            self.add(&piece.range);
            return;
        }
        // Wildcards can be limited to kinds; names that are, are fixed claims.
        let sides = [self.old.index, self.new.index];
        let own = sides.map(|index| index.namespaces.wildcards_below(range));
        let own: BTreeSet<_> = own
            .into_iter()
            .flatten()
            .map(|(dir, ..)| dir.to_vec())
            .collect();
        for directory in own {
            let prefix = [base, &directory, b"/"].concat();
            for name in &everywhere {
                self.name_in(piece, &prefix, &directory, name);
            }
        }
    }

    fn name_in(&mut self, piece: &ComparedRange, prefix: &[u8], directory: &[u8], name: &Bytes) {
        let (from, to) = self.decisions(piece, directory, name);
        if from == to || self.is_general(name, from, to) {
            return;
        }
        let keys = under(prefix, &KeyRange::prefix(name.clone()));
        if let Some(range) = keys.intersection(&piece.range) {
            self.add(&range);
        }
    }

    fn decisions(
        &self,
        piece: &ComparedRange,
        directory: &[u8],
        name: &[u8],
    ) -> (Decision<'t>, Decision<'t>) {
        let decide = |side: &Side<'t>, claims: &SideClaims| {
            let rank = side.claim(directory, name).min(claims.fixed);
            let before = claims.expressions.partition_point(|each| *each < rank);
            (side.owner(rank), before)
        };
        (decide(&self.old, &piece.old), decide(&self.new, &piece.new))
    }

    fn is_general(&self, name: &Bytes, from: Decision<'t>, to: Decision<'t>) -> bool {
        self.general.contains(&(name.clone(), from.0, to.0))
    }

    /// The names that a range of one directory, given below it, can hold.
    fn names_in(&self, range: &KeyRange) -> Vec<Bytes> {
        let overlaps = |name: &&Bytes| {
            KeyRange::prefix((*name).clone())
                .intersection(range)
                .is_some()
        };
        // Behind the start, or a beginning of it.
        let begun =
            (0..=range.start.len()).filter_map(|len| self.names.get(&range.start.slice(..len)));
        let behind = self.names.range(range.start.clone()..);
        let behind = behind.take_while(|name| range.end.as_ref().is_none_or(|end| *name < end));
        let all: BTreeSet<_> = begun.chain(behind).filter(overlaps).cloned().collect();
        all.into_iter().collect()
    }

    /// Adds a range of keys; neighbours with the same stores become one.
    fn add(&mut self, range: &KeyRange) {
        let (from, to) = (self.old.stores_of(range), self.new.stores_of(range));
        // Decided otherwise, with the same outcome.
        if from.len() == 1 && from == to {
            return;
        }
        if let Some(last) = self.moves.last_mut()
            && let Moved::Keys(keys) = &mut last.what
            && keys.end.as_ref() == Some(&range.start)
            && (&last.from, &last.to) == (&from, &to)
        {
            keys.end.clone_from(&range.end);
            return;
        }
        self.moves.push(Move {
            what: Moved::Keys(range.clone()),
            from,
            to,
        });
    }
}

impl<'t> Side<'t> {
    /// The store of a rank; empty for reserved keys.
    fn owner(&self, rank: Rank) -> &'t str {
        let store = self.index.owners.of(rank);
        let spec = store.and_then(|store| self.stores.get(usize::from(store.0)));
        spec.map_or("", |spec| &spec.name)
    }

    /// The smallest rank that claims a namespace for itself; see [`Diff::names`].
    fn claim(&self, directory: &[u8], name: &[u8]) -> Rank {
        self.index.namespaces.claim_of(directory, name)
    }

    fn claims(&self, fixed: Rank, range: &KeyRange) -> SideClaims {
        let (_, subjects) = self.index.subjects(range);
        let earlier = self
            .index
            .expressions
            .iter()
            .take_while(|each| each.rank < fixed);
        let found = earlier.filter(|each| !each.regexp.automaton().claim(&subjects).is_empty());
        SideClaims {
            fixed,
            expressions: found.map(|each| each.rank).collect(),
        }
    }

    /// The expressions of a piece, each with its store.
    fn patterns(&self, claims: &SideClaims) -> Vec<(&'t str, &'t str)> {
        let all = self.index.expressions.iter();
        all.filter(|each| claims.expressions.contains(&each.rank))
            .map(|each| (each.regexp.pattern(), self.owner(each.rank)))
            .collect()
    }

    /// The stores that can have a key of a range.
    fn stores_of(&self, range: &KeyRange) -> Vec<String> {
        let parts = self.index.cover(range, self.set).into_iter();
        let specs = parts.filter_map(|part| self.stores.get(usize::from(part.store.0)));
        specs.map(|spec| spec.name.clone()).collect()
    }
}

/// A name or wildcard as it stands in the file.
fn shown(name: &[u8]) -> String {
    match name.strip_suffix(b"/") {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => format!("{}*", String::from_utf8_lossy(name)),
    }
}
