//! What namespaces and expressions claim in a piece of a range.
//!
//! A claim is exact where it can be enumerated, and vague (a range in which some keys are claimed)
//! where it cannot.

use std::ops::Range;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use super::{
    Index, Rank, below,
    namespaces::{OfStore, Zone},
    under,
};
use crate::{regexp::Regexp, spec::StoreIndex, topology::MAX_INTERVALS};

/// Of a directory with more wildcards than this, those of one store are not told apart.
const MOST_WILDCARDS: usize = 256;

/// What namespaces and expressions claim in a piece of a range.
#[derive(Default)]
pub(super) struct Dynamic<'i> {
    pub(super) exact: Vec<Exact>,
    pub(super) vague: Vec<Vague<'i>>,
}

pub(super) struct Exact {
    pub(super) range: KeyRange,
    pub(super) rank: Rank,
}

pub(super) struct Vague<'i> {
    pub(super) hull: KeyRange,
    pub(super) rank: Rank,
    pub(super) store: StoreIndex,
    pub(super) why: Why<'i>,
}

/// Why a claim is vague.
#[derive(Clone, Copy)]
pub(super) enum Why<'i> {
    /// Too many names, or a range over several directories. Names take nothing from each other.
    Names,
    Wildcard,
    Expression(&'i Regexp),
}

impl Index {
    /// Collects what expressions before `limit` claim. Gives the rank of the first that claims the
    /// whole piece: nothing behind it can hold a key there.
    pub(super) fn expressions_in<'i>(
        &'i self,
        piece: &KeyRange,
        limit: Rank,
        dynamic: &mut Dynamic<'i>,
    ) -> Rank {
        let (base, subjects) = self.subjects(piece);
        for each in self.expressions.iter().take_while(|e| e.rank < limit) {
            let claim = each.regexp.automaton().claim(&subjects);
            if claim.is_whole(&subjects) {
                return each.rank;
            }
            for found in claim.pieces {
                let hull = under(&base, &found.range);
                let rank = each.rank;
                if found.exact {
                    dynamic.exact.push(Exact { range: hull, rank });
                } else {
                    let store = self.owners.of_route(rank);
                    let why = Why::Expression(&each.regexp);
                    dynamic.vague.push(Vague {
                        hull,
                        rank,
                        store,
                        why,
                    });
                }
            }
        }
        limit
    }

    /// The same for namespaces.
    pub(super) fn namespaces_in(
        &self,
        piece: &KeyRange,
        limit: Rank,
        dynamic: &mut Dynamic<'_>,
    ) -> Rank {
        let Some((base, range)) = below(&self.bases, piece).filter(|_| !self.namespaces.is_empty())
        else {
            return limit;
        };
        match self.namespaces.zone(&range) {
            Zone::One(rank) => return rank.min(limit),
            Zone::Directory { directory, names } => {
                let prefix = [&base[..], &directory].concat();
                for (store, of) in self
                    .namespaces
                    .by_store()
                    .filter(|(_, of)| of.least < limit)
                {
                    let within = Within {
                        prefix: &prefix,
                        directory: &directory,
                        names: &names,
                    };
                    self.names_in(&within, store, of, limit, dynamic);
                }
                let wildcards = self.namespaces.wildcards(&directory, &names);
                self.wildcards_in(&prefix, wildcards, dynamic);
            }
            Zone::Wide => {
                for (store, of) in self.namespaces.by_store() {
                    dynamic.vague.push(Vague {
                        hull: piece.clone(),
                        rank: of.least,
                        store,
                        why: Why::Names,
                    });
                }
                for (directory, regions, names) in self.namespaces.wildcards_below(&range) {
                    let prefix = [&base[..], directory, b"/"].concat();
                    let claims = regions
                        .pieces(&names)
                        .filter(|(_, rank)| *rank != Rank::DEFAULT);
                    self.wildcards_in(&prefix, claims, dynamic);
                }
            }
        }
        limit
    }

    /// The names of one store in one directory.
    fn names_in(
        &self,
        within: &Within<'_>,
        store: StoreIndex,
        of: &OfStore,
        limit: Rank,
        dynamic: &mut Dynamic<'_>,
    ) {
        let slice = of
            .names
            .overlapping(&within.names.start, within.names.end.as_deref());
        if slice.len() > MAX_INTERVALS {
            if let Some(hull) = within.hull(of, slice, limit) {
                let (rank, why) = (of.names.least(), Why::Names);
                dynamic.vague.push(Vague {
                    hull,
                    rank,
                    store,
                    why,
                });
            }
            return;
        }
        for (name, rank) in slice.filter_map(|number| of.names.get(number)) {
            let taken = self.namespaces.is_taken(within.directory, name, rank);
            if rank < limit
                && !taken
                && let Some(range) = within.range(name)
            {
                dynamic.exact.push(Exact { range, rank });
            }
        }
    }

    fn wildcards_in(
        &self,
        prefix: &[u8],
        claims: impl Iterator<Item = (KeyRange, Rank)>,
        dynamic: &mut Dynamic<'_>,
    ) {
        for (number, (names, rank)) in claims.enumerate() {
            let hull = under(prefix, &names);
            let store = self.owners.of_route(rank);
            let same =
                |other: &&mut Vague<'_>| other.store == store && matches!(other.why, Why::Wildcard);
            // They come in order, so that the hull of two reaches to the end of the second.
            match dynamic
                .vague
                .iter_mut()
                .find(same)
                .filter(|_| number >= MOST_WILDCARDS)
            {
                Some(other) => {
                    other.hull.end = hull.end;
                    other.rank = other.rank.min(rank);
                }
                None => dynamic.vague.push(Vague {
                    hull,
                    rank,
                    store,
                    why: Why::Wildcard,
                }),
            }
        }
    }
}

/// A range of one directory.
struct Within<'a> {
    /// Registry prefix and directory, with a slash at the end.
    prefix: &'a [u8],
    directory: &'a [u8],
    names: &'a KeyRange,
}

impl Within<'_> {
    /// What of the range lies in the namespace `name`, which has a slash at the end.
    fn range(&self, name: &Bytes) -> Option<KeyRange> {
        let range = KeyRange::prefix(name.clone()).intersection(self.names)?;
        Some(under(self.prefix, &range))
    }

    /// From the first to the last name of a slice that comes before `limit`.
    fn hull(&self, of: &OfStore, slice: Range<usize>, limit: Rank) -> Option<KeyRange> {
        let (first, _) = of.names.get(of.names.first_before(slice.clone(), limit)?)?;
        let (last, _) = of.names.get(of.names.last_before(slice, limit)?)?;
        Some(KeyRange {
            start: self.range(first)?.start,
            end: self.range(last)?.end,
        })
    }
}
