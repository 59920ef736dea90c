//! Stores that did not answer at start: asked until they do, and only then let in.
//!
//! While the order of the last writes was lost, nobody can say where such a store's own last writes
//! belong; when it returns they are appended as one run with a floor above it (rule 6), and that is
//! persisted before anything is served from it.

use std::{sync::Arc, time::Duration};

use keyloom_ledger::StoreSlot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    bringup::ask::{self, AskedStore},
    order::{Keeper, Merged, OrderError},
};

/// Between two tries to record that a store is back.
const AGAIN: Duration = Duration::from_millis(500);

/// What the tasks work with.
#[derive(Debug)]
pub(super) struct Returning<'a> {
    pub(super) order: &'a Arc<Merged>,
    pub(super) keeper: &'a Keeper,
    pub(super) stop: CancellationToken,
}

impl Returning<'_> {
    /// Shuts the absent stores out and starts a task for each that lets it in.
    pub(super) fn of(&self, found: &[AskedStore], slots: &[StoreSlot]) {
        for (found, slot) in found.iter().zip(slots).filter(|(found, _)| !found.answered) {
            self.order.shut_out(*slot, OrderError::Absent);
            let (order, keeper) = (Arc::clone(self.order), self.keeper.clone());
            let (found, slot, stop) = (found.clone(), *slot, self.stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = wait(order, keeper, found, slot) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn wait(order: Arc<Merged>, keeper: Keeper, absent: AskedStore, slot: StoreSlot) {
    let ask = || {
        let store = keeper.reached(slot, &absent.store);
        let asked = (absent.name.clone(), store);
        async move { ask::once(&asked).await }
    };
    let found = ask::until_ok(&absent.name, ask).await;
    let known = order.cluster_of(slot);
    if known != 0 && known != found.cluster_id {
        let why = OrderError::Stranger {
            known,
            answered: found.cluster_id,
        };
        error!(store = found.name, error = %why, "the store is shut out: calls to it fail until it is repaired and Keyloom is restarted");
        order.shut_out(slot, why);
        return;
    }
    match order.return_of(slot, found.revision) {
        Ok(floor) => {
            let floor = floor.map(|floor| floor.get());
            // Where the default store is away as well, that is waited for.
            while let Err(error) = keeper.record().await {
                if order.stopped().is_some() {
                    return;
                }
                warn!(store = found.name, %error, "the store answers again, but this could not be written to the ledger; trying again");
                sleep(AGAIN).await;
            }
            info!(
                store = found.name,
                ?floor,
                "the store answers again and is served"
            );
            order.let_in(slot);
        }
        Err(error) => {
            error!(store = found.name, %error, "the store is shut out: calls to it fail until it is repaired and Keyloom is restarted");
            let why = OrderError::WentBack {
                known: error.known.get(),
                answered: error.found.get(),
            };
            order.shut_out(slot, why);
        }
    }
}
