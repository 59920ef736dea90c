//! The stores of a new topology, opened and asked, and what would move.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::StoreSlot;
use keyloom_topology::{Affected, Move, Moved, StoreSpec, Topology};
use tokio::time::timeout;

use super::{Reconfigurer, Refusal};
use crate::{
    bringup::{ask, clusters::one_store_per_cluster, next::NextStore},
    order::{StoreStanding, reserved_prefix},
    snapshot::ServingSnapshot,
};

/// How long a new store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A topology whose stores are open and have been asked.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) topology: Topology,
    /// In the order of the topology's stores.
    pub(super) stores: Vec<NextStore>,
    pub(super) moves: Vec<Move>,
    pub(super) affected: Affected,
}

impl Prepared {
    /// Whether nothing is different from what is served.
    pub(super) fn is_what_is_served(&self, snapshot: &ServingSnapshot) -> bool {
        let same_stores = self.stores.len() == snapshot.backends.len()
            && self
                .stores
                .iter()
                .zip(&snapshot.backends)
                .all(|(new, old)| new.name == old.name && Arc::ptr_eq(&new.store, &old.store));
        same_stores && self.topology.to_text() == snapshot.topology.to_text()
    }

    /// Whether keys route elsewhere.
    pub(super) fn moves_keys(&self) -> bool {
        !self.moves.is_empty()
    }

    pub(super) fn clusters(&self) -> BTreeSet<u64> {
        self.stores.iter().map(|store| store.cluster_id).collect()
    }

    /// What moved, as floors remember it.
    pub(super) fn moved(&self) -> Vec<Moved> {
        self.moves.iter().map(|each| each.what.clone()).collect()
    }
}

impl Reconfigurer {
    /// Opens the stores and asks those that are new or reached otherwise.
    pub(super) async fn prepare(
        &self,
        snapshot: &ServingSnapshot,
        topology: Topology,
    ) -> Result<Prepared, Refusal> {
        let mut stores = Vec::new();
        for (index, spec) in topology.stores().iter().enumerate() {
            stores.push(self.next_store(snapshot, spec, index == 0).await?);
        }
        let known = stand_ins(snapshot, &stores)?;
        // 0 is a store that has not answered since the start.
        let clusters = stores.iter().map(|store| store.cluster_id);
        let clusters: Vec<_> = clusters.map(|id| (id != 0).then_some(id)).collect();
        let (topology, same_as) = one_store_per_cluster(topology, &clusters, known);
        for (index, (store, same_as)) in stores.iter_mut().zip(same_as).enumerate() {
            store.stand_in(index, same_as);
        }
        let reserved = KeyRange::prefix(reserved_prefix());
        let topology = match snapshot.merged() {
            Some(_) => topology.with_reserved(Some(reserved)),
            None => topology,
        };
        let moves = snapshot.topology.diff(&topology);
        let bases = snapshot.topology.registry_prefixes();
        let affected = Affected::of(moves.iter().map(|each| &each.what), bases);
        Ok(Prepared {
            topology,
            stores,
            moves,
            affected,
        })
    }

    async fn next_store(
        &self,
        snapshot: &ServingSnapshot,
        spec: &StoreSpec,
        is_default: bool,
    ) -> Result<NextStore, Refusal> {
        let name = spec.name.clone();
        let opened = self.open.open(spec).await;
        let store = opened.map_err(|error| Refusal::Open {
            store: name.clone(),
            error,
        })?;
        let served = snapshot.backends.iter().find(|served| served.name == name);
        let next = |cluster_id, standing| NextStore {
            name: name.clone(),
            store: Arc::clone(&store),
            cluster_id,
            standing,
            traffic: served
                .map(|served| Arc::clone(&served.traffic))
                .unwrap_or_default(),
        };
        if let Some(same) = served.filter(|served| Arc::ptr_eq(&served.store, &store)) {
            return Ok(next(same.cluster_id, StoreStanding::Known(same.slot)));
        }
        let asked = (name.clone(), Arc::clone(&store));
        let refuses = ask::refuses_the_ledger(&asked);
        if is_default && let Some(why) = in_time(&name, refuses).await? {
            return Err(Refusal::NoLedger { name, why });
        }
        let answered = in_time(&name, ask::once(&asked)).await?;
        let (found, at) = (answered.cluster_id, answered.revision);
        let standing = match served {
            Some(served) if served.cluster_id != 0 && served.cluster_id != found => {
                return Err(Refusal::Stranger {
                    store: name,
                    known: served.cluster_id,
                    found,
                });
            }
            Some(served) => StoreStanding::Known(served.slot),
            None => match snapshot.merged() {
                Some(order) => order.standing(&name, found, at),
                None => StoreStanding::Known(StoreSlot::DEFAULT),
            },
        };
        Ok(next(found, standing))
    }
}

/// What a store answers that is not waited for as long as it likes.
async fn in_time<T>(
    name: &str,
    answer: impl Future<Output = Result<T, String>>,
) -> Result<T, Refusal> {
    let answer = timeout(PATIENCE, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
    answer.map_err(|error| Refusal::Unreachable {
        store: name.to_owned(),
        error,
    })
}

/// The cluster of each served store, and the store of the new topology that stands for it.
fn stand_ins(
    snapshot: &ServingSnapshot,
    stores: &[NextStore],
) -> Result<Vec<(u64, usize)>, Refusal> {
    let mut stand_ins = Vec::new();
    for known in snapshot.stores().filter(|known| known.cluster_id != 0) {
        match stores.iter().position(|store| store.name == known.name) {
            Some(at) => stand_ins.push((known.cluster_id, at)),
            None => {
                let mut stores = stores.iter();
                if let Some(left) = stores.find(|store| store.cluster_id == known.cluster_id) {
                    return Err(Refusal::Renamed {
                        store: known.name.clone(),
                        other: left.name.clone(),
                    });
                }
            }
        }
    }
    Ok(stand_ins)
}
