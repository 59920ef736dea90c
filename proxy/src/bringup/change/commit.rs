//! The change itself, at one unified revision.

use std::sync::Arc;

use keyloom_hub::{Hub, Reroute};
use keyloom_ledger::StoreSlot;
use tokio::time::timeout;
use tracing::info;

use super::{
    Reconfigurer, Refusal,
    amid::{DELIVERY, LastCheck},
    prepare::Prepared,
};
use crate::{
    bringup::{
        accepted::Accepted,
        next::{serving, standings},
    },
    feeds::routes_of,
    order::{Merged, Rerouted, StoreStanding},
    snapshot::{ServingSnapshot, Validity},
};

impl Reconfigurer {
    /// With one store: other ways to reach it, or other names for it.
    pub(super) fn replace_native(&self, snapshot: &Arc<ServingSnapshot>, prepared: Prepared) {
        let slots = vec![StoreSlot::DEFAULT; prepared.stores.len()];
        let next = ServingSnapshot {
            backends: serving(&prepared.stores, &slots),
            topology: prepared.topology,
            generation: snapshot.generation + 1,
            floors: snapshot.floors.clone(),
            order: snapshot.order.clone(),
            validity: Validity::default(),
        };
        self.swap(snapshot, next);
    }

    /// Over several stores. What moves is held by the caller.
    pub(super) async fn commit(
        &self,
        snapshot: &Arc<ServingSnapshot>,
        prepared: Prepared,
        look: LastCheck,
    ) -> Result<(), Refusal> {
        let Some(runtime) = &self.services.runtime else {
            return Err(Refusal::SecondStore);
        };
        let (order, feeds) = (&runtime.order, runtime.feeds());
        let by_delivery = order.by_delivery(look.slots());
        let turn = |hub: &mut Hub| turn(hub, order, snapshot, &prepared, &look);
        let turned = feeds.until(|hub, _| match turn(hub) {
            Err(Refusal::Lags { .. }) => None,
            turned => Some(turned),
        });
        let next = match timeout(DELIVERY, turned).await {
            Ok(turned) => turned?,
            Err(_) => feeds.with(|hub, _| turn(hub))?,
        };
        drop(by_delivery);
        feeds.refollow(&next);
        let reached = next.stores();
        let reached = reached.map(|member| (member.slot, Arc::clone(&member.store)));
        runtime.keeper.reach(reached);
        self.swap(snapshot, next);
        runtime.keeper.record().await.map_err(|error| {
            // Nothing leaves any more: the next start finds one of the two.
            Refusal::Ledger(error.to_string())
        })
    }

    fn swap(&self, snapshot: &ServingSnapshot, next: ServingSnapshot) {
        self.services.snapshot.store(Arc::new(next));
        snapshot.validity.replace();
    }
}

/// The change itself: the hub stands still meanwhile, and the order gives out nothing above the
/// change before it is recorded.
fn turn(
    hub: &mut Hub,
    order: &Merged,
    snapshot: &ServingSnapshot,
    prepared: &Prepared,
    look: &LastCheck,
) -> Result<ServingSnapshot, Refusal> {
    let (looked, gained) = look.with_what_came(hub, snapshot, prepared)?;
    let standings = standings(&prepared.stores);
    let moved = prepared.moves_keys();
    let mut floors = snapshot.floors.clone();
    floors.compacted(order.compacted());
    let accept = |at| {
        if moved {
            let bases = snapshot.topology.registry_prefixes();
            floors.add(at, &prepared.moved(), bases);
            snapshot.validity.end_at(at);
        }
        Accepted::of(&prepared.topology, floors.clone()).encode()
    };
    let leaving = leaving(snapshot, prepared);
    let Rerouted { at, slots } = order.reroute(&looked, &standings, &leaving, moved, accept)?;
    for (slot, standing) in slots.iter().zip(&standings) {
        if matches!(
            standing,
            StoreStanding::Joins { .. } | StoreStanding::Returns(..)
        ) {
            hub.add_store(*slot, order.frontier(*slot));
        }
    }
    let next = ServingSnapshot {
        backends: serving(&prepared.stores, &slots),
        topology: prepared.topology.clone(),
        generation: snapshot.generation + 1,
        floors,
        order: snapshot.order.clone(),
        validity: Validity::default(),
    };
    let routes = routes_of(&next);
    if moved {
        let affected = prepared.affected.clone();
        let change = Reroute {
            at,
            routes,
            affected,
            gained,
        };
        hub.reroute(change, order);
    } else {
        hub.replace_routes(routes);
    }
    info!(
        at = at.get(),
        moved, "the order has the change of the topology"
    );
    Ok(next)
}

/// The stores that the new topology does not name.
fn leaving(snapshot: &ServingSnapshot, prepared: &Prepared) -> Vec<StoreSlot> {
    let stays = |name: &String| prepared.stores.iter().any(|store| store.name == *name);
    let leaving = snapshot.stores().filter(|store| !stays(&store.name));
    leaving.map(|store| store.slot).collect()
}
