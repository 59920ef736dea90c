//! What the properties of this crate are checked against: a keyspace cut at random over stores
//! that answer as etcd does, with strays on wrong stores, and the same keys on one store.
//!
//! All stores draw their revisions from one counter, so that nothing needs to be translated.

use std::collections::BTreeSet;

use bytes::Bytes;
use keyloom_etcd_api::{KeyRange, Rpc, etcdserverpb::RangeRequest};
use keyloom_topology::{Cuts, Part, StoreIndex};
use proptest::prelude::*;

use crate::routes::Routes;

mod etcd;
pub(crate) mod kubernetes;

pub(crate) use etcd::Etcd;

pub(crate) const STORES: u16 = 4;

/// Routes of which the first match wins; the default store, 0, takes the rest.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) rules: Vec<(Matcher, StoreIndex)>,
    pub(crate) reserved: Option<KeyRange>,
}

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Within(KeyRange),
    /// Any key that has this byte somewhere, so that no range can be ruled out.
    Has(u8),
}

impl Matcher {
    fn matches(&self, key: &[u8]) -> bool {
        match self {
            Self::Within(range) => range.contains(key),
            Self::Has(byte) => key.contains(byte),
        }
    }
}

impl Map {
    fn is_reserved(&self, key: &[u8]) -> bool {
        self.reserved
            .as_ref()
            .is_some_and(|reserved| reserved.contains(key))
    }

    /// Cuts a range where the owner of its keys can change.
    fn pieces(&self, range: &KeyRange) -> Vec<KeyRange> {
        let within = self.rules.iter().filter_map(|(matcher, _)| match matcher {
            Matcher::Within(range) => Some(range),
            Matcher::Has(_) => None,
        });
        let mut bounds: BTreeSet<Bytes> = within
            .chain(&self.reserved)
            .flat_map(|cut| std::iter::once(cut.start.clone()).chain(cut.end.clone()))
            .filter(|bound| range.contains(bound) && *bound > range.start)
            .collect();
        bounds.insert(range.start.clone());
        let starts: Vec<_> = bounds.into_iter().collect();
        let ends = starts[1..].iter().cloned().map(Some);
        starts
            .iter()
            .zip(ends.chain([range.end.clone()]))
            .map(|(start, end)| KeyRange {
                start: start.clone(),
                end,
            })
            .collect()
    }

    /// The stores that can have keys in a piece.
    fn owners(&self, piece: &KeyRange) -> BTreeSet<StoreIndex> {
        let mut owners = BTreeSet::new();
        if self.is_reserved(&piece.start) {
            return owners;
        }
        for (matcher, store) in &self.rules {
            match matcher {
                Matcher::Within(range) if range.contains(&piece.start) => {
                    owners.insert(*store);
                    return owners;
                }
                Matcher::Within(_) => {}
                Matcher::Has(_) => {
                    owners.insert(*store);
                }
            }
        }
        owners.insert(self.default_store());
        owners
    }

    fn part(&self, store: StoreIndex, pieces: &[(KeyRange, BTreeSet<StoreIndex>)]) -> Option<Part> {
        let mine = || pieces.iter().filter(|(_, owners)| owners.contains(&store));
        let hull = KeyRange {
            start: mine().next()?.0.start.clone(),
            end: mine().last()?.0.end.clone(),
        };
        let mut intervals: Vec<KeyRange> = Vec::new();
        for (piece, _) in mine() {
            match intervals.last_mut() {
                Some(last) if last.end.as_ref() == Some(&piece.start) => {
                    last.end = piece.end.clone();
                }
                _ => intervals.push(piece.clone()),
            }
        }
        let cuts = if mine().any(|(_, owners)| owners.len() > 1) {
            Cuts::Filter
        } else if intervals.len() == 1 {
            Cuts::Whole
        } else {
            Cuts::Intervals(intervals)
        };
        Some(Part { store, hull, cuts })
    }
}

impl Routes for Map {
    fn route(&self, key: &[u8]) -> Option<StoreIndex> {
        if self.is_reserved(key) {
            return None;
        }
        let mut rules = self.rules.iter();
        let rule = rules.find(|(matcher, _)| matcher.matches(key));
        Some(rule.map_or(self.default_store(), |(_, store)| *store))
    }

    fn cover(&self, range: &KeyRange) -> Vec<Part> {
        let pieces: Vec<_> = self
            .pieces(range)
            .into_iter()
            .map(|piece| (piece.clone(), self.owners(&piece)))
            .collect();
        (0..STORES)
            .filter_map(|store| self.part(StoreIndex(store), &pieces))
            .collect()
    }

    fn default_store(&self) -> StoreIndex {
        StoreIndex(0)
    }

    fn name(&self, store: StoreIndex) -> &str {
        ["default", "tenant-a", "tenant-b", "tenant-c"][usize::from(store.0)]
    }
}

/// Keys on stores.
#[derive(Clone, Debug)]
pub(crate) struct World<R = Map> {
    pub(crate) map: R,
    pub(crate) stores: Vec<Etcd>,
    /// Every key that a client may see, on one store.
    pub(crate) union: Etcd,
    pub(crate) revision: i64,
}

/// One write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    key: Bytes,
    value: Bytes,
    delete: bool,
    /// Where it goes if not to the store that the key routes to.
    stray: Option<u16>,
}

impl<R: Routes> World<R> {
    pub(crate) fn new(map: R, writes: &[Write]) -> Self {
        let mut world = Self {
            map,
            stores: (0..STORES).map(|_| Etcd::default()).collect(),
            union: Etcd::default(),
            revision: 1,
        };
        for write in writes {
            world.write(write);
        }
        world
    }

    pub(crate) fn write(&mut self, write: &Write) {
        self.revision += 1;
        let home = self.map.route(&write.key);
        let (revision, key, value) = (self.revision, &write.key, &write.value);
        if write.delete {
            self.union
                .delete(self.revision, &KeyRange::key(key.clone()));
            for store in &mut self.stores {
                store.delete(revision, &KeyRange::key(key.clone()));
            }
            return;
        }
        match (home, write.stray.map(StoreIndex)) {
            (Some(home), None) => {
                self.union.put(revision, key, value);
                self.store(home).put(revision, key, value);
            }
            (_, Some(stray)) if home != Some(stray) => {
                self.store(stray).put(revision, key, value);
            }
            // Keyloom's own keys are on the default store.
            _ if home.is_none() => self.stores[0].put(revision, key, value),
            _ => {}
        }
    }

    pub(crate) fn store(&mut self, store: StoreIndex) -> &mut Etcd {
        &mut self.stores[usize::from(store.0)]
    }

    /// Makes a call on a store.
    pub(crate) fn call(&mut self, store: StoreIndex, (rpc, message): (Rpc, Bytes)) -> Bytes {
        let next = self.revision + 1;
        let answer = self.store(store).call(next, rpc, message);
        self.revision = self.revision.max(self.store(store).revision());
        answer
    }
}

// === what is drawn ===

/// Short keys of few bytes, among them the ones that test the ends of ranges.
pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    let byte = prop::sample::select(vec![0, b'a', b'b', b'c', 0xff]);
    prop::collection::vec(byte, 1..4).prop_map(Bytes::from)
}

/// A range as requests have it: one key, from a key on, or up to another, perhaps an empty range.
pub(crate) fn bounds() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = prop_oneof![
        1 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        4 => key(),
    ];
    prop_oneof![
        1 => Just((Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))),
        6 => (key(), end),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    bounds()
        .prop_map(|(key, end)| KeyRange::from_request(&key, &end))
        .prop_filter("not empty", |range| !range.is_empty())
}

pub(crate) fn map() -> impl Strategy<Value = Map> {
    let matcher = prop_oneof![
        5 => range().prop_map(Matcher::Within),
        1 => prop::sample::select(vec![b'a', b'b', b'c']).prop_map(Matcher::Has),
    ];
    let rule = (matcher, (0..STORES).prop_map(StoreIndex));
    let rules = prop::collection::vec(rule, 0..5);
    (rules, prop::option::weighted(0.3, range()))
        .prop_map(|(rules, reserved)| Map { rules, reserved })
}

pub(crate) fn write(strays: u32) -> impl Strategy<Value = Write> {
    write_of(key(), strays)
}

fn write_of(key: impl Strategy<Value = Bytes>, strays: u32) -> impl Strategy<Value = Write> {
    let value = prop::sample::select(vec!["", "x", "y", "zz"]).prop_map(Bytes::from);
    let stray = prop_oneof![
        strays => (0..STORES).prop_map(Some),
        100 - strays => Just(None),
    ];
    (key, value, prop::bool::weighted(0.15), stray).prop_map(|(key, value, delete, stray)| Write {
        key,
        value,
        delete,
        stray,
    })
}

/// A world in which so many writes of a hundred go to a store drawn at random.
pub(crate) fn world(strays: u32) -> impl Strategy<Value = World> {
    (map(), prop::collection::vec(write(strays), 0..60))
        .prop_map(|(map, writes)| World::new(map, &writes))
}

/// Any range request at a revision up to 62, 0 for now.
pub(crate) fn query() -> impl Strategy<Value = RangeRequest> {
    query_of(bounds())
}

fn query_of(bounds: impl Strategy<Value = (Bytes, Bytes)>) -> impl Strategy<Value = RangeRequest> {
    let limit = prop_oneof![
        3 => Just(0),
        4 => 1_i64..8,
        1 => prop::sample::select(vec![-1, 100, i64::MAX]),
    ];
    let filter = || prop_oneof![6 => Just(0), 1 => 1_i64..60, 1 => Just(-1)];
    let filters = (filter(), filter(), filter(), filter());
    let sort = prop_oneof![2 => Just((0, 0)), 3 => (0..3, 0..5)];
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.15));
    (bounds, limit, sort, flags, filters, 0_i64..62).prop_map(
        |((key, range_end), limit, sort, flags, filters, revision)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order: sort.0,
            sort_target: sort.1,
            serializable: false,
            keys_only: flags.0,
            count_only: flags.1,
            min_mod_revision: filters.0,
            max_mod_revision: filters.1,
            min_create_revision: filters.2,
            max_create_revision: filters.3,
        },
    )
}
