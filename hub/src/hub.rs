//! The hub itself: histories, topics, watchers, and who must be woken.

mod take;
mod chasing;
mod pull;
mod lookout;
mod previous;
mod reroute;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use crate::{
    Bounds, ChaseId, Routes, StreamId, TopicId, WatcherId,
    eras::Eras,
    history::History,
    index::Index,
    topic::{Queue, Topic},
    watcher::Watcher,
};

pub(crate) use pull::Pulled;
pub use {
    chasing::Flow,
    lookout::Seen,
    reroute::{Late, Reroute},
    take::TakeError,
};

/// An upstream watch to be opened above `after`, for [`Hub::chase_take`]: over the range, where the
/// store can be trusted to tell its progress, else over the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub chase: ChaseId,
    pub slot: StoreSlot,
    pub after: StoreRev,
    pub range: KeyRange,
    /// Whether the watcher wants what events replaced.
    pub with_previous: bool,
}

/// What the owner of the hub must do after a call.
#[derive(Debug, Default)]
pub struct Signals {
    /// These streams have something to send.
    pub woken: BTreeSet<StreamId>,
    pub needs: Vec<Need>,
    /// These chases may go on, or are over: ask [`Hub::chase_flow`].
    pub resumed: Vec<ChaseId>,
    /// Somebody wants of these stores what their events replace, and their watches do not ask for
    /// it: they are to be opened anew ([`Hub::open_feed`]). Until then whoever wants it chases.
    pub reopen: BTreeSet<StoreSlot>,
}

/// See [`Hub::gauges`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubGauges {
    pub streams: usize,
    pub watchers: usize,
    /// Distinct ranges that are watched.
    pub ranges: usize,
    /// Watchers that are caught up from a store, each store by itself.
    pub chases: usize,
    /// Of all stores, for watches that come back.
    pub kept_revisions: usize,
    pub kept_bytes: usize,
}

/// See the crate's page.
#[derive(Debug)]
pub struct Hub {
    pub(crate) bounds: Bounds,
    eras: Eras,
    histories: BTreeMap<StoreSlot, History>,
    topics: HashMap<TopicId, Topic>,
    by_range: HashMap<KeyRange, TopicId>,
    index: Index<TopicId>,
    /// Topics with events that their bound holds back.
    held: BTreeSet<TopicId>,
    /// Topics with spans of earlier eras.
    turning: BTreeSet<TopicId>,
    /// How many deliveries until somebody looks again whether they have turned.
    look_in: u32,
    late: Vec<Late>,
    /// While a change of routes is being made.
    lookout: Option<lookout::Lookout>,
    watchers: HashMap<WatcherId, Watcher>,
    /// Watchers that have a chase: woken by everything.
    chasing: BTreeSet<WatcherId>,
    chases: HashMap<ChaseId, WatcherId>,
    streams: HashMap<StreamId, Ready>,
    /// Streams that wait for a bound: woken by everything.
    restless: BTreeSet<StreamId>,
    signals: Signals,
    last_id: u64,
    /// How often a watcher was looked at.
    #[cfg(test)]
    pub(crate) looks: std::cell::Cell<usize>,
}

/// What a stream has to look at.
#[derive(Debug, Default)]
struct Ready {
    watchers: VecDeque<WatcherId>,
}

impl Hub {
    /// A hub whose stores have delivered everything up to `frontiers`.
    #[must_use]
    pub fn new(
        routes: Routes,
        bounds: Bounds,
        frontiers: impl IntoIterator<Item = (StoreSlot, StoreRev)>,
    ) -> Self {
        let frontiers = frontiers.into_iter();
        Self {
            bounds,
            eras: Eras::new(routes),
            histories: frontiers
                .map(|(slot, delivered)| (slot, History::after(delivered)))
                .collect(),
            topics: HashMap::new(),
            by_range: HashMap::new(),
            index: Index::default(),
            held: BTreeSet::new(),
            turning: BTreeSet::new(),
            look_in: 0,
            late: Vec::new(),
            lookout: None,
            watchers: HashMap::new(),
            chasing: BTreeSet::new(),
            chases: HashMap::new(),
            streams: HashMap::new(),
            restless: BTreeSet::new(),
            signals: Signals::default(),
            last_id: 0,
            #[cfg(test)]
            looks: std::cell::Cell::default(),
        }
    }

    /// What there is to do since the last time.
    #[must_use]
    pub fn signals(&mut self) -> Signals {
        std::mem::take(&mut self.signals)
    }

    /// How much there is of everything that comes and goes.
    #[must_use]
    pub fn gauges(&self) -> HubGauges {
        let sizes = self.histories.values().map(History::size);
        let (kept_revisions, kept_bytes) = sizes.fold((0, 0), |(revisions, bytes), size| {
            (revisions + size.0, bytes + size.1)
        });
        HubGauges {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            ranges: self.topics.len(),
            chases: self.chases.len(),
            kept_revisions,
            kept_bytes,
        }
    }

    /// The last revision that a store's watch has delivered.
    #[must_use]
    pub fn delivered(&self, slot: StoreSlot) -> Option<StoreRev> {
        self.histories.get(&slot).map(|history| history.delivered)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn open_stream(&mut self) -> StreamId {
        let id = StreamId(self.next_id());
        self.streams.insert(id, Ready::default());
        id
    }

    pub(crate) fn close_stream(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.restless.remove(&stream);
        self.signals.woken.remove(&stream);
    }

    /// Whether the stream waits for a bound to move.
    pub(crate) fn set_restless(&mut self, stream: StreamId, restless: bool) {
        if restless {
            self.restless.insert(stream);
        } else {
            self.restless.remove(&stream);
        }
    }

    /// The stores of a range's span.
    pub(crate) fn span(&self, range: &KeyRange) -> Vec<StoreSlot> {
        self.eras.now().span(range)
    }

    /// Below which a range cannot be watched because it moved there.
    pub(crate) fn range_floor(&self, range: &KeyRange) -> UnifiedRev {
        // Whoever has what was there just below a change does not have what the change brought,
        // and will not be told.
        match self.eras.now().floor(range).get() {
            0 => UnifiedRev::default(),
            change => UnifiedRev::new(change.saturating_add(1)),
        }
    }

    /// Adds a watcher that has everything up to `cursor`.
    pub(crate) fn watch(
        &mut self,
        stream: StreamId,
        range: &KeyRange,
        cursor: UnifiedRev,
        previous: bool,
    ) -> WatcherId {
        let topic = match self.by_range.get(range) {
            Some(topic) => *topic,
            None => self.open_topic(range),
        };
        let id = WatcherId(self.next_id());
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.watchers.insert(id);
            topic.want_previous += usize::from(previous);
        }
        self.ask_previous(topic);
        let watcher = Watcher {
            stream,
            topic,
            cursor,
            previous,
            chases: Vec::new(),
            is_ready: false,
            compacted: None,
        };
        self.watchers.insert(id, watcher);
        self.wake(id);
        id
    }

    fn open_topic(&mut self, range: &KeyRange) -> TopicId {
        let id = TopicId(self.next_id());
        let topic = Topic::new(range.clone(), self.eras.span(range), |slot| {
            Some(Queue::behind(slot, self.histories.get(&slot)?))
        });
        self.topics.insert(id, topic);
        self.by_range.insert(range.clone(), id);
        self.index.insert(range, id);
        id
    }

    /// Removes a watcher, and what only it needed.
    pub(crate) fn unwatch(&mut self, id: WatcherId) {
        let Some(watcher) = self.watchers.remove(&id) else {
            return;
        };
        for chase in watcher.chases {
            self.end_chase(chase.id);
        }
        self.chasing.remove(&id);
        let Some(topic) = self.topics.get_mut(&watcher.topic) else {
            return;
        };
        topic.watchers.remove(&id);
        topic.want_previous -= usize::from(watcher.previous);
        if topic.watchers.is_empty() {
            let range = topic.range.clone();
            self.topics.remove(&watcher.topic);
            self.by_range.remove(&range);
            self.index.remove(&range, watcher.topic);
            self.held.remove(&watcher.topic);
            self.turning.remove(&watcher.topic);
        }
    }

    /// Has the watcher looked at.
    fn wake(&mut self, id: WatcherId) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if !watcher.is_ready {
            let Some(ready) = self.streams.get_mut(&watcher.stream) else {
                return;
            };
            watcher.is_ready = true;
            ready.watchers.push_back(id);
        }
        self.signals.woken.insert(watcher.stream);
    }

    /// Those that wait for something that may have come with anything.
    fn wake_restless(&mut self) {
        for id in self.chasing.clone() {
            self.wake(id);
        }
        self.signals.woken.extend(&self.restless);
    }
}

/// A shared group, where a client can see something of it.
type Placed = Option<Arc<crate::event::PlacedGroup>>;
