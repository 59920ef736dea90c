//! The indexes behind `route` and `cover`.
//!
//! Every matcher becomes one of three things:
//! - *fixed*: intervals of the key space that are known beforehand (prefixes, custom resources,
//!   namespaces with kinds, expressions whose language is a few intervals);
//! - *namespaces* in all resources, which claim an interval in every directory there may be;
//! - *expressions* that only their automaton can decide.
//!
//! Routes have ranks in the order of the file, and the smallest rank that claims a key wins. `route`
//! asks each index for its smallest: hash lookups, binary searches and one automaton, whose cost
//! does not depend on the number of routes. `cover` cuts the range at the borders of the fixed
//! intervals, which were resolved among each other beforehand, and looks in each piece for what the
//! other two can claim there.

mod claims;
mod coarse;
mod cover;
mod diff;
mod ranked;
mod namespaces;
mod parts;
mod paths;
mod regions;
mod shadow;

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use self::{coarse::StoreRegions, namespaces::NamespaceIndex, paths::PathTable, regions::Regions};
use crate::{
    matcher::{Matcher, Rule},
    regexp::{Regexp, RegexpSet},
    spec::StoreIndex,
};

pub(crate) use diff::{Side, moves};

/// A route's place in the order; the smallest that claims a key wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rank(u32);

impl Rank {
    /// Before every route: keys that belong to Keyloom itself.
    pub(crate) const RESERVED: Self = Self(0);
    /// Behind every route: the default store.
    pub(crate) const DEFAULT: Self = Self(u32::MAX);

    fn of_rule(rule: usize) -> Self {
        Self(u32::try_from(rule + 1).unwrap_or(u32::MAX - 1))
    }

    /// The route with this rank.
    pub(crate) fn rule(self) -> Option<usize> {
        match self {
            Self::RESERVED | Self::DEFAULT => None,
            Self(rank) => usize::try_from(rank).ok()?.checked_sub(1),
        }
    }
}

/// Which store each rank leads to.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    /// By rule.
    pub(crate) rules: Vec<StoreIndex>,
    pub(crate) default: StoreIndex,
}

/// An expression that only its automaton can decide.
#[derive(Clone, Debug)]
struct Expression {
    rank: Rank,
    regexp: Arc<Regexp>,
}

#[derive(Clone, Debug)]
pub(crate) struct Index {
    owners: Owners,
    bases: Vec<Bytes>,
    /// Fixed claims of whole segments, below the registry prefix.
    paths: PathTable,
    /// The other fixed claims.
    ragged: Regions,
    namespaces: NamespaceIndex,
    /// In the order of their ranks, and of the set that `route` asks.
    expressions: Vec<Expression>,
    /// All fixed claims, resolved among each other.
    fixed: Regions,
    store_regions: StoreRegions,
}

impl Owners {
    pub(crate) fn of(&self, rank: Rank) -> Option<StoreIndex> {
        match rank {
            Rank::RESERVED => None,
            _ => Some(self.of_route(rank)),
        }
    }

    /// As [`Owners::of`], for ranks that are known not to be reserved.
    fn of_route(&self, rank: Rank) -> StoreIndex {
        let rule = rank.rule().and_then(|rule| self.rules.get(rule));
        rule.copied().unwrap_or(self.default)
    }
}

impl Index {
    pub(crate) fn new(
        rules: &[Rule],
        bases: &[Bytes],
        owners: Owners,
        reserved: Option<&KeyRange>,
    ) -> Self {
        let mut claims = ClaimTable::default();
        if let Some(reserved) = reserved {
            claims.ragged.push((reserved.clone(), Rank::RESERVED));
        }
        for (number, rule) in rules.iter().enumerate() {
            claims.add(rule, Rank::of_rule(number), bases);
        }
        let namespaces = claims.namespaces.finish(&owners);
        let ragged = Regions::flatten(&claims.ragged, &[]);
        let mut all = claims.ragged;
        claims.paths.ranges(bases, &mut all);
        let mut fixed = Regions::flatten(&all, &edges(bases));
        fixed.lower(|range, rank| match below(bases, range) {
            Some((_, below)) => namespaces.whole(&below).map_or(rank, |own| own.min(rank)),
            None => rank,
        });
        Self {
            store_regions: StoreRegions::new(&fixed, &owners),
            owners,
            bases: bases.to_vec(),
            paths: claims.paths,
            ragged,
            namespaces,
            expressions: claims.expressions,
            fixed,
        }
    }

    /// The patterns that [`Index::rank_of`] needs as one set.
    pub(crate) fn patterns(&self) -> Vec<&str> {
        let expressions = self.expressions.iter();
        expressions.map(|each| each.regexp.pattern()).collect()
    }

    pub(crate) fn owner(&self, rank: Rank) -> Option<StoreIndex> {
        self.owners.of(rank)
    }

    /// The smallest rank that claims a key.
    pub(crate) fn rank_of(&self, key: &[u8], set: &RegexpSet) -> Rank {
        let mut rank = self.ragged.rank_at(key);
        let base = self
            .bases
            .iter()
            .find_map(|base| key.strip_prefix(&base[..]));
        if let Some(below) = base {
            rank = rank.min(self.paths.rank_of(below));
            rank = rank.min(self.namespaces.rank_of(below));
        }
        // Reading the key once more is needless where no expression can come before.
        let can_win = self.expressions.first().is_some_and(|e| e.rank < rank);
        if can_win && let Some(number) = set.first(base.unwrap_or(key)) {
            let found = self.expressions.get(number);
            rank = found.map_or(rank, |found| rank.min(found.rank));
        }
        rank
    }
}

/// What the routes claim, sorted by how it is looked up.
#[derive(Default)]
struct ClaimTable {
    paths: PathTable,
    ragged: Vec<(KeyRange, Rank)>,
    namespaces: namespaces::Collect,
    expressions: Vec<Expression>,
}

impl ClaimTable {
    fn add(&mut self, rule: &Rule, rank: Rank, bases: &[Bytes]) {
        match &rule.matcher {
            Matcher::Path(path) | Matcher::CustomResource(path) => {
                self.paths.claim_key(path.as_bytes(), rank);
                self.paths.claim_below(path.as_bytes(), rank);
            }
            Matcher::KeyPrefix(prefix) => {
                let range = KeyRange::prefix(Bytes::copy_from_slice(prefix.as_bytes()));
                self.ragged.push((range, rank));
            }
            Matcher::Regexp(regexp) if regexp.automaton().is_enumerable() => {
                let whole = everything();
                for piece in regexp.automaton().claim(&whole).pieces {
                    let absolute = absolute(&piece.range, bases);
                    self.ragged.extend(absolute.map(|range| (range, rank)));
                }
            }
            Matcher::Regexp(regexp) => self.expressions.push(Expression {
                rank,
                regexp: Arc::clone(regexp),
            }),
            Matcher::Namespace(namespaces) => {
                let directories = namespaces.directories.iter().flatten();
                for (directory, name) in
                    directories.flat_map(|dir| namespaces.names.iter().map(move |n| (dir, n)))
                {
                    let path = format!("{directory}/{name}");
                    self.paths.claim_below(path.as_bytes(), rank);
                }
                self.namespaces.add(namespaces, rank);
            }
        }
    }
}

/// Every subject; unlike a key, a subject may be empty.
fn everything() -> KeyRange {
    KeyRange {
        start: Bytes::new(),
        end: None,
    }
}

/// The bounds of what lies below each registry prefix.
fn edges(bases: &[Bytes]) -> Vec<Bytes> {
    let ranges = bases.iter().map(|base| KeyRange::prefix(base.clone()));
    ranges
        .flat_map(|range| [Some(range.start), range.end])
        .flatten()
        .collect()
}

/// The registry prefix below which a range lies wholly, and the range below it.
fn below(bases: &[Bytes], range: &KeyRange) -> Option<(Bytes, KeyRange)> {
    let base = bases.iter().find(|base| range.start.starts_with(base))?;
    let inside = within(base, range)?;
    Some((base.clone(), inside))
}

/// What of `range` follows `prefix`, if every key of the range begins with it.
fn within(prefix: &[u8], range: &KeyRange) -> Option<KeyRange> {
    if !range.start.starts_with(prefix) {
        return None;
    }
    let start = range.start.slice(prefix.len()..);
    let end = match &range.end {
        Some(end) if end.starts_with(prefix) => Some(end.slice(prefix.len()..)),
        end if *end == KeyRange::prefix(Bytes::copy_from_slice(prefix)).end => None,
        _ => return None,
    };
    Some(KeyRange { start, end })
}

/// The inverse of [`within`].
fn under(prefix: &[u8], range: &KeyRange) -> KeyRange {
    let join = |tail: &[u8]| Bytes::from([prefix, tail].concat());
    let end = match &range.end {
        Some(end) => Some(join(end)),
        None => KeyRange::prefix(Bytes::copy_from_slice(prefix)).end,
    };
    KeyRange {
        start: join(&range.start),
        end,
    }
}

/// The keys whose subject lies in a range: below each registry prefix, and elsewhere.
fn absolute<'a>(
    subjects: &'a KeyRange,
    bases: &'a [Bytes],
) -> impl Iterator<Item = KeyRange> + use<'a> {
    let inside = bases.iter().map(|base| under(base, subjects));
    inside.chain(elsewhere(subjects, bases))
}

/// A range cut at the registry prefixes, so that each piece lies below one or below none.
fn cut(range: &KeyRange, bases: &[Bytes]) -> Vec<KeyRange> {
    let inside = bases.iter().map(|base| KeyRange::prefix(base.clone()));
    let inside = inside.filter_map(|base| base.intersection(range));
    inside.chain(elsewhere(range, bases)).collect()
}

/// What of a range lies below no registry prefix.
fn elsewhere(range: &KeyRange, bases: &[Bytes]) -> Vec<KeyRange> {
    let mut left = vec![range.clone()];
    for base in bases {
        let base = KeyRange::prefix(base.clone());
        left = left
            .iter()
            .flat_map(|range| without(range, &base))
            .collect();
    }
    left
}

/// What is left of a range without another.
fn without(range: &KeyRange, hole: &KeyRange) -> Vec<KeyRange> {
    let before = KeyRange {
        start: Bytes::new(),
        end: Some(hole.start.clone()),
    };
    let behind = hole.end.clone().map(|start| KeyRange { start, end: None });
    let sides = [Some(before), behind].into_iter().flatten();
    sides.filter_map(|side| side.intersection(range)).collect()
}
