//! The compiled, immutable snapshot of a topology.

use std::{fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use crate::{
    index::{Index, Owners, Rank, Side, moves},
    matcher::Rule,
    meaning::Meaning,
    problem::Position,
    regexp::RegexpSet,
    spec::{DeleteRangeOverStores, StoreIndex, StoreSpec},
    text,
};

/// A part with more intervals than this is a [`Cuts::Filter`]. A request of a store has at most 128
/// operations.
pub const MAX_INTERVALS: usize = 120;

/// Stores and routes. Cheap to clone; never changes.
#[derive(Clone)]
pub struct Topology {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    stores: Vec<StoreSpec>,
    /// The store that stands for each: itself, unless it was found to be another's cluster.
    canonical: Vec<StoreIndex>,
    rules: Vec<Rule>,
    bases: Vec<Bytes>,
    reserved: Option<KeyRange>,
    delete_range_over_stores: DeleteRangeOverStores,
    files: Vec<PathBuf>,
    regexps: Arc<RegexpSet>,
    index: Index,
}

/// What one store holds of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which store.
    pub store: StoreIndex,
    /// Every key of the range that routes to the store lies in here.
    pub hull: KeyRange,
    /// Which keys of the hull do.
    pub cuts: Cuts,
}

/// Which keys of a part's hull route to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// All.
    Whole,
    /// Those of these intervals: at least two and at most [`MAX_INTERVALS`], in order, disjoint.
    Intervals(Vec<KeyRange>),
    /// Those that [`Topology::route`] sends there.
    Filter,
}

/// Why a key lives where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteExplanation {
    /// The store's name; `None` for keys that belong to Keyloom itself.
    pub store: Option<String>,
    /// What decided.
    pub reason: RouteReason,
}

/// What decides where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteReason {
    /// Keyloom's own key.
    Reserved,
    /// No route claims it.
    Default,
    /// The first route that claims it.
    Route {
        /// The backend that has the route; another name than the store's where two backends are one
        /// cluster.
        backend: String,
        /// The matcher as text.
        matcher: String,
        /// Its line in the file.
        line: usize,
    },
}

/// Keys that would route elsewhere under another topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which keys.
    pub what: Moved,
    /// The stores that can have such keys now, by name.
    pub from: Vec<String>,
    /// The stores that can have them afterwards.
    pub to: Vec<String>,
}

/// Which keys would route elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Those of a namespace (of all whose names begin so, where it ends with `*`), in every resource
    /// that no earlier route claims.
    Namespace(String),
    /// Keys of a range; all of them, unless `from` or `to` names several stores.
    Keys(KeyRange),
}

impl Topology {
    pub(crate) fn compile(meaning: Meaning) -> Result<Self, Box<regex_automata::meta::BuildError>> {
        let canonical = (0..=u16::MAX).take(meaning.stores.len()).map(StoreIndex);
        let canonical: Vec<_> = canonical.collect();
        let owners = owners(&meaning.rules, &canonical);
        let index = Index::new(&meaning.rules, &meaning.bases, owners, None);
        let regexps = RegexpSet::new(&index.patterns())?;
        Ok(Self {
            inner: Arc::new(Inner {
                canonical,
                stores: meaning.stores,
                rules: meaning.rules,
                bases: meaning.bases,
                reserved: None,
                delete_range_over_stores: meaning.delete_range_over_stores,
                files: meaning.files,
                regexps: Arc::new(regexps),
                index,
            }),
        })
    }

    /// Every store; the default store first.
    #[must_use]
    pub fn stores(&self) -> &[StoreSpec] {
        &self.inner.stores
    }

    /// What becomes of a `DeleteRange` that touches several stores.
    #[must_use]
    pub fn delete_range_over_stores(&self) -> DeleteRangeOverStores {
        self.inner.delete_range_over_stores
    }

    /// The files that the topology was read from besides itself, to be watched.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.inner.files
    }

    /// The registry prefixes, each with a slash at both ends.
    #[must_use]
    pub fn registry_prefixes(&self) -> &[Bytes] {
        &self.inner.bases
    }

    /// The store of a key; `None` only for reserved keys.
    #[must_use]
    pub fn route(&self, key: &[u8]) -> Option<StoreIndex> {
        self.inner.index.owner(self.inner.rank_of(key))
    }

    /// The stores that can hold a key of the range, in order, each with what it holds.
    #[must_use]
    pub fn cover(&self, range: &KeyRange) -> Vec<Part> {
        self.inner.index.cover(range, &self.inner.regexps)
    }

    /// With `reserved` keys that belong to Keyloom itself and to no store's part.
    #[must_use]
    pub fn with_reserved(self, reserved: Option<KeyRange>) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.reserved = reserved;
        inner.reindex()
    }

    /// As if the file named the default store and nothing else.
    #[must_use]
    pub fn default_alone(&self) -> Option<Self> {
        let inner = &self.inner;
        let alone = Meaning {
            stores: inner.stores.iter().take(1).cloned().collect(),
            rules: Vec::new(),
            bases: inner.bases.clone(),
            delete_range_over_stores: inner.delete_range_over_stores,
            files: inner.files.clone(),
        };
        // Only expressions can be too large to compile.
        Self::compile(alone).ok()
    }

    /// With stores that were found to be one etcd cluster: what routes to the second of a pair goes
    /// to the first, and only that appears in answers.
    #[must_use]
    pub fn with_same_store(self, same: &[(StoreIndex, StoreIndex)]) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        for (first, second) in same {
            let (first, second) = (inner.canonical(*first), inner.canonical(*second));
            // The default store keeps its place: it holds the ledger.
            let (first, second) = match second {
                StoreIndex::DEFAULT => (second, first),
                _ => (first, second),
            };
            if let Some(slot) = inner.canonical.get_mut(usize::from(second.0)) {
                *slot = first;
            }
        }
        let all = (0..=u16::MAX).take(inner.canonical.len()).map(StoreIndex);
        inner.canonical = all.map(|store| inner.canonical(store)).collect();
        inner.reindex()
    }

    /// With the stores of `other` where it has one of the same name: where and as whom to reach a
    /// store is said by the newest file, also while the routes are older.
    #[must_use]
    pub fn with_stores_of(self, other: &Self) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        for spec in &mut inner.stores {
            if let Some(newer) = other.stores().iter().find(|newer| newer.name == spec.name) {
                spec.clone_from(newer);
            }
        }
        inner.files.extend(other.files().iter().cloned());
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The topology in the form of a file, without what the file was written with (comments,
    /// `${…}`) and without passwords. Read again, it has the same stores and routes.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::written(&self.content())
    }

    /// The fields of [`Self::to_text`] as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        text::json(&self.content())
    }

    fn content(&self) -> text::Content<'_> {
        let inner = &self.inner;
        text::Content {
            stores: &inner.stores,
            rules: &inner.rules,
            bases: &inner.bases,
            delete_range_over_stores: inner.delete_range_over_stores,
        }
    }

    /// What would move if `new` replaced this topology, by the names of the stores: nothing is
    /// missing from the list, though a key of it may stay where an expression is involved.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Move> {
        moves(self.inner.side(), new.inner.side())
    }

    /// Where routes that can never match stand, each with the route that takes their keys.
    pub(crate) fn shadowed(&self) -> Vec<(Position, Option<Position>)> {
        let rules = &self.inner.rules;
        let at = |number: usize| rules.get(number).map(|rule| rule.at);
        let found = self.inner.index.shadowed(rules, &self.inner.regexps);
        found
            .into_iter()
            .filter_map(|(route, taker)| Some((at(route)?, taker.and_then(at))))
            .collect()
    }

    /// Which backend and which matcher decide where a key lives.
    #[must_use]
    pub fn explain(&self, key: &[u8]) -> RouteExplanation {
        let inner = &self.inner;
        let rank = inner.rank_of(key);
        let name = |store: StoreIndex| {
            let spec = inner.stores.get(usize::from(store.0));
            spec.map(|spec| spec.name.clone())
        };
        let reason = match (rank, inner.rule(rank)) {
            (Rank::RESERVED, _) => RouteReason::Reserved,
            (_, None) => RouteReason::Default,
            (_, Some(rule)) => RouteReason::Route {
                backend: name(rule.store).unwrap_or_default(),
                matcher: rule.matcher.to_string(),
                line: rule.at.line,
            },
        };
        RouteExplanation {
            store: inner.index.owner(rank).and_then(name),
            reason,
        }
    }
}

impl Inner {
    /// The end of the chain of stores that stand for each other.
    fn canonical(&self, mut store: StoreIndex) -> StoreIndex {
        while let Some(next) = self.canonical.get(usize::from(store.0)).copied()
            && next != store
        {
            store = next;
        }
        store
    }

    fn rule(&self, rank: Rank) -> Option<&Rule> {
        self.rules.get(rank.rule()?)
    }

    fn rank_of(&self, key: &[u8]) -> Rank {
        self.index.rank_of(key, &self.regexps)
    }

    fn side(&self) -> Side<'_> {
        Side {
            index: &self.index,
            stores: &self.stores,
            set: &self.regexps,
        }
    }

    fn reindex(mut self) -> Topology {
        let owners = owners(&self.rules, &self.canonical);
        self.index = Index::new(&self.rules, &self.bases, owners, self.reserved.as_ref());
        Topology {
            inner: Arc::new(self),
        }
    }
}

fn owners(rules: &[Rule], canonical: &[StoreIndex]) -> Owners {
    let canonical = |store: StoreIndex| {
        let found = canonical.get(usize::from(store.0)).copied();
        found.unwrap_or(store)
    };
    Owners {
        rules: rules.iter().map(|rule| canonical(rule.store)).collect(),
        default: canonical(StoreIndex::DEFAULT),
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inner.stores.iter().map(|store| &store.name);
        f.debug_struct("Topology")
            .field("stores", &names.collect::<Vec<_>>())
            .field("routes", &self.inner.rules.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Keys(keys) if keys.is_single_key() => write!(f, "key {:?}", keys.start),
            Self::Keys(KeyRange { start, end }) => match end {
                Some(end) => write!(f, "keys {start:?} to {end:?}"),
                None => write!(f, "keys from {start:?}"),
            },
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |stores: &[String]| stores.join(", ");
        write!(
            f,
            "{}: {} -> {}",
            self.what,
            names(&self.from),
            names(&self.to)
        )
    }
}

impl fmt::Display for RouteExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store.as_deref().unwrap_or("none");
        match &self.reason {
            RouteReason::Reserved => f.write_str("none: the key belongs to Keyloom itself"),
            RouteReason::Default => write!(f, "{store}: no route claims the key"),
            RouteReason::Route {
                backend,
                matcher,
                line,
            } => write!(f, "{store}: backend {backend}, {matcher}, line {line}"),
        }
    }
}
