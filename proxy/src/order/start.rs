//! The order at start: native with one store, or the ledger, new or restored.

mod accepted;
mod backup;
mod returning;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use keyloom_environment::Random;
use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{
    AddStoreError, HEAD, Ledger, Mark, Order as Recovered, RecoverError, Recovery, RestoreError,
    Restored, StoreRev, StoreSlot, StoreStart, recover,
};
use keyloom_store::Store;
use keyloom_topology::{StoreIndex, Topology};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Order,
    keeper::{self, Keeper, Keeping, NotWritten, record_of, reserved_prefix},
    leadership::{self, LeadershipOptions, Taken},
    merged::Merged,
};
use crate::{
    identity::Identity,
    probe::{self, Found},
    reload::{Accepted, AcceptedError, OpenStores, hidden_keys},
    snapshot::{Member, ServingSnapshot},
};
use returning::Returning;

/// How long a start waits for a store that the ledger knows; then the others serve without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why the ledger and the stores do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The ledger in the default store cannot be used as it is.
    #[error("the ledger in the default store cannot be read")]
    Restore(#[from] RestoreError),
    /// A store lost revisions.
    #[error(
        "store \"{name}\" is at revision {found}, below {known} which the ledger has of it: a store \
         that was restored or replaced cannot rejoin under its old name"
    )]
    WentBack {
        name: String,
        known: StoreRev,
        found: StoreRev,
    },
    #[error("the ledger cannot be recovered")]
    Recover(#[source] RecoverError),
    /// Another cluster answers under a name that the ledger knows.
    #[error(
        "store \"{name}\" was cluster {known:x} when it joined, and cluster {found:x} answers now: \
         restore its endpoint, or give the new cluster a name of its own"
    )]
    Stranger {
        name: String,
        known: u64,
        found: u64,
    },
    /// Keys of that store would be lost to clients.
    #[error(
        "store \"{0}\" is in the ledger and not in the topology: its keys would vanish. Put its \
         backend back"
    )]
    Missing(String),
    #[error("store \"{name}\" cannot join the ledger: {error}")]
    Join { name: String, error: AddStoreError },
    #[error(transparent)]
    Accepted(#[from] AcceptedError),
    /// It may still hold keys.
    #[error(
        "store \"{store}\" is in the accepted topology and no longer in the file, and it cannot be \
         opened to see whether it still holds keys: {error}. Put its backend back"
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

/// What the order begins with.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
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
pub(crate) struct Begun {
    pub(crate) snapshot: ServingSnapshot,
    pub(crate) identity: Arc<Identity>,
    pub(crate) keeper: Option<(Keeper, Keeping)>,
}

/// Takes the leadership, restores or starts the order, and persists what comes out. Where another instance
/// does so at the same time (both found no ledger yet, for one), the slower one waits behind it.
pub(crate) async fn begin(begin: Begin) -> Result<Begun, BeginError> {
    loop {
        if let Some(begun) = attempt(begin.clone()).await? {
            return Ok(begun);
        }
        info!("another instance wrote the ledger first; waiting behind it");
    }
}

/// `None` where another instance was faster; nothing was served and no task is left.
async fn attempt(begin: Begin) -> Result<Option<Begun>, BeginError> {
    let Begin {
        topology,
        stores,
        random,
        leadership,
        open,
        stop,
    } = begin;
    let first = stores.first().cloned().ok_or(BeginError::NoStore)?;
    // Before it is asked for what it holds: a kine is written to for that.
    if let Some(why) = probe::until_it_says_whether_it_refuses_the_ledger(&first).await {
        let name = first.0;
        return Err(BeginError::NoLedger { name, why });
    }
    let default = probe::until_answered(first).await;
    if default.records.is_empty() && stores.len() == 1 {
        return Ok(Some(native(topology, vec![default])));
    }
    if default.records.is_empty() {
        let found = join_all(stores.iter().cloned().map(probe::until_answered)).await;
        let is_default = |found: &Found| found.cluster_id == default.cluster_id;
        if found.iter().all(is_default) {
            return Ok(Some(native(topology, found)));
        }
        let (routed, _) = one_store_per_cluster(topology.clone(), found, |_| false);
        if let Some(alone) = alone_for_now(&routed, &default).await {
            return Ok(Some(native(alone, vec![default])));
        }
    }
    let taken = leadership::take(&default.store, random.next(), leadership).await;
    // Only now nobody else writes: what the stores say from here on is what there is.
    let found = ask_all(stores, taken.at > StoreRev::new(0)).await;
    let served = accepted::served(topology, found, &open).await?;
    let (topology, mut found) = (served.topology, served.found);
    let record = Accepted::of(&topology, served.floors.clone());
    if !record.fits() {
        return Err(AcceptedError::TooLarge.into());
    }
    let restored = restored(&mut found, &taken).await?;
    let is_known = |name: &str| {
        let ledger = restored.as_ref().map(|restored| &restored.ledger);
        ledger.is_some_and(|ledger| ledger.slot(name).is_some())
    };
    let (topology, found) = one_store_per_cluster(topology, found, is_known);
    let identity = identity_of(&found)?;
    let placed = match restored {
        Some(mut restored) => {
            backup::look(&mut restored, &found).await;
            recovered(restored, &found, &taken)?
        }
        None => start(&found),
    };
    let topology = topology.with_reserved(Some(KeyRange::prefix(reserved_prefix())));
    let merged = Merged::new(placed.ledger);
    if !served.is_kept {
        merged.accept(record.encode());
    }
    let order = Arc::new(Order::Merged(Box::new(merged)));
    let members = members(&found, &placed.slots);
    let mut snapshot = ServingSnapshot::begun(topology, members, Arc::clone(&order));
    snapshot.floors = served.floors;
    let kept = keeper::Start {
        order: Arc::clone(&order),
        store: default.store,
        mark: placed.mark,
        after: placed.after,
        nonce: random.next(),
        leadership,
    };
    let (keeper, task) = match keeper::start(kept, stop.clone()).await {
        Ok(started) => started,
        Err(NotWritten::Overtaken) => return Ok(None),
        Err(NotWritten::Failed(error)) => return Err(BeginError::Write(error)),
    };
    let returning = Returning {
        order: &order,
        keeper: &keeper,
        stop,
    };
    returning.of(&found, &placed.slots);
    Ok(Some(Begun {
        snapshot,
        identity,
        keeper: Some((keeper, task)),
    }))
}

/// As long as there is no ledger every key is the default store's. Where the topology would lead
/// some of those elsewhere, no client would see them any more: then the default store is served as
/// before, and the file is refused as any other that hides keys.
async fn alone_for_now(topology: &Topology, default: &Found) -> Option<Topology> {
    let alone = topology.default_alone()?;
    let moves = alone.diff(topology);
    let (both, store) = ((&alone, topology), default.store.as_ref());
    let hidden = || hidden_keys(both, &moves, &default.name, store);
    let hidden = probe::until_ok(&default.name, hidden).await;
    (hidden.count > 0).then_some(alone)
}

fn native(topology: Topology, found: Vec<Found>) -> Begun {
    info!("one store: revisions are its own");
    let (topology, found) = one_store_per_cluster(topology, found, |_| false);
    let slots = vec![StoreSlot::DEFAULT; found.len()];
    let first = found.first();
    let (cluster_id, term) = first.map_or((0, 0), |found| (found.cluster_id, found.raft_term));
    Begun {
        snapshot: ServingSnapshot::begun(
            topology,
            members(&found, &slots),
            Arc::new(Order::Native),
        ),
        identity: Arc::new(Identity::new(cluster_id, term)),
        keeper: None,
    }
}

/// Asks every store. Where there is a ledger, a store other than the default one may stay away.
async fn ask_all(stores: Vec<(String, Arc<dyn Store>)>, has_ledger: bool) -> Vec<Found> {
    let asked = stores
        .into_iter()
        .enumerate()
        .map(|(index, store)| async move {
            if index == 0 || !has_ledger {
                return probe::until_answered(store).await;
            }
            let absent = Found::absent(&store);
            timeout(PATIENCE, probe::until_answered(store))
                .await
                .unwrap_or(absent)
        });
    join_all(asked).await
}

fn identity_of(found: &[Found]) -> Result<Arc<Identity>, BeginError> {
    let first = found.first().ok_or(BeginError::NoStore)?;
    Ok(Arc::new(Identity::new(first.cluster_id, first.raft_term)))
}

fn members(found: &[Found], slots: &[StoreSlot]) -> Vec<Member> {
    let members = found.iter().zip(slots).enumerate();
    members
        .map(|(index, (found, slot))| Member {
            is_alias: found.same_as != index,
            name: found.name.clone(),
            store: Arc::clone(&found.store),
            slot: *slot,
            cluster_id: found.cluster_id,
            traffic: Arc::default(),
        })
        .collect()
}

/// Backends on one cluster are one store: they share its revisions. The one that the ledger knows
/// stands for the others, wherever it is in the file.
fn one_store_per_cluster(
    topology: Topology,
    mut found: Vec<Found>,
    is_known: impl Fn(&str) -> bool,
) -> (Topology, Vec<Found>) {
    let mut first_of: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, found) in found.iter().enumerate() {
        if found.answered && is_known(&found.name) {
            first_of.entry(found.cluster_id).or_insert(index);
        }
    }
    let mut same = Vec::new();
    for (index, found) in found.iter_mut().enumerate() {
        found.same_as = match found.answered {
            true => *first_of.entry(found.cluster_id).or_insert(index),
            false => index,
        };
        if found.same_as != index {
            warn!(
                store = found.name,
                "this backend and one before it are one cluster"
            );
            same.push((store_index(found.same_as), store_index(index)));
        }
    }
    (topology.with_same_store(&same), found)
}

/// A topology has fewer stores than an index can count.
fn store_index(index: usize) -> StoreIndex {
    StoreIndex(u16::try_from(index).unwrap_or(u16::MAX))
}

/// The stores that are not another one under a second name.
fn distinct(found: &[Found]) -> impl Iterator<Item = &Found> {
    found
        .iter()
        .enumerate()
        .filter(|(index, found)| found.same_as == *index)
        .map(|(_, found)| found)
}

/// A ledger over stores, and what of it is persisted.
struct Placed {
    ledger: Ledger,
    mark: Mark,
    /// The revision of the last own write.
    after: StoreRev,
    /// In the order of the stores.
    slots: Vec<StoreSlot>,
}

/// Rule 4: the ledger starts at the largest revision that a store has.
fn start(found: &[Found]) -> Placed {
    let stores: Vec<_> = distinct(found)
        .map(|found| StoreStart {
            name: found.name.clone(),
            cluster_id: found.cluster_id,
            at: found.revision,
        })
        .collect();
    let ledger = Ledger::start(&stores);
    info!(
        head = ledger.head().get(),
        stores = found.len(),
        "a new ledger"
    );
    let slots = slots_of(&ledger, found);
    Placed {
        ledger,
        mark: Mark::new(),
        after: StoreRev::new(0),
        slots,
    }
}

/// The ledger as it was written, if there is one; absent stores are given the cluster that it
/// knows of them, and one that it does not know is waited for.
async fn restored(found: &mut [Found], taken: &Taken) -> Result<Option<Restored>, BeginError> {
    if taken.at == StoreRev::new(0) {
        return Ok(None);
    }
    let kvs = found
        .first()
        .map(|found| found.records.as_slice())
        .unwrap_or_default();
    let records: Vec<_> = kvs
        .iter()
        .filter_map(|kv| Some((record_of(&kv.key)?, &kv.value[..])))
        .collect();
    let head = kvs.iter().find(|kv| record_of(&kv.key) == Some(HEAD));
    let head = head.map_or(StoreRev::new(0), |kv| StoreRev::new(kv.mod_revision));
    let mut restored = Ledger::restore(&records, head)?;
    // Taking the leadership is a write of Keyloom's own that no record knows of; so are those before it
    // that were never served from.
    let takings = taken.before.iter().chain([&taken.at]).copied();
    restored.hidden.extend(takings.filter(|at| *at > head));
    restored.hidden.dedup();
    info!(
        head = restored.ledger.head().get(),
        clean = restored.clean,
        "the ledger is restored"
    );
    for absent in found.iter_mut().filter(|found| !found.answered) {
        let slot = restored.ledger.slot(&absent.name);
        match slot.and_then(|slot| restored.ledger.store(slot)) {
            Some(store) => absent.cluster_id = store.cluster_id,
            None => {
                let asked = (absent.name.clone(), Arc::clone(&absent.store));
                *absent = probe::until_answered(asked).await;
            }
        }
    }
    Ok(Some(restored))
}

fn recovered(restored: Restored, found: &[Found], taken: &Taken) -> Result<Placed, BeginError> {
    fits(&restored.ledger, found)?;
    let observed: Vec<_> = distinct(found)
        .filter(|found| found.answered)
        .filter_map(|found| Some((restored.ledger.slot(&found.name)?, found.revision)))
        .collect();
    let names: Vec<_> = restored
        .ledger
        .stores()
        .map(|(slot, store)| (slot, store.name.clone()))
        .collect();
    let recovery = recover(restored, &observed).map_err(|error| not_recovered(error, names))?;
    report(&recovery);
    let (mut ledger, mark) = (recovery.ledger, recovery.mark);
    for found in distinct(found).filter(|found| found.answered) {
        if ledger.slot(&found.name).is_none() {
            let (name, cluster_id) = (&found.name, found.cluster_id);
            ledger
                .add_store(name, cluster_id, found.revision)
                .map_err(|error| BeginError::Join {
                    name: name.clone(),
                    error,
                })?;
            info!(store = name, "a store joined the ledger");
        }
    }
    let slots = slots_of(&ledger, found);
    Ok(Placed {
        ledger,
        mark,
        after: taken.at,
        slots,
    })
}

fn not_recovered(error: RecoverError, names: Vec<(StoreSlot, String)>) -> BeginError {
    let RecoverError::WentBack(back) = error else {
        return BeginError::Recover(error);
    };
    let name = names.into_iter().find(|(slot, _)| *slot == back.slot);
    BeginError::WentBack {
        name: name.map_or_else(|| back.slot.to_string(), |(_, name)| name),
        known: back.known,
        found: back.found,
    }
}

/// Whether the stores are those that the ledger knows.
fn fits(ledger: &Ledger, found: &[Found]) -> Result<(), BeginError> {
    for (_, store) in ledger.stores().filter(|(_, store)| !store.retired) {
        let Some(found) = found.iter().find(|found| found.name == store.name) else {
            return Err(BeginError::Missing(store.name.clone()));
        };
        if found.answered && store.cluster_id != 0 && store.cluster_id != found.cluster_id {
            return Err(BeginError::Stranger {
                name: store.name.clone(),
                known: store.cluster_id,
                found: found.cluster_id,
            });
        }
    }
    Ok(())
}

fn report(recovery: &Recovery) {
    let ledger = &recovery.ledger;
    let head = ledger.head().get();
    let names = |slots: &[StoreSlot]| -> Vec<String> {
        slots
            .iter()
            .filter_map(|slot| ledger.store(*slot))
            .map(|store| store.name.clone())
            .collect()
    };
    match recovery.order {
        Recovered::Lost { .. } => warn!(
            head, stores = ?names(&recovery.raised),
            "the end was not clean and the order of the last writes is lost: readers of these \
             stores list again"
        ),
        order => info!(?order, head, "the order is known"),
    }
    if !recovery.absent.is_empty() {
        warn!(stores = ?names(&recovery.absent), "these stores do not answer; the others serve");
    }
}

fn slots_of(ledger: &Ledger, found: &[Found]) -> Vec<StoreSlot> {
    found
        .iter()
        .filter_map(|same| found.get(same.same_as))
        .map(|store| ledger.slot(&store.name).unwrap_or(StoreSlot::DEFAULT))
        .collect()
}
