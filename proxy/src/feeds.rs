//! The hub at work: one task per store reads the store's own watch, one per chase catches a slow
//! or late watcher up; client streams are told when there is something for them.
//!
//! Invariants:
//! 1. What a store's watch delivers goes to the hub only after the ledger covers it, and, for the
//!    default store, after it is known which revisions are Keyloom's own ([`Merged::sequence`]).
//! 2. The hub's lock is held for one call, never across an await; the ledger's lock is taken inside
//!    it, never the other way round.
//! 3. A task ends with the token of [`Feeding`], whoever else holds the feeds.

mod chase;
mod follow;
mod late;
mod progress;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::Rpc;
use keyloom_hub::{Bounds, ChaseId, Feed, FeedError, Hub, Routes, StreamId, TakeError};
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_store::{Answers, CallError, Store};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, Semaphore},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    metrics::TopologyMetrics,
    order::{Answered, Merged, OrderError},
    snapshot::{ServingSnapshot, ServingStore},
};

/// How many revisions of a store the hub reads again at start, so that clients that come back to a
/// restarted Keyloom find what they missed.
const PRIMED: i64 = 1000;

/// Between two attempts to open a store's watch.
const PAUSE: Duration = Duration::from_millis(200);

/// Between two requests for progress on a watch that catches up; etcd looks at such watches every
/// 100 ms, and passes over requests that come before.
const ASK: Duration = Duration::from_millis(50);

/// How many chases read one store at once.
const CHASES: usize = 8;

/// What watches over several stores may take.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Between two looks at whether a watch that asked for it is to be told of its progress.
    pub progress_interval: Duration,
    /// Of each store's last events that are kept for watches that come back.
    pub history_bytes: usize,
    /// And so many revisions of each store at most.
    pub history_revisions: usize,
}

impl Default for WatchOptions {
    /// 5 s is what Kubernetes sets for its etcds; etcd's own default is 10 min.
    fn default() -> Self {
        Self {
            progress_interval: Duration::from_secs(5),
            history_bytes: 64 << 20,
            history_revisions: 200_000,
        }
    }
}

/// The feeds, which end with it.
#[derive(Debug)]
pub(crate) struct Feeding {
    pub(crate) feeds: Arc<Feeds>,
    _stop: DropGuard,
}

#[derive(Debug)]
pub(crate) struct Feeds {
    state: Mutex<State>,
    order: Arc<Merged>,
    followed: RwLock<BTreeMap<StoreSlot, Followed>>,
    /// Told when a store's watch has delivered something.
    delivered: Notify,
    metrics: TopologyMetrics,
    stop: CancellationToken,
}

/// A store that is followed. Changed when the topology is.
#[derive(Clone, Debug)]
struct Followed {
    member: ServingStore,
    /// What it had when it was first followed: nobody watched anything below.
    begun: StoreRev,
    chasing: Arc<Semaphore>,
    /// The store left the topology: what it has above is nobody's.
    until: Option<StoreRev>,
    /// Told when something of this changed.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    hub: Hub,
    streams: HashMap<StreamId, Arc<Notify>>,
    chases: HashMap<ChaseId, Arc<Notify>>,
    /// Of each store that is followed: its watch is to be opened anew.
    changed: HashMap<StoreSlot, Arc<Notify>>,
}

/// Why a store's watch ended.
#[derive(Debug, thiserror::Error)]
enum FeedEnd {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error("the store ended the watch: {0}")]
    Ended(String),
}

/// The routes of a snapshot, as the hub asks for them.
pub(crate) fn routes_of(snapshot: &ServingSnapshot) -> Routes {
    let floors = Arc::new(snapshot.floors.clone());
    Routes::new(snapshot.topology.clone(), snapshot.slots()).with_floors(floors)
}

impl Feeding {
    /// Begins to follow every store.
    pub(crate) fn start(
        order: &Arc<Merged>,
        snapshot: &ServingSnapshot,
        options: &WatchOptions,
        metrics: TopologyMetrics,
        stop: &CancellationToken,
    ) -> Self {
        let stop = stop.child_token();
        let bounds = Bounds {
            history_bytes: options.history_bytes,
            history_groups: options.history_revisions,
            ..Bounds::default()
        };
        let primed = PRIMED.min(i64::try_from(options.history_revisions).unwrap_or(PRIMED));
        let frontiers = snapshot.stores().map(|member| {
            let primed = order.frontier(member.slot).get() - primed;
            (
                member.slot,
                StoreRev::new(primed.max(StoreRev::FIRST.get())),
            )
        });
        let state = State {
            hub: Hub::new(routes_of(snapshot), bounds, frontiers),
            streams: HashMap::new(),
            chases: HashMap::new(),
            changed: HashMap::new(),
        };
        let feeds = Arc::new(Feeds {
            state: Mutex::new(state),
            order: Arc::clone(order),
            followed: RwLock::default(),
            delivered: Notify::new(),
            metrics,
            stop: stop.clone(),
        });
        for member in snapshot.stores() {
            feeds.follow(member.clone(), order.frontier(member.slot));
        }
        Self {
            feeds,
            _stop: stop.drop_guard(),
        }
    }
}

impl Feeds {
    /// Follows a store from now on.
    fn follow(self: &Arc<Self>, member: ServingStore, begun: StoreRev) {
        let slot = member.slot;
        let followed = Followed {
            member,
            begun,
            chasing: Arc::new(Semaphore::new(CHASES)),
            until: None,
            changed: Arc::default(),
        };
        let changed = Arc::clone(&followed.changed);
        self.state.lock().changed.insert(slot, changed);
        self.followed.write().insert(slot, followed);
        tokio::spawn(follow::follow(Arc::clone(self), slot));
    }

    /// Follows the stores of another snapshot: new ones from where the ledger has them, those that
    /// are reached otherwise by their new way, and those that left up to where the ledger has them.
    pub(crate) fn refollow(self: &Arc<Self>, snapshot: &ServingSnapshot) {
        let order = &self.order;
        let mut begin = Vec::new();
        {
            let mut followed = self.followed.write();
            for member in snapshot.stores() {
                match followed.get_mut(&member.slot) {
                    Some(old) => {
                        let same = Arc::ptr_eq(&old.member.store, &member.store);
                        if !same || old.until.is_some() {
                            (old.member, old.until) = (member.clone(), None);
                            old.changed.notify_waiters();
                        }
                    }
                    None => begin.push(member.clone()),
                }
            }
            let stays = |slot| snapshot.stores().any(|member| member.slot == slot);
            for (slot, left) in followed.iter_mut().filter(|(slot, _)| !stays(**slot)) {
                left.until.get_or_insert_with(|| order.frontier(*slot));
                left.changed.notify_waiters();
            }
        }
        for member in begin {
            let begun = order.frontier(member.slot);
            self.with(|hub, _| hub.add_store(member.slot, begun));
            self.follow(member, begun);
        }
    }

    /// The stores whose watches are read.
    pub(crate) fn read_from(&self) -> Vec<Arc<dyn Store>> {
        let followed = self.followed.read();
        let stores = followed.values().map(|each| Arc::clone(&each.member.store));
        stores.collect()
    }

    fn followed(&self, slot: StoreSlot) -> Option<Followed> {
        self.followed.read().get(&slot).cloned()
    }

    /// One call to the hub, and whatever it asks for.
    pub(crate) fn with<T>(self: &Arc<Self>, call: impl FnOnce(&mut Hub, &Merged) -> T) -> T {
        let mut state = self.state.lock();
        let result = call(&mut state.hub, &self.order);
        let signals = state.hub.signals();
        let resumed = signals.resumed.iter().filter_map(|id| state.chases.get(id));
        let woken = signals.woken.iter().filter_map(|id| state.streams.get(id));
        for notify in woken.chain(resumed) {
            notify.notify_one();
        }
        for need in signals.needs {
            let notify = Arc::new(Notify::new());
            state.chases.insert(need.chase, Arc::clone(&notify));
            let chase = chase::chase(Arc::clone(self), need, notify);
            tokio::spawn(chase);
        }
        for changed in signals
            .reopen
            .iter()
            .filter_map(|slot| state.changed.get(slot))
        {
            changed.notify_waiters();
        }
        result
    }

    /// Asks the hub until it has an answer: now, and again whenever a store's watch has delivered
    /// something.
    pub(crate) async fn until<T>(
        self: &Arc<Self>,
        mut ask: impl FnMut(&mut Hub, &Merged) -> Option<T>,
    ) -> T {
        loop {
            let mut delivered = std::pin::pin!(self.delivered.notified());
            delivered.as_mut().enable();
            if let Some(answer) = self.with(&mut ask) {
                return answer;
            }
            delivered.await;
        }
    }

    /// Has a client stream told when there is something for it.
    pub(crate) fn tell(&self, stream: StreamId, notify: Arc<Notify>) {
        self.state.lock().streams.insert(stream, notify);
    }

    pub(crate) fn forget(&self, stream: StreamId) {
        self.state.lock().streams.remove(&stream);
    }

    /// Opens the watch of a feed.
    async fn open(&self, member: &ServingStore, feed: &Feed) -> Result<Answers, FeedEnd> {
        self.order.admit(member.slot)?;
        // The watch is open as long as its requests are not at an end.
        let asks = feed.is_of_range();
        let more = stream::unfold((), move |()| async move {
            if !asks {
                return std::future::pending().await;
            }
            sleep(ASK).await;
            Some((Feed::ask(), ()))
        });
        let requests = stream::iter([feed.request()]).chain(more);
        Ok(member.store.stream(Rpc::Watch, requests.boxed()).await?)
    }

    /// Believes only the cluster that joined the ledger.
    fn recognise(&self, member: &ServingStore, cluster_id: u64) -> Result<(), OrderError> {
        if cluster_id == member.cluster_id {
            return Ok(());
        }
        let error = OrderError::Stranger {
            known: member.cluster_id,
            answered: cluster_id,
        };
        self.order.shut_out(member.slot, error.clone());
        Err(error)
    }

    /// Waits until the ledger covers a revision that the hub is about to take.
    async fn sequence_delivered(&self, slot: StoreSlot, to: StoreRev) -> Result<(), OrderError> {
        let answered = answered(slot, to, true);
        self.order.sequence(answered).await.map(drop)
    }

    /// Waits until the ledger covers a revision.
    async fn sequence(&self, slot: StoreSlot, revision: StoreRev) -> Result<(), OrderError> {
        let answered = answered(slot, revision, false);
        self.order.sequence(answered).await.map(drop)
    }
}

fn answered(slot: StoreSlot, revision: StoreRev, is_delivery: bool) -> Answered {
    Answered {
        slot,
        revision,
        wrote: false,
        known: None,
        is_delivery,
    }
}
