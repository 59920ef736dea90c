//! The ledger at a start: a new one, or the one that the default store keeps, with what happened
//! since it was written.

use keyloom_etcd_api::mvccpb::KeyValue;
use keyloom_ledger::{
    HEAD, Ledger, Mark, Order, RecoverError, Recovery, RestoreError, Restored, StoreRev, StoreSlot,
    StoreStart, recover,
};
use tracing::{info, warn};

use super::{keeper::record_of, leadership::TakenLeadership};

/// Why the ledger and the stores do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The ledger in the default store cannot be used as it is.
    #[error("the ledger in the default store cannot be read")]
    Restore(#[from] RestoreError),
    /// A store lost revisions.
    #[error(
        "store \"{name}\" is at revision {found}, but the ledger has seen revision {known}: a store that \
         was restored or replaced cannot come back under its old name"
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
        "store \"{name}\" is cluster {known:x}, but cluster {found:x} answers at its endpoint: correct \
         the endpoint, or give the new cluster another name"
    )]
    Stranger {
        name: String,
        known: u64,
        found: u64,
    },
    /// Keys of that store would be lost to clients.
    #[error(
        "store \"{0}\" is in the ledger but not in the topology, so no client would see its keys. Put \
         its backend back into the file"
    )]
    Missing(String),
}

/// What a store said at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreAtStart<'a> {
    pub(crate) name: &'a str,
    pub(crate) cluster_id: u64,
    /// `None` where it does not answer.
    pub(crate) at: Option<StoreRev>,
    /// Whether it is another store under a second name.
    pub(crate) is_alias: bool,
}

impl StoreAtStart<'_> {
    /// Where it stands, if it answers and is a store of its own.
    fn own(&self) -> Option<StoreRev> {
        self.at.filter(|_| !self.is_alias)
    }
}

/// A ledger, and what of it is persisted.
#[derive(Debug)]
pub(crate) struct PersistedLedger {
    pub(crate) ledger: Ledger,
    pub(crate) mark: Mark,
    /// The revision of the last own write; 0 where there is none.
    pub(crate) after: StoreRev,
}

/// A ledger of which nothing is written yet. It starts at the largest revision that a store has
/// (rule 4).
pub(crate) fn new_ledger(stores: &[StoreAtStart<'_>]) -> PersistedLedger {
    let starts = stores.iter().filter_map(|store| {
        Some(StoreStart {
            name: store.name.to_owned(),
            cluster_id: store.cluster_id,
            at: store.own()?,
        })
    });
    let ledger = Ledger::start(&starts.collect::<Vec<_>>());
    let head = ledger.head().get();
    info!(head, stores = stores.len(), "a new ledger was created");
    PersistedLedger {
        ledger,
        mark: Mark::new(),
        after: StoreRev::new(0),
    }
}

/// The ledger as the default store keeps it. Taking the leadership is a write of Keyloom's own that no
/// record knows of; so are those before it that were never served from.
///
/// # Errors
/// Where a record cannot be read.
pub(crate) fn restore(kvs: &[KeyValue], taken: &TakenLeadership) -> Result<Restored, LedgerError> {
    let records: Vec<_> = kvs
        .iter()
        .filter_map(|kv| Some((record_of(&kv.key)?, &kv.value[..])))
        .collect();
    let head = kvs.iter().find(|kv| record_of(&kv.key) == Some(HEAD));
    let head = head.map_or(StoreRev::new(0), |kv| StoreRev::new(kv.mod_revision));
    let mut restored = Ledger::restore(&records, head)?;
    let takings = taken.before.iter().chain([&taken.at]).copied();
    restored.hidden.extend(takings.filter(|at| *at > head));
    restored.hidden.dedup();
    let head = restored.ledger.head().get();
    info!(head, clean = restored.clean, "the ledger was restored");
    Ok(restored)
}

/// The restored ledger with everything that the stores have by now.
///
/// # Errors
/// Where the stores are not those that the ledger knows, or lost something.
pub(crate) fn recover_ledger(
    restored: Restored,
    stores: &[StoreAtStart<'_>],
    taken: &TakenLeadership,
) -> Result<PersistedLedger, LedgerError> {
    fits(&restored.ledger, stores)?;
    let observed: Vec<_> = stores
        .iter()
        .filter_map(|store| Some((restored.ledger.slot(store.name)?, store.own()?)))
        .collect();
    let names: Vec<_> = restored
        .ledger
        .stores()
        .map(|(slot, store)| (slot, store.name.clone()))
        .collect();
    let recovery = recover(restored, &observed).map_err(|error| not_recovered(error, names))?;
    report(&recovery);
    Ok(PersistedLedger {
        ledger: recovery.ledger,
        mark: recovery.mark,
        after: taken.at,
    })
}

fn not_recovered(error: RecoverError, names: Vec<(StoreSlot, String)>) -> LedgerError {
    let RecoverError::WentBack(back) = error else {
        return LedgerError::Recover(error);
    };
    let name = names.into_iter().find(|(slot, _)| *slot == back.slot);
    LedgerError::WentBack {
        name: name.map_or_else(|| back.slot.to_string(), |(_, name)| name),
        known: back.known,
        found: back.found,
    }
}

/// Whether the stores are those that the ledger knows.
fn fits(ledger: &Ledger, stores: &[StoreAtStart<'_>]) -> Result<(), LedgerError> {
    for (_, known) in ledger.stores().filter(|(_, store)| !store.retired) {
        let Some(store) = stores.iter().find(|store| store.name == known.name) else {
            return Err(LedgerError::Missing(known.name.clone()));
        };
        let answers = store.at.is_some();
        if answers && known.cluster_id != 0 && known.cluster_id != store.cluster_id {
            return Err(LedgerError::Stranger {
                name: known.name.clone(),
                known: known.cluster_id,
                found: store.cluster_id,
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
        Order::Lost { .. } => warn!(
            head, stores = ?names(&recovery.raised),
            "the last instance did not shut down cleanly, and the order of the last writes is lost; \
             clients of these stores list again"
        ),
        order => info!(?order, head, "the order of all writes is known"),
    }
    if !recovery.absent.is_empty() {
        warn!(stores = ?names(&recovery.absent), "these stores do not answer; serving the others, and trying these again");
    }
}
