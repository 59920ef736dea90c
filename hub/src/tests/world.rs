//! Stores, ledger and hub, driven step by step.

use std::{collections::BTreeMap, sync::Arc};

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{Ledger, StoreRev, StoreSlot, StoreStart, UnifiedRev};
use keyloom_topology::{Affected, ParseOptions, StoreIndex, Topology, diff, parse};

use super::{chance::Chance, client::Seen, store::Store};
use crate::{Bounds, ChaseId, Feed, Flow, Hub, RangeFloors, Reroute, Routes, Step, StreamId};

pub(super) const TOPOLOGY: &str = "
default: {endpoint: 'http://default.invalid:2379'}
backends:
- name: b
  endpoint: http://b.invalid:2379
  prefix: {prefix: b/}
- name: c
  endpoint: http://c.invalid:2379
  prefix: {prefix: c/}
- name: d
  endpoint: http://d.invalid:2379
  prefix: {prefix: m/x}
";

/// Where the same stores can have their keys later.
pub(super) const LATER: [&str; 5] = [
    // As before.
    "b: {prefix: b/}, c: {prefix: c/}, d: {prefix: m/x}",
    "b: {prefix: c/}, c: {prefix: b/}, d: {prefix: m/x}",
    "b: {prefix: b/1}, c: {prefix: c/}, d: {prefix: a/}",
    "b: {prefix: nothing/}, c: {prefix: nowhere/}, d: {prefix: m/}",
    "b: {prefix: m/}, c: {prefix: a/2}, d: {prefix: b/}",
];

/// A topology of the same stores, in short.
fn short(text: &str) -> Topology {
    let mut file = "default: {endpoint: 'http://default.invalid:2379'}\nbackends:\n".to_owned();
    for backend in text.split(", ") {
        let (name, matcher) = backend.split_once(": ").unwrap();
        let key = matcher.replace("{prefix: ", "").replace('}', "");
        file += &format!(
            "- {{name: {name}, endpoint: 'http://{name}.invalid:2379', \
             prefix: {{key: /registry/{key}}}}}\n"
        );
    }
    let accepted = parse(&file, &ParseOptions::default()).unwrap();
    let reserved = KeyRange::prefix("/_keyloom/".into());
    accepted.topology.with_reserved(Some(reserved))
}

/// Below which ranges that moved cannot be watched.
#[derive(Clone, Debug, Default)]
struct Floors(Vec<(Affected, UnifiedRev)>);

impl RangeFloors for Floors {
    fn of(&self, range: &KeyRange) -> UnifiedRev {
        let touching = self
            .0
            .iter()
            .filter(|(affected, _)| affected.touches(range));
        touching.map(|(_, at)| *at).max().unwrap_or_default()
    }
}

pub(super) fn topology() -> Topology {
    let accepted = parse(TOPOLOGY, &ParseOptions::default()).unwrap();
    let reserved = KeyRange::prefix("/_keyloom/".into());
    accepted.topology.with_reserved(Some(reserved))
}

/// An upstream watch of a chase.
struct Served {
    slot: StoreSlot,
    feed: Feed,
    after: StoreRev,
}

pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) hub: Hub,
    pub(super) topology: Topology,
    /// The topologies before, each with its last place.
    eras: Vec<(UnifiedRev, Topology)>,
    floors: Floors,
    pub(super) stores: Vec<Store>,
    feeds: Vec<(Feed, StoreRev)>,
    served: BTreeMap<ChaseId, Served>,
    pub(super) woken: std::collections::BTreeSet<StreamId>,
    pub(super) chases: usize,
    pub(super) lost: usize,
    /// How often a store's watch was to be opened anew for what events replace.
    pub(super) asked_anew: usize,
}

impl World {
    pub(super) fn new(bases: &[i64; 4], bounds: Bounds) -> Self {
        let topology = topology();
        let keys = [
            "/registry/a/old",
            "/registry/b/old",
            "/registry/c/old",
            "/registry/m/xold",
        ];
        let names = ["default", "b", "c", "d"];
        let mut stores = Vec::new();
        let mut starts = Vec::new();
        for (number, base) in bases.iter().enumerate() {
            let slot = StoreSlot::new(number as u16);
            stores.push(Store::new(slot, *base, keys[number]));
            starts.push(StoreStart {
                name: names[number].to_owned(),
                cluster_id: number as u64,
                at: StoreRev::new(*base),
            });
        }
        let slots: Vec<_> = stores.iter().map(|store| store.slot).collect();
        let frontiers = bases.iter().map(|base| StoreRev::new(*base));
        let at_any_rate = bounds.history_groups % 2 == 1;
        let mut hub = Hub::new(
            Routes::new(topology.clone(), slots.clone()),
            bounds,
            slots.clone().into_iter().zip(frontiers.clone()),
        );
        let mut open = |slot| hub.open_feed(slot, at_any_rate).unwrap();
        let feeds: Vec<_> = slots.into_iter().map(&mut open).zip(frontiers).collect();
        Self {
            ledger: Ledger::start(&starts),
            hub,
            topology,
            eras: Vec::new(),
            floors: Floors::default(),
            stores,
            feeds,
            served: BTreeMap::new(),
            woken: std::collections::BTreeSet::new(),
            chases: 0,
            lost: 0,
            asked_anew: 0,
        }
    }

    /// Other routes from here on.
    pub(super) fn reroute(&mut self, which: usize) {
        let next = short(LATER[which]);
        let moves = diff(&self.topology, &next);
        let moved: Vec<_> = moves.iter().map(|each| &each.what).collect();
        let affected = Affected::of(moved, next.registry_prefixes());
        let at = UnifiedRev::new(self.ledger.head().get() + 1);
        self.ledger.skip_to(at);
        self.floors.0.push((affected.clone(), at));
        let slots = self.stores.iter().map(|store| store.slot);
        let routes = Routes::new(next.clone(), slots).with_floors(Arc::new(self.floors.clone()));
        let change = Reroute {
            at,
            routes,
            affected,
            gained: Vec::new(),
        };
        self.hub.reroute(change, &self.ledger);
        self.eras
            .push((at, std::mem::replace(&mut self.topology, next)));
        self.follow();
    }

    fn routes_at(&self, u: UnifiedRev) -> &Topology {
        let past = self.eras.iter().find(|(until, _)| u <= *until);
        past.map_or(&self.topology, |(_, topology)| topology)
    }

    pub(super) fn write(&mut self, store: usize, keys: &[(&str, bool)]) -> StoreRev {
        let revision = self.stores[store].write(keys);
        // Keyloom knows its own writes before anything newer of the store is observed.
        if keys.iter().all(|(key, _)| key.starts_with("/_keyloom/")) {
            assert!(self.ledger.hide(revision));
        }
        revision
    }

    /// An answer of the store shows its newest revision.
    pub(super) fn observe(&mut self, store: usize) {
        let revision = StoreRev::new(self.stores[store].revision());
        self.ledger.observe(StoreSlot::new(store as u16), revision);
    }

    /// The store's watch delivers.
    pub(super) fn deliver(&mut self, store: usize, most: usize, chance: &mut Chance) {
        let slot = StoreSlot::new(store as u16);
        let (feed, at) = &mut self.feeds[store];
        for answer in self.stores[store].answers(feed, *at, most, chance) {
            let Step::Groups(groups) = feed.take(&answer).unwrap().step else {
                panic!("no groups")
            };
            if let Some(last) = groups.last() {
                *at = last.revision;
                self.ledger.observe(slot, last.revision);
            }
            self.hub.take(slot, groups, &self.ledger).unwrap();
        }
        assert_eq!(self.hub.delivered(slot), Some(*at));
        self.follow();
    }

    /// The store's watch breaks and is opened anew, perhaps too late.
    pub(super) fn reopen(&mut self, store: usize) {
        let slot = StoreSlot::new(store as u16);
        let (feed, at) = &mut self.feeds[store];
        *feed = self.hub.open_feed(slot, false).unwrap();
        if at.get() + 1 >= self.stores[store].compacted {
            return;
        }
        let answer = self.stores[store].too_late();
        let Step::Compacted(begin) = feed.take(&answer).unwrap().step else {
            panic!("not compacted")
        };
        self.ledger.observe(slot, begin);
        if let Some(floor) = self.hub.compacted(slot, begin, &self.ledger) {
            self.ledger.raise_floor(slot, floor);
            self.lost += 1;
        }
        *at = self.hub.delivered(slot).unwrap();
        *feed = self.hub.open_feed(slot, false).unwrap();
        self.follow();
    }

    pub(super) fn compact(&mut self, store: usize, at: i64) {
        let store = &mut self.stores[store];
        store.compacted = store.compacted.max(at.min(store.revision()));
    }

    /// What the glue does after each call to the hub.
    pub(super) fn follow(&mut self) {
        let signals = self.hub.signals();
        self.asked_anew += signals.reopen.len();
        self.woken.extend(signals.woken);
        for need in signals.needs {
            self.chases += 1;
            let served = Served {
                slot: need.slot,
                feed: Feed::after(need.after).with_previous(need.with_previous),
                after: need.after,
            };
            self.served.insert(need.chase, served);
        }
    }

    /// One chase is served; says whether there was something to do.
    pub(super) fn serve(&mut self, most: usize, chance: &mut Chance) -> bool {
        if self.served.is_empty() {
            return false;
        }
        let at = chance.below(self.served.len());
        let (id, served) = self.served.iter_mut().nth(at).unwrap();
        let id = *id;
        match self.hub.chase_flow(id) {
            Flow::Done => {
                self.served.remove(&id);
                return true;
            }
            Flow::Pause => return false,
            Flow::Continue(after) => {
                assert_eq!(after, served.after);
                // While it is paused its watch is closed.
                let with_previous = served.feed.asks_previous();
                served.feed = Feed::after(after).with_previous(with_previous);
            }
        }
        let store = &self.stores[usize::from(served.slot.get())];
        if served.after.get() + 1 < store.compacted {
            let begin = StoreRev::new(store.compacted);
            self.ledger.observe(served.slot, begin);
            self.hub.chase_compacted(id, begin, &self.ledger);
            match self.hub.chase_flow(id) {
                Flow::Continue(after) => served.after = after,
                Flow::Pause => served.after = StoreRev::new(begin.get() - 1),
                Flow::Done => drop(self.served.remove(&id)),
            }
            self.lost += 1;
            self.follow();
            return true;
        }
        let answers = store.answers(&served.feed, served.after, most, chance);
        let busy = !answers.is_empty();
        for answer in answers {
            let Step::Groups(groups) = served.feed.take(&answer).unwrap().step else {
                panic!("no groups")
            };
            if let Some(last) = groups.last() {
                served.after = last.revision;
                self.ledger.observe(served.slot, last.revision);
            }
            if self.hub.chase_take(id, groups, &self.ledger).unwrap() == Flow::Done {
                self.served.remove(&id);
                break;
            }
        }
        self.follow();
        busy
    }

    /// What a watcher of `range` from `start` must see, by the plainest of means.
    pub(super) fn reference_known(&self, range: &KeyRange, start: i64) -> Vec<Seen> {
        let mut all = Vec::new();
        for store in &self.stores {
            let index = StoreIndex(store.slot.get());
            for (revision, events) in store.all() {
                for event in events {
                    let key = &event.kv.as_ref().unwrap().key;
                    // What was not observed yet comes above everything that was delivered.
                    let Some(unified) = self.ledger.unified(store.slot, revision) else {
                        continue;
                    };
                    let lives_here = self.routes_at(unified).route(key) == Some(index);
                    if !lives_here || !range.contains(key) {
                        continue;
                    }
                    if unified >= UnifiedRev::new(start) {
                        let u = |r| self.ledger.unified(store.slot, StoreRev::new(r));
                        all.push(Seen::of(event, |r| u(r).unwrap().get()));
                    }
                }
            }
        }
        // Stable: within a revision as the store had them, stores in order of their slots.
        all.sort_by_key(|seen| seen.revision);
        all
    }
}
