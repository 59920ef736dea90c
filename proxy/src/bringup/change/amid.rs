//! What happens between the check of the stores and the change itself.
//!
//! Until the writes to what moves are held clients write on, a write that was given up may still land
//! later, and others may write to a store past Keyloom. Whatever has its place below the change was
//! there before it, in answers and on watches:
//!
//! ```text
//!   check of a store ──── a key comes ──── writes held ──── the change ────────► order
//!     at revision r       at r+1, told                       only now elsewhere
//! ```
//!
//! So the change is made at a moment at which each store has nothing in the order that was neither
//! there at the check nor delivered by its watch since, and what was delivered is taken into account.
//! To get there the revisions of these stores take their places by delivery, and answers wait for
//! that.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use keyloom_etcd_api::KeyRange;
use keyloom_hub::Hub;
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_topology::Affected;

use super::{Refusal, prepare::Prepared};
use crate::{
    bringup::hidden::route, feeds::Feeds, order::KnownUpTo, runtime::MergedRuntime,
    snapshot::ServingSnapshot,
};

/// How long a change waits for what is ordered to be delivered.
pub(super) const DELIVERY: Duration = Duration::from_secs(1);

/// What was found when the stores were checked.
#[derive(Debug, Default)]
pub(super) struct LastCheck {
    /// Where keys come to be seen that nobody was told of.
    pub(super) gained: Vec<KeyRange>,
    /// The stores that keys leave or come to, as far as they are served, and where they stood.
    stores: BTreeMap<StoreSlot, (String, StoreRev)>,
    /// The first range that was read of each.
    first: BTreeMap<StoreSlot, KeyRange>,
}

impl LastCheck {
    /// A store was checked in these ranges when it stood at `at`.
    pub(super) fn note(&mut self, slot: StoreSlot, name: &str, ranges: &[KeyRange], at: StoreRev) {
        if let Some(range) = ranges.first() {
            self.first.entry(slot).or_insert_with(|| range.clone());
        }
        let stood = self.stores.entry(slot);
        let (_, stood) = stood.or_insert_with(|| (name.to_owned(), at));
        *stood = at.min(*stood);
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = StoreSlot> {
        self.stores.keys().copied()
    }

    /// A range to read of a store that was checked.
    pub(super) fn range_of(&self, slot: StoreSlot) -> Option<&KeyRange> {
        self.first.get(&slot)
    }

    /// Up to where everything of each store is known, and where keys come to be seen.
    pub(super) fn with_what_came(
        &self,
        hub: &Hub,
        snapshot: &ServingSnapshot,
        prepared: &Prepared,
    ) -> Result<(Vec<KnownUpTo>, Vec<KeyRange>), Refusal> {
        let mut gained = self.gained.clone();
        let mut hidden = None;
        let seen = hub.seen().map_err(|slot| self.lags(slot))?;
        for each in seen.iter().filter(|each| !each.is_delete) {
            let known = self.stores.get(&each.slot);
            let Some((name, _)) = known.filter(|(_, at)| each.revision > *at) else {
                continue;
            };
            let before = route(&snapshot.topology, &each.key);
            let after = route(&prepared.topology, &each.key);
            if before == after {
                continue;
            }
            if before == Some(name) {
                let (count, ..) = hidden.get_or_insert((0, name, after, &each.key));
                *count += 1;
            } else if after == Some(name) {
                gained.push(KeyRange::key(each.key.clone()));
            }
        }
        if let Some((count, from, to, example)) = hidden {
            return Err(Refusal::Hides {
                count,
                from: from.clone(),
                to: to.unwrap_or_default().to_owned(),
                example: example.clone(),
            });
        }
        let looked = self.stores.iter().map(|(slot, (name, at))| KnownUpTo {
            store: name.clone(),
            slot: *slot,
            upto: hub.delivered(*slot).unwrap_or_default().max(*at),
        });
        Ok((looked.collect(), gained))
    }

    fn lags(&self, slot: StoreSlot) -> Refusal {
        let store = self.stores.get(&slot).map(|(name, _)| name.clone());
        Refusal::Lags {
            store: store.unwrap_or_else(|| slot.to_string()),
        }
    }
}

/// The hub looks out for the keys that move as long as this lives.
#[derive(Debug)]
pub(super) struct LookingOut(Option<Arc<Feeds>>);

impl LookingOut {
    pub(super) fn begin(runtime: Option<&MergedRuntime>, affected: &Affected) -> Self {
        let feeds = runtime.map(|runtime| Arc::clone(runtime.feeds()));
        if let Some(feeds) = &feeds {
            feeds.with(|hub, _| hub.look_out(affected.clone()));
        }
        Self(feeds)
    }

    /// Whether the hub has kept everything that came of these keys.
    pub(super) fn saw_all(&self) -> bool {
        let saw_all = |feeds: &Arc<Feeds>| feeds.with(|hub, _| hub.seen().is_ok());
        self.0.as_ref().is_none_or(saw_all)
    }

    /// Forgets what came so far.
    pub(super) fn begin_again(&self, affected: &Affected) {
        if let Some(feeds) = &self.0 {
            feeds.with(|hub, _| hub.look_out(affected.clone()));
        }
    }
}

impl Drop for LookingOut {
    fn drop(&mut self) {
        if let Some(feeds) = &self.0 {
            feeds.with(|hub, _| hub.look_away());
        }
    }
}
