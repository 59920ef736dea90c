//! The stores of a new topology, opened and asked, and what would move.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_store::Store;
use keyloom_topology::{Affected, Move, Moved, StoreIndex, StoreSpec, Topology};
use tokio::time::timeout;

use super::{Reconfigurer, Refusal};
use crate::{
    order::reserved_prefix,
    probe,
    snapshot::{Member, ServingSnapshot},
};

/// How long a new store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a store is to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is served already.
    Served(StoreSlot),
    /// It was served before, and stands at this revision.
    Returns(StoreSlot, StoreRev),
    /// It is new, and stands at this revision.
    Joins(StoreRev),
}

/// One store of the new topology.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) cluster_id: u64,
    pub(super) standing: Standing,
    /// The first backend that is this cluster, most often the store itself.
    pub(super) same_as: usize,
    /// As it is served now.
    served: Option<Member>,
}

/// A topology that can be looked at.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) topology: Topology,
    /// In the order of the topology's stores.
    pub(super) stores: Vec<Candidate>,
    pub(super) moves: Vec<Move>,
    pub(super) affected: Affected,
}

impl Prepared {
    /// Whether nothing is different from what is served.
    pub(super) fn is_what_is_served(&self, snapshot: &ServingSnapshot) -> bool {
        let same_stores = self.stores.len() == snapshot.members.len()
            && self
                .stores
                .iter()
                .zip(&snapshot.members)
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

impl Candidate {
    /// The store as a member of the snapshot in which it has this slot.
    pub(super) fn member(&self, slot: StoreSlot, is_alias: bool) -> Member {
        Member {
            name: self.name.clone(),
            store: Arc::clone(&self.store),
            slot,
            is_alias,
            cluster_id: self.cluster_id,
            traffic: self
                .served
                .as_ref()
                .map(|served| Arc::clone(&served.traffic))
                .unwrap_or_default(),
        }
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
            stores.push(self.candidate(snapshot, spec, index == 0).await?);
        }
        let topology = one_store_per_cluster(topology, snapshot, &mut stores)?;
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

    async fn candidate(
        &self,
        snapshot: &ServingSnapshot,
        spec: &StoreSpec,
        is_default: bool,
    ) -> Result<Candidate, Refusal> {
        let name = spec.name.clone();
        let opened = self.open.open(spec).await;
        let store = opened.map_err(|error| Refusal::Open {
            store: name.clone(),
            error,
        })?;
        let served = snapshot.members.iter().find(|member| member.name == name);
        if let Some(member) = served.filter(|member| Arc::ptr_eq(&member.store, &store)) {
            return Ok(Candidate {
                name,
                store,
                cluster_id: member.cluster_id,
                standing: Standing::Served(member.slot),
                same_as: 0,
                served: Some(member.clone()),
            });
        }
        let asked = (name.clone(), Arc::clone(&store));
        let refuses = probe::refuses_the_ledger(&asked);
        if is_default && let Some(why) = in_time(&name, refuses).await? {
            return Err(Refusal::NoLedger { name, why });
        }
        let found = in_time(&name, probe::once(&asked)).await?;
        let standing = match served {
            Some(member) if member.cluster_id != 0 && member.cluster_id != found.cluster_id => {
                return Err(Refusal::Stranger {
                    store: name,
                    known: member.cluster_id,
                    found: found.cluster_id,
                });
            }
            Some(member) => Standing::Served(member.slot),
            None => standing(snapshot, &name, found.cluster_id, found.revision),
        };
        Ok(Candidate {
            name,
            store,
            cluster_id: found.cluster_id,
            standing,
            same_as: 0,
            served: served.cloned(),
        })
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

/// A store that is not served now may have been before.
fn standing(snapshot: &ServingSnapshot, name: &str, cluster_id: u64, at: StoreRev) -> Standing {
    let before = snapshot.merged().and_then(|order| order.retired(name));
    match before {
        Some((slot, known)) if known == cluster_id => Standing::Returns(slot, at),
        _ => Standing::Joins(at),
    }
}

/// Backends on one cluster are one store: they share its revisions. The one that the ledger knows
/// stands for the others.
fn one_store_per_cluster(
    topology: Topology,
    snapshot: &ServingSnapshot,
    stores: &mut [Candidate],
) -> Result<Topology, Refusal> {
    let mut first_of: BTreeMap<u64, usize> = BTreeMap::new();
    for known in snapshot.stores().filter(|known| known.cluster_id != 0) {
        match stores.iter().position(|store| store.name == known.name) {
            Some(at) => drop(first_of.insert(known.cluster_id, at)),
            None => {
                let left = stores
                    .iter()
                    .find(|store| store.cluster_id == known.cluster_id);
                if let Some(left) = left {
                    return Err(Refusal::Renamed {
                        store: known.name.clone(),
                        other: left.name.clone(),
                    });
                }
            }
        }
    }
    let mut same = Vec::new();
    for (index, store) in stores.iter_mut().enumerate() {
        store.same_as = match store.cluster_id {
            // A store that has not answered since the start.
            0 => index,
            id => *first_of.entry(id).or_insert(index),
        };
        if store.same_as != index {
            same.push((store_index(store.same_as), store_index(index)));
        }
    }
    Ok(topology.with_same_store(&same))
}

/// A topology has fewer stores than an index can count.
fn store_index(index: usize) -> StoreIndex {
    StoreIndex(u16::try_from(index).unwrap_or(u16::MAX))
}
