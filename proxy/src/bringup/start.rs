//! The start of an instance: the first topology, with the order native over one store, or with the
//! ledger, new or restored.

mod accepted;
mod backup;
mod returning;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use keyloom_environment::Random;
use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{AddStoreError, Ledger, Restored, StoreRev, StoreSlot};
use keyloom_store::Store;
use keyloom_topology::Topology;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    accepted::{Accepted, AcceptedError},
    ask::{self, AskedStore},
    clusters::one_store_per_cluster,
    hidden::hidden_keys,
    next::{NextStore, serving, standings},
};
use crate::{
    identity::Identity,
    order::{
        self, Keeper, KeeperStart, Keeping, LeadershipOptions, LedgerError, Merged, NotEnrolled,
        NotWritten, Order, PersistedLedger, StoreAtStart, StoreStanding, TakenLeadership, enroll,
        reserved_prefix, start_keeper,
    },
    snapshot::ServingSnapshot,
    stores::OpenStores,
};
use accepted::FirstTopology;
use returning::Returning;

/// How long a start waits for a store that the ledger knows; then the others serve without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why an instance cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BringUpError {
    /// The ledger and the stores do not fit together.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("store \"{name}\" cannot join the ledger: {error}")]
    Join { name: String, error: AddStoreError },
    #[error(transparent)]
    Accepted(#[from] AcceptedError),
    /// It may still hold keys.
    #[error(
        "store \"{store}\" is in the accepted topology but not in the file, and Keyloom cannot open it \
         to see whether it still holds keys: {error}. Put its backend back into the file"
    )]
    LeftOut { store: String, error: String },
    #[error("the topology has no store")]
    NoStore,
    #[error("store \"{name}\" cannot be the default store: {why}")]
    NoLedger { name: String, why: &'static str },
    /// The ledger could not be written.
    #[error("the ledger cannot be written to the default store: {0}")]
    Write(String),
}

impl From<NotEnrolled> for BringUpError {
    fn from(NotEnrolled { store, error }: NotEnrolled) -> Self {
        Self::Join { name: store, error }
    }
}

/// What a start is made of.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) topology: Topology,
    /// In the order of the topology's stores.
    pub(crate) stores: Vec<(String, Arc<dyn Store>)>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) leadership: LeadershipOptions,
    pub(crate) open: Arc<dyn OpenStores>,
    pub(crate) stop: CancellationToken,
}

/// What the services begin with.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) snapshot: ServingSnapshot,
    pub(crate) identity: Arc<Identity>,
    pub(crate) keeper: Option<(Keeper, Keeping)>,
}

/// Takes the leadership, restores or starts the order, and persists what comes out. Where another instance
/// does so at the same time (both found no ledger yet, for one), the slower one waits behind it.
pub(crate) async fn start(start: Start) -> Result<Started, BringUpError> {
    loop {
        if let Some(started) = attempt(start.clone()).await? {
            return Ok(started);
        }
        info!("another instance wrote the ledger first; waiting until it ends");
    }
}

/// `None` where another instance was faster; nothing was served and no task is left.
async fn attempt(start: Start) -> Result<Option<Started>, BringUpError> {
    let first = start.stores.first().cloned().ok_or(BringUpError::NoStore)?;
    // Before it is asked for what it holds: a kine is written to for that.
    if let Some(why) = ask::until_it_says_whether_it_refuses_the_ledger(&first).await {
        let name = first.0;
        return Err(BringUpError::NoLedger { name, why });
    }
    let default = ask::until_answered(first).await;
    if default.records.is_empty()
        && let Some(native) = without_ledger(&start, &default).await
    {
        return Ok(Some(native));
    }
    let taken = order::take(&default.store, start.random.next(), start.leadership)
        .await
        .map_err(LedgerError::from)?;
    // Only now nobody else writes: what the stores say from here on is what there is.
    let asked = ask_all(&start.stores, taken.at > StoreRev::new(0)).await;
    let first = accepted::first(start.topology.clone(), asked, &start.open).await?;
    let record = Accepted::fitting(&first.topology, first.floors.clone())?;
    let placed = place(first, &taken).await?;
    let order = Merged::new(placed.persisted.ledger);
    if !placed.is_kept {
        order.accept(record.encode());
    }
    let order = Arc::new(order);
    let kept = KeeperStart {
        order: Arc::clone(&order),
        store: default.store,
        mark: placed.persisted.mark,
        after: placed.persisted.after,
        nonce: start.random.next(),
        leadership: start.leadership,
    };
    let (keeper, task) = match start_keeper(kept, start.stop.clone()).await {
        Ok(started) => started,
        Err(NotWritten::Overtaken) => return Ok(None),
        Err(NotWritten::Failed(error)) => return Err(BringUpError::Write(error)),
    };
    let returning = Returning {
        order: &order,
        keeper: &keeper,
        stop: start.stop,
    };
    returning.of(&placed.asked, &placed.slots);
    let stores = serving(&placed.stores, &placed.slots);
    let mut snapshot = ServingSnapshot::first(placed.topology, stores, Order::Merged(order));
    snapshot.floors = record.floors;
    Ok(Some(Started {
        snapshot,
        identity: placed.identity,
        keeper: Some((keeper, task)),
    }))
}

/// The start over one store, or over one that alone is served for now; `None` where several are.
async fn without_ledger(start: &Start, default: &AskedStore) -> Option<Started> {
    let topology = start.topology.clone();
    if start.stores.len() == 1 {
        return Some(native(topology, std::slice::from_ref(default)));
    }
    let asked = start.stores.iter().cloned().map(ask::until_answered);
    let asked = join_all(asked).await;
    if asked
        .iter()
        .all(|store| store.cluster_id == default.cluster_id)
    {
        return Some(native(topology, &asked));
    }
    let (routed, _) = one_store_per_cluster(topology, &clusters(&asked), []);
    let alone = alone_for_now(&routed, default).await?;
    Some(native(alone, std::slice::from_ref(default)))
}

/// As long as there is no ledger every key is the default store's. Where the topology would lead
/// some of those elsewhere, no client would see them any more: then the default store is served as
/// before, and the file is refused as any other that hides keys.
async fn alone_for_now(topology: &Topology, default: &AskedStore) -> Option<Topology> {
    let alone = topology.default_alone()?;
    let moves = alone.diff(topology);
    let (both, store) = ((&alone, topology), default.store.as_ref());
    let hidden = || hidden_keys(both, &moves, &default.name, store);
    let hidden = ask::until_ok(&default.name, hidden).await;
    (hidden.count > 0).then_some(alone)
}

fn native(topology: Topology, asked: &[AskedStore]) -> Started {
    info!("serving one store; revisions are its own");
    let first = asked.first();
    let (cluster_id, raft_term) = first.map_or((0, 0), |first| (first.cluster_id, first.raft_term));
    let (topology, same_as) = one_store_per_cluster(topology, &clusters(asked), []);
    let slots = vec![StoreSlot::DEFAULT; asked.len()];
    let known = |_: &AskedStore| StoreStanding::Known(StoreSlot::DEFAULT);
    let stores = next_stores(asked, &same_as, known);
    Started {
        snapshot: ServingSnapshot::first(topology, serving(&stores, &slots), Order::Native),
        identity: Arc::new(Identity::new(cluster_id, raft_term)),
        keeper: None,
    }
}

/// Asks every store. Where there is a ledger, a store other than the default one may stay away.
async fn ask_all(stores: &[(String, Arc<dyn Store>)], has_ledger: bool) -> Vec<AskedStore> {
    let asked = stores
        .iter()
        .cloned()
        .enumerate()
        .map(|(index, store)| async move {
            if index == 0 || !has_ledger {
                return ask::until_answered(store).await;
            }
            let absent = AskedStore::absent(&store);
            timeout(PATIENCE, ask::until_answered(store))
                .await
                .unwrap_or(absent)
        });
    join_all(asked).await
}

/// The first topology over stores that have their places in the ledger.
struct Placed {
    topology: Topology,
    asked: Vec<AskedStore>,
    stores: Vec<NextStore>,
    /// In the order of the stores.
    slots: Vec<StoreSlot>,
    identity: Arc<Identity>,
    persisted: PersistedLedger,
    /// Whether the topology is written already.
    is_kept: bool,
}

/// Gives every store its place in the ledger, a new one or the restored one.
async fn place(first: FirstTopology, taken: &TakenLeadership) -> Result<Placed, BringUpError> {
    let FirstTopology {
        topology,
        mut asked,
        is_kept,
        ..
    } = first;
    let restored = restored(&mut asked, taken).await?;
    let known = |asked: &AskedStore| {
        let ledger = restored.as_ref().map(|restored| &restored.ledger);
        ledger.is_some_and(|ledger| ledger.slot(&asked.name).is_some())
    };
    let stand_ins = asked
        .iter()
        .enumerate()
        .filter(|(_, asked)| asked.answered && known(asked))
        .map(|(index, asked)| (asked.cluster_id, index));
    let stand_ins: Vec<_> = stand_ins.collect();
    let (topology, same_as) = one_store_per_cluster(topology, &clusters(&asked), stand_ins);
    let default = asked.first().ok_or(BringUpError::NoStore)?;
    let identity = Arc::new(Identity::new(default.cluster_id, default.raft_term));
    let at_start: Vec<_> = asked
        .iter()
        .zip(&same_as)
        .enumerate()
        .map(at_start)
        .collect();
    let mut persisted = match restored {
        Some(mut restored) => {
            backup::look(&mut restored, &asked).await;
            order::recover_ledger(restored, &at_start, taken)?
        }
        None => order::new_ledger(&at_start),
    };
    let standing = |asked: &AskedStore| standing(&persisted.ledger, asked);
    let stores = next_stores(&asked, &same_as, standing);
    let slots = enroll(&mut persisted.ledger, &standings(&stores))?;
    Ok(Placed {
        topology: topology.with_reserved(Some(KeyRange::prefix(reserved_prefix()))),
        asked,
        stores,
        slots,
        identity,
        persisted,
        is_kept,
    })
}

fn standing(ledger: &Ledger, asked: &AskedStore) -> StoreStanding {
    StoreStanding::of(ledger, &asked.name, asked.cluster_id, asked.revision)
}

fn clusters(asked: &[AskedStore]) -> Vec<Option<u64>> {
    let cluster = |asked: &AskedStore| asked.answered.then_some(asked.cluster_id);
    asked.iter().map(cluster).collect()
}

fn at_start<'a>((index, (asked, same_as)): (usize, (&'a AskedStore, &usize))) -> StoreAtStart<'a> {
    StoreAtStart {
        name: &asked.name,
        cluster_id: asked.cluster_id,
        at: asked.answered.then_some(asked.revision),
        is_alias: *same_as != index,
    }
}

fn next_stores(
    asked: &[AskedStore],
    same_as: &[usize],
    standing: impl Fn(&AskedStore) -> StoreStanding,
) -> Vec<NextStore> {
    let stores = asked.iter().zip(same_as).enumerate();
    let stores = stores.map(|(index, (asked, same_as))| {
        let mut store = NextStore {
            name: asked.name.clone(),
            store: Arc::clone(&asked.store),
            cluster_id: asked.cluster_id,
            standing: standing(asked),
            traffic: Arc::default(),
        };
        store.stand_in(index, *same_as);
        store
    });
    stores.collect()
}

/// The ledger as it was written, if there is one; absent stores are given the cluster that it
/// knows of them, and one that it does not know is waited for.
async fn restored(
    asked: &mut [AskedStore],
    taken: &TakenLeadership,
) -> Result<Option<Restored>, BringUpError> {
    if taken.at == StoreRev::new(0) {
        return Ok(None);
    }
    let records = asked.first().map(|default| default.records.as_slice());
    let restored = order::restore(records.unwrap_or_default(), taken)?;
    for absent in asked.iter_mut().filter(|asked| !asked.answered) {
        let slot = restored.ledger.slot(&absent.name);
        match slot.and_then(|slot| restored.ledger.store(slot)) {
            Some(known) => absent.cluster_id = known.cluster_id,
            None => {
                let again = (absent.name.clone(), Arc::clone(&absent.store));
                *absent = ask::until_answered(again).await;
            }
        }
    }
    Ok(Some(restored))
}
