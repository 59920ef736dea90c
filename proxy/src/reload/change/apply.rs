//! Takes a topology that was looked at, at one unified revision.

use std::sync::Arc;

use keyloom_hub::{Hub, Reroute};
use keyloom_ledger::StoreSlot;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::{
    Changer, Refusal,
    amid::{AGAIN, DELIVERY, LastLook},
    prepare::{Prepared, Standing},
};
use crate::{
    feeds::routes_of,
    order::{Arrival, Merged, Rerouted},
    reload::accepted::Accepted,
    world::{Behind, Member, Validity, World},
};

impl Changer {
    /// With one store: other ways to reach it, or other names for it.
    pub(super) fn replace_native(&self, world: &Arc<World>, prepared: Prepared) {
        let slots = vec![StoreSlot::DEFAULT; prepared.stores.len()];
        let next = World {
            members: members(&prepared, &slots),
            topology: prepared.topology,
            generation: world.generation + 1,
            floors: world.floors.clone(),
            order: Arc::clone(&world.order),
            behind: Behind::default(),
            validity: Validity::default(),
        };
        self.swap(world, next);
    }

    /// Over several stores. What moves is held by the caller.
    pub(super) async fn apply(
        &self,
        world: &Arc<World>,
        prepared: Prepared,
        look: LastLook,
    ) -> Result<(), Refusal> {
        let (Some(order), Some(feeding)) = (world.merged(), &world.behind.feeding) else {
            return Err(Refusal::SecondStore);
        };
        let feeds = &feeding.feeds;
        let by_delivery = order.by_delivery(look.slots());
        let until = Instant::now() + DELIVERY;
        let next = loop {
            let turn = |hub: &mut Hub, _: &Merged| turn(hub, order, world, &prepared, &look);
            match feeds.with(turn) {
                None => return Err(Refusal::SecondStore),
                Some(Err(Refusal::Lags { .. })) if Instant::now() < until => sleep(AGAIN).await,
                Some(turned) => break turned?,
            }
        };
        drop(by_delivery);
        feeds.refollow(&next);
        if let Some(keeper) = &world.behind.keeper {
            keeper.reach(&next.members);
        }
        self.swap(world, next);
        match &world.behind.keeper {
            Some(keeper) => keeper.record().await.map_err(|failure| {
                // Nothing leaves any more: the next start finds one of the two.
                Refusal::Ledger(failure.to_string())
            }),
            None => Ok(()),
        }
    }

    fn swap(&self, world: &World, next: World) {
        self.services.world.store(Arc::new(next));
        world.validity.replace();
    }
}

/// The change itself: the hub stands still meanwhile, and the order gives out nothing above the
/// change before it is recorded.
fn turn(
    hub: &mut Hub,
    order: &Merged,
    world: &World,
    prepared: &Prepared,
    look: &LastLook,
) -> Result<World, Refusal> {
    let (looked, gained) = look.with_what_came(hub, world, prepared)?;
    let arrivals: Vec<_> = arrivals(prepared).collect();
    let moved = prepared.moves_keys();
    let mut floors = world.floors.clone();
    floors.compacted(order.compacted());
    let accept = |at| {
        if moved {
            let bases = world.topology.registry_prefixes();
            floors.add(at, &prepared.moved(), bases);
            world.validity.end_at(at);
        }
        Accepted::of(&prepared.topology, floors.clone()).encode()
    };
    let leaving = leaving(world, prepared);
    let Rerouted { at, slots } = order.reroute(&looked, &arrivals, &leaving, moved, accept)?;
    for (slot, arrival) in slots.iter().zip(&arrivals) {
        if matches!(arrival, Arrival::Joins { .. } | Arrival::Returns(..)) {
            hub.add_store(*slot, order.frontier(*slot));
        }
    }
    let next = World {
        members: members(prepared, &slots),
        topology: prepared.topology.clone(),
        generation: world.generation + 1,
        floors,
        order: Arc::clone(&world.order),
        behind: world.behind.clone(),
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
fn leaving(world: &World, prepared: &Prepared) -> Vec<StoreSlot> {
    let stays = |name: &String| prepared.stores.iter().any(|store| store.name == *name);
    let leaving = world.stores().filter(|member| !stays(&member.name));
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
