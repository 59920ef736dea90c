//! Namespace routes: by name for `route`, in order and by store for `cover`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use super::{Owners, Rank, ranked::RankedNames, regions::Regions, within};
use crate::{kubernetes, matcher::Namespaces, spec::StoreIndex};

/// What the routes say, before it is put in order.
#[derive(Default)]
pub(super) struct Collect {
    names: HashMap<Bytes, Rank>,
    wildcards: Vec<(KeyRange, Rank)>,
    wildcards_in: HashMap<Box<[u8]>, Vec<(KeyRange, Rank)>>,
    given: BTreeSet<Bytes>,
}

/// Names with kinds are not here: they are fixed claims.
#[derive(Clone, Debug)]
pub(super) struct NamespaceIndex {
    /// Names in all resources.
    names: HashMap<Bytes, Rank>,
    /// Wildcards in all resources: regions of the space of names.
    wildcards: Regions,
    /// For directories with wildcards of their own: all that hold there.
    wildcards_in: HashMap<Box<[u8]>, Regions>,
    by_store: BTreeMap<StoreIndex, OfStore>,
    /// All of the above as they stand in the file: names with a slash at the end, wildcards
    /// without their `*`.
    given: BTreeSet<Bytes>,
}

/// What one store has in all resources.
#[derive(Clone, Debug)]
pub(super) struct OfStore {
    /// The names that no earlier namespace route has.
    pub(super) names: RankedNames,
    /// The smallest rank of names and wildcards.
    pub(super) least: Rank,
}

/// Where a range lies, seen from namespaces.
pub(super) enum Zone {
    /// In one namespace of one directory, which this rank claims.
    One(Rank),
    /// In one directory.
    Directory {
        /// With a slash at the end.
        directory: Bytes,
        /// The range below it.
        names: KeyRange,
    },
    /// In several directories: any namespace can be there.
    Wide,
}

impl Collect {
    pub(super) fn add(&mut self, namespaces: &Namespaces, rank: Rank) {
        let wildcards = namespaces.wildcards.iter().map(|prefix| beginning(prefix));
        let given = wildcards.clone().map(|range| range.start);
        self.given.extend(given);
        match &namespaces.directories {
            Some(directories) => {
                let claims: Vec<_> = wildcards.map(|range| (range, rank)).collect();
                for directory in directories.iter().filter(|_| !claims.is_empty()) {
                    let entry = self.wildcards_in.entry(directory.as_bytes().into());
                    entry.or_default().extend(claims.iter().cloned());
                }
            }
            None => {
                self.wildcards.extend(wildcards.map(|range| (range, rank)));
                for name in &namespaces.names {
                    let name = Bytes::copy_from_slice(name.as_bytes());
                    self.given.insert(with_slash(&name));
                    let entry = self.names.entry(name).or_insert(rank);
                    *entry = rank.min(*entry);
                }
            }
        }
    }

    pub(super) fn finish(self, owners: &Owners) -> NamespaceIndex {
        let wildcards = Regions::flatten(&self.wildcards, &[]);
        let in_directories = self.wildcards_in.into_iter();
        let wildcards_in = in_directories.map(|(directory, mut claims)| {
            claims.extend(self.wildcards.iter().cloned());
            (directory, Regions::flatten(&claims, &[]))
        });
        NamespaceIndex {
            by_store: by_store(&self.names, &wildcards, owners),
            names: self.names,
            wildcards_in: wildcards_in.collect(),
            wildcards,
            given: self.given,
        }
    }
}

impl NamespaceIndex {
    /// The smallest rank that claims a key below the registry prefix for its namespace.
    pub(super) fn rank_of(&self, below: &[u8]) -> Rank {
        match kubernetes::object_path(below) {
            Some(path) => self.rank_in(path.directory, path.namespace),
            None => Rank::DEFAULT,
        }
    }

    fn rank_in(&self, directory: &[u8], namespace: &[u8]) -> Rank {
        let name = self.names.get(namespace).copied();
        name.unwrap_or(Rank::DEFAULT)
            .min(self.regions(directory).rank_at(namespace))
    }

    /// Every name and wildcard, as given.
    pub(super) fn given(&self) -> impl Iterator<Item = &Bytes> {
        self.given.iter()
    }

    /// The smallest rank that claims a name or a wildcard as given, in a directory without its
    /// slash.
    pub(super) fn claim_of(&self, directory: &[u8], given: &[u8]) -> Rank {
        match given.strip_suffix(b"/") {
            Some(name) => self.rank_in(directory, name),
            None => self.regions(directory).rank_at(given),
        }
    }

    /// The ranks of namespace routes that are not shadowed by other namespace routes.
    pub(super) fn ranks(&self) -> impl Iterator<Item = Rank> {
        let names = self.by_store.values().flat_map(|of| of.names.ranks());
        let own = self.wildcards_in.values().flat_map(Regions::claims);
        names.chain(self.wildcards.claims()).chain(own)
    }

    /// The wildcards of a directory.
    fn regions(&self, directory: &[u8]) -> &Regions {
        self.wildcards_in.get(directory).unwrap_or(&self.wildcards)
    }

    /// The rank that claims the whole of a range below the registry prefix, where that is one
    /// namespace.
    pub(super) fn whole(&self, range: &KeyRange) -> Option<Rank> {
        match self.zone(range) {
            Zone::One(rank) => Some(rank),
            Zone::Directory { .. } | Zone::Wide => None,
        }
    }

    pub(super) fn zone(&self, range: &KeyRange) -> Zone {
        let Some((directory, names)) = inside(range, kubernetes::directory_end(&range.start))
        else {
            return Zone::Wide;
        };
        let slash = names.start.iter().position(|byte| *byte == b'/');
        match inside(&names, slash) {
            Some((name, _)) => Zone::One(self.rank_in(trim(&directory), trim(&name))),
            None => Zone::Directory { directory, names },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_store.is_empty() && self.wildcards_in.is_empty()
    }

    pub(super) fn by_store(&self) -> impl Iterator<Item = (StoreIndex, &OfStore)> {
        self.by_store.iter().map(|(store, of)| (*store, of))
    }

    /// The wildcards that can claim something in a range of one directory (with its slash).
    pub(super) fn wildcards(
        &self,
        directory: &[u8],
        names: &KeyRange,
    ) -> impl Iterator<Item = (KeyRange, Rank)> {
        let pieces = self.regions(trim(directory)).pieces(names);
        pieces.filter(|(_, rank)| *rank != Rank::DEFAULT)
    }

    /// The directories with wildcards of their own that a range touches, each with the names that it
    /// touches there.
    pub(super) fn wildcards_below(
        &self,
        range: &KeyRange,
    ) -> impl Iterator<Item = (&[u8], &Regions, KeyRange)> {
        self.wildcards_in.iter().filter_map(|(directory, regions)| {
            let prefix = Bytes::from([directory, &b"/"[..]].concat());
            let touched = KeyRange::prefix(prefix.clone()).intersection(range)?;
            Some((&directory[..], regions, within(&prefix, &touched)?))
        })
    }

    /// Whether a wildcard takes a name (with its slash) in this directory before `rank`.
    pub(super) fn is_taken(&self, directory: &[u8], name: &[u8], rank: Rank) -> bool {
        self.regions(trim(directory)).rank_at(trim(name)) < rank
    }
}

fn by_store(
    names: &HashMap<Bytes, Rank>,
    wildcards: &Regions,
    owners: &Owners,
) -> BTreeMap<StoreIndex, OfStore> {
    let mut by_store: BTreeMap<StoreIndex, (Vec<(Bytes, Rank)>, Rank)> = BTreeMap::new();
    for rank in wildcards.claims() {
        let entry = by_store.entry(owners.of_route(rank));
        let (_, least) = entry.or_insert((Vec::new(), Rank::DEFAULT));
        *least = rank.min(*least);
    }
    for (name, rank) in names {
        if wildcards.rank_at(name) < *rank {
            continue;
        }
        let entry = by_store.entry(owners.of_route(*rank));
        let (names, _) = entry.or_insert((Vec::new(), Rank::DEFAULT));
        names.push((with_slash(name), *rank));
    }
    let by_store = by_store.into_iter().map(|(store, (names, least))| {
        let names = RankedNames::new(names);
        let least = least.min(names.least());
        (store, OfStore { names, least })
    });
    by_store.collect()
}

/// Every name that begins with `prefix`; unlike a key, a name may be empty.
fn beginning(prefix: &str) -> KeyRange {
    let start = Bytes::copy_from_slice(prefix.as_bytes());
    let end = KeyRange::prefix(start.clone()).end;
    KeyRange { start, end }
}

/// What stands up to and including the slash at `slash`, and the range behind it, if the whole
/// range lies there.
fn inside(range: &KeyRange, slash: Option<usize>) -> Option<(Bytes, KeyRange)> {
    let prefix = range.start.slice(..=slash?);
    let names = within(&prefix, range)?;
    Some((prefix, names))
}

fn with_slash(name: &[u8]) -> Bytes {
    Bytes::from([name, b"/"].concat())
}

fn trim(with_slash: &[u8]) -> &[u8] {
    with_slash.strip_suffix(b"/").unwrap_or(with_slash)
}
