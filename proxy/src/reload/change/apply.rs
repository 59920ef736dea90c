//! Takes a topology that was looked at, at one unified revision.

use std::sync::Arc;

use keyloom_hub::{Hub, Reroute};
use keyloom_ledger::StoreSlot;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::{
    Reconfigurer, Refusal,
    amid::{AGAIN, DELIVERY, LastLook},
    prepare::{Prepared, Standing},
};
use crate::{
    feeds::routes_of,
    order::{Arrival, Merged, Rerouted},
    reload::accepted::Accepted,
    snapshot::{Member, MergedRuntime, ServingSnapshot, Validity},
};

impl Reconfigurer {
    /// With one store: other ways to reach it, or other names for it.
    pub(super) fn replace_native(&self, snapshot: &Arc<ServingSnapshot>, prepared: Prepared) {
        let slots = vec![StoreSlot::DEFAULT; prepared.stores.len()];
        let next = ServingSnapshot {
            members: members(&prepared, &slots),
            topology: prepared.topology,
            generation: snapshot.generation + 1,
            floors: snapshot.floors.clone(),
            order: Arc::clone(&snapshot.order),
            runtime: MergedRuntime::default(),
            validity: Validity::default(),
        };
        self.swap(snapshot, next);
    }

    /// Over several stores. What moves is held by the caller.
    pub(super) async fn apply(
        &self,
        snapshot: &Arc<ServingSnapshot>,
        prepared: Prepared,
        look: LastLook,
    ) -> Result<(), Refusal> {
        let (Some(order), Some(feeding)) = (snapshot.merged(), &snapshot.runtime.feeding) else {
            return Err(Refusal::SecondStore);
        };
        let feeds = &feeding.feeds;
        let by_delivery = order.by_delivery(look.slots());
        let until = Instant::now() + DELIVERY;
        let next = loop {
            let turn = |hub: &mut Hub, _: &Merged| turn(hub, order, snapshot, &prepared, &look);
            match feeds.with(turn) {
                None => return Err(Refusal::SecondStore),
                Some(Err(Refusal::Lags { .. })) if Instant::now() < until => sleep(AGAIN).await,
                Some(turned) => break turned?,
            }
        };
        drop(by_delivery);
        feeds.refollow(&next);
        if let Some(keeper) = &snapshot.runtime.keeper {
            keeper.reach(&next.members);
        }
        self.swap(snapshot, next);
        match &snapshot.runtime.keeper {
            Some(keeper) => keeper.record().await.map_err(|failure| {
                // Nothing leaves any more: the next start finds one of the two.
                Refusal::Ledger(failure.to_string())
            }),
            None => Ok(()),
        }
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
    look: &LastLook,
) -> Result<ServingSnapshot, Refusal> {
    let (looked, gained) = look.with_what_came(hub, snapshot, prepared)?;
    let arrivals: Vec<_> = arrivals(prepared).collect();
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
    let Rerouted { at, slots } = order.reroute(&looked, &arrivals, &leaving, moved, accept)?;
    for (slot, arrival) in slots.iter().zip(&arrivals) {
        if matches!(arrival, Arrival::Joins { .. } | Arrival::Returns(..)) {
            hub.add_store(*slot, order.frontier(*slot));
        }
    }
    let next = ServingSnapshot {
        members: members(prepared, &slots),
        topology: prepared.topology.clone(),
        generation: snapshot.generation + 1,
        floors,
        order: Arc::clone(&snapshot.order),
        runtime: snapshot.runtime.clone(),
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
    info!(at = at.get(), moved, "the topology changes");
    Ok(next)
}

/// The stores that the new topology does not name.
fn leaving(snapshot: &ServingSnapshot, prepared: &Prepared) -> Vec<StoreSlot> {
    let stays = |name: &String| prepared.stores.iter().any(|store| store.name == *name);
    let leaving = snapshot.stores().filter(|member| !stays(&member.name));
    leaving.map(|member| member.slot).collect()
}

/// What each store is to the ledger, in the order of the topology's; an alias is what it stands
/// for.
fn arrivals(prepared: &Prepared) -> impl Iterator<Item = Arrival> {
    prepared.stores.iter().enumerate().map(|(index, store)| {
        if store.same_as != index {
            return Arrival::SameAs(store.same_as);
        }
        match store.standing {
            Standing::Served(slot) => Arrival::Stays(slot),
            Standing::Returns(slot, at) => Arrival::Returns(slot, at),
            Standing::Joins(at) => Arrival::Joins {
                name: store.name.clone(),
                cluster_id: store.cluster_id,
                at,
            },
        }
    })
}

fn members(prepared: &Prepared, slots: &[StoreSlot]) -> Vec<Member> {
    let stores = prepared.stores.iter().enumerate().zip(slots);
    stores
        .map(|((index, store), slot)| store.member(*slot, store.same_as != index))
        .collect()
}
