//! Do keys exist that would be hidden? And which come to be seen?

use std::sync::Arc;

use keyloom_ledger::{StoreRev, StoreSlot};
use tokio::time::timeout;

use super::{DRAIN, Reconfigurer, Refusal, amid::LastCheck, names, prepare::Prepared};
use crate::{
    bringup::{
        hidden::{hidden_keys, ranges, route},
        scan::{revision, scan},
    },
    order::Answered,
    snapshot::{Holding, ServingSnapshot},
};

impl Reconfigurer {
    /// Holds writes to what moves, and waits for those under way on the stores that it leaves.
    pub(super) async fn hold(
        &self,
        snapshot: &ServingSnapshot,
        prepared: &Prepared,
    ) -> Result<Holding, Refusal> {
        let holding = self.services.gate.hold(prepared.affected.clone());
        let from = names(prepared.moves.iter().flat_map(|each| &each.from));
        for member in snapshot
            .stores()
            .filter(|member| from.contains(&*member.name))
        {
            let traffic = [Arc::clone(&member.traffic)];
            let drained = timeout(DRAIN, holding.drain(&traffic)).await;
            drained.map_err(|_| Refusal::Busy {
                store: member.name.clone(),
            })?;
        }
        Ok(holding)
    }

    /// Refuses what would hide keys; says where keys come to be seen.
    pub(super) async fn check(
        &self,
        snapshot: &ServingSnapshot,
        prepared: &Prepared,
    ) -> Result<LastCheck, Refusal> {
        let mut look = LastCheck::default();
        let (old, new) = (&snapshot.topology, &prepared.topology);
        for member in snapshot.stores() {
            let store = member.store.as_ref();
            let moves = &prepared.moves;
            let found = hidden_keys((old, new), moves, &member.name, store).await;
            let found = found.map_err(|error| Refusal::Unreachable {
                store: member.name.clone(),
                error,
            })?;
            self.sequence(snapshot, &member.name, Some(member.slot), found.at)
                .await?;
            if let Some(at) = found.at {
                let ranges = ranges(moves, old, &member.name, |each| &each.from);
                look.note(member.slot, &member.name, &ranges, at);
            }
            if let Some(example) = found.example {
                return Err(Refusal::Hides {
                    count: found.count,
                    from: member.name.clone(),
                    to: route(new, &example).unwrap_or_default().to_owned(),
                    example,
                });
            }
        }
        for store in prepared.stores.iter().filter(|store| !store.is_alias()) {
            let ranges = ranges(&prepared.moves, new, &store.name, |each| &each.to);
            let comes = |key: &[u8]| {
                route(new, key) == Some(&store.name) && route(old, key) != Some(&store.name)
            };
            let found = scan(store.store.as_ref(), &ranges, comes).await;
            let found = found.map_err(|error| Refusal::Unreachable {
                store: store.name.clone(),
                error,
            })?;
            let served = snapshot.stores().find(|member| member.name == store.name);
            let slot = served.map(|member| member.slot);
            self.sequence(snapshot, &store.name, slot, found.at).await?;
            if let Some((slot, at)) = slot.zip(found.at) {
                look.note(slot, &store.name, &ranges, at);
            }
            look.gained.extend(found.ranges);
        }
        Ok(look)
    }

    /// Gives a place to everything that the checked stores have by now, below the change. One key
    /// of each is read for that; which keys came since the check, the stores' watches tell.
    pub(super) async fn sequence_present(
        &self,
        snapshot: &ServingSnapshot,
        checked: &LastCheck,
    ) -> Result<(), Refusal> {
        for served in snapshot.stores() {
            let Some(range) = checked.range_of(served.slot) else {
                continue;
            };
            let present = revision(served.store.as_ref(), range).await;
            let present = present.map_err(|error| Refusal::Unreachable {
                store: served.name.clone(),
                error,
            })?;
            self.sequence(snapshot, &served.name, Some(served.slot), Some(present))
                .await?;
        }
        Ok(())
    }

    /// Gives a place to everything that a store had when it was looked at, below the change: an
    /// event that comes later would be looked for elsewhere.
    async fn sequence(
        &self,
        snapshot: &ServingSnapshot,
        name: &str,
        slot: Option<StoreSlot>,
        at: Option<StoreRev>,
    ) -> Result<(), Refusal> {
        let (Some(order), Some(slot), Some(revision)) = (snapshot.merged(), slot, at) else {
            return Ok(());
        };
        let answered = Answered {
            slot,
            revision,
            wrote: false,
            known: None,
            is_delivery: false,
        };
        let sequenced = order.sequence(answered).await;
        sequenced.map(drop).map_err(|error| Refusal::Unreachable {
            store: name.to_owned(),
            error: error.to_string(),
        })
    }
}
