//! Do keys exist that would route elsewhere? And which come to be seen?

use std::sync::Arc;

use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_store::Store;
use keyloom_topology::{Move, Moved, StoreIndex, Topology};
use tokio::time::timeout;

use super::{DRAIN, Reconfigurer, Refusal, amid::LastLook, names, prepare::Prepared};
use crate::{
    order::Answered,
    reload::{
        gate::Holding,
        scan::{Found, scan},
    },
    snapshot::ServingSnapshot,
};

/// The name of the store that stands for a store of a topology.
pub(super) fn route<'t>(topology: &'t Topology, key: &[u8]) -> Option<&'t str> {
    let StoreIndex(index) = topology.route(key)?;
    let spec = topology.stores().get(usize::from(index))?;
    Some(spec.name.as_str())
}

/// Where the moved keys of a store lie, or the keys that move to it.
fn ranges<'p>(
    moves: &'p [Move],
    topology: &Topology,
    store: &str,
    side: impl Fn(&'p Move) -> &'p [String],
) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = Vec::new();
    for each in moves
        .iter()
        .filter(|each| side(each).iter().any(|name| name == store))
    {
        match &each.what {
            Moved::Keys(range) => ranges.push(range.clone()),
            Moved::Namespace(_) => {
                let bases = topology.registry_prefixes().iter();
                ranges.extend(bases.map(|base| KeyRange::prefix(base.clone())));
            }
        }
    }
    one_by_one(ranges)
}

/// The same keys, none in two ranges.
fn one_by_one(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.sort_by(|a, b| a.start.cmp(&b.start));
    let mut apart: Vec<KeyRange> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| *end >= range.start) => {
                let end = last.end.take();
                last.end = end.and_then(|end| range.end.map(|other| end.max(other)));
            }
            _ => apart.push(range),
        }
    }
    apart
}

/// The keys of a store that a topology leads there and another one elsewhere.
pub(crate) async fn hidden_keys(
    (old, new): (&Topology, &Topology),
    moves: &[Move],
    name: &str,
    store: &dyn Store,
) -> Result<Found, String> {
    let ranges = ranges(moves, old, name, |each| &each.from);
    let hides = |key: &[u8]| route(old, key) == Some(name) && route(new, key) != Some(name);
    scan(store, &ranges, hides).await
}

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
    ) -> Result<LastLook, Refusal> {
        let mut look = LastLook::default();
        let (old, new) = (&snapshot.topology, &prepared.topology);
        for member in snapshot.stores() {
            let store = member.store.as_ref();
            let found = hidden_keys((old, new), &prepared.moves, &member.name, store).await;
            let found = found.map_err(|error| Refusal::Unreachable {
                store: member.name.clone(),
                error,
            })?;
            self.sequence(snapshot, &member.name, Some(member.slot), found.at)
                .await?;
            if let Some(at) = found.at {
                look.note(member.slot, &member.name, at);
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
        let is_own = |(index, store): &(usize, &super::prepare::Candidate)| store.same_as == *index;
        for (_, store) in prepared.stores.iter().enumerate().filter(is_own) {
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
                look.note(slot, &store.name, at);
            }
            look.gained.extend(found.ranges);
        }
        Ok(look)
    }
}

impl Reconfigurer {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_looked_at_twice() {
        let range = |start: &'static str, end: Option<&'static str>| KeyRange {
            start: start.into(),
            end: end.map(Into::into),
        };
        let given = vec![
            range("c", Some("e")),
            range("a", Some("b")),
            range("d", Some("f")),
            range("f", Some("g")),
            range("x", None),
            range("y", Some("z")),
        ];
        let expected = [
            range("a", Some("b")),
            range("c", Some("g")),
            range("x", None),
        ];
        assert_eq!(one_by_one(given), expected);
    }
}
