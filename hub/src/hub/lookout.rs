//! What the stores' watches deliver of some keys while a change of their routes is looked at.
//!
//! A change looks for keys at a revision of each store, and takes its place in the order some time
//! later. What came in between is seen here, also where it does not live on that store.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_topology::Affected;

use super::Hub;
use crate::Group;

/// How many keys are told apart. Beyond that the change must be tried again.
const MOST_KEYS: usize = 10_000;

/// The last event of a key on a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub slot: StoreSlot,
    pub key: Bytes,
    pub revision: StoreRev,
    pub is_delete: bool,
}

#[derive(Debug)]
pub(super) struct Lookout {
    affected: Affected,
    last: BTreeMap<(StoreSlot, Bytes), (StoreRev, bool)>,
    /// A store of which something was not seen.
    missed: Option<StoreSlot>,
}

impl Hub {
    /// Keeps from now on what is delivered of these keys, for [`Hub::seen`].
    pub fn look_out(&mut self, affected: Affected) {
        self.lookout = Some(Lookout {
            affected,
            last: BTreeMap::new(),
            missed: None,
        });
    }

    /// Keeps it no longer.
    pub fn look_away(&mut self) {
        self.lookout = None;
    }

    /// The last event of each of the keys, on each store, since [`Hub::look_out`].
    ///
    /// # Errors
    /// The store of which not everything was seen.
    pub fn seen(&self) -> Result<Vec<Seen>, StoreSlot> {
        let Some(lookout) = &self.lookout else {
            return Ok(Vec::new());
        };
        if let Some(missed) = lookout.missed {
            return Err(missed);
        }
        let seen = lookout.last.iter().map(|((slot, key), last)| Seen {
            slot: *slot,
            key: key.clone(),
            revision: last.0,
            is_delete: last.1,
        });
        Ok(seen.collect())
    }

    pub(super) fn notice(&mut self, slot: StoreSlot, group: &Group) {
        let Some(lookout) = &mut self.lookout else {
            return;
        };
        for event in &group.events {
            if !lookout.affected.holds(event.key()) {
                continue;
            }
            if lookout.last.len() >= MOST_KEYS {
                lookout.missed = Some(slot);
                return;
            }
            // Not a part of the whole answer, which would stay in memory.
            let key = Bytes::copy_from_slice(event.key());
            let last = (group.revision, event.is_delete);
            lookout.last.insert((slot, key), last);
        }
    }

    /// A store's watch went on behind something that it did not deliver.
    pub(super) fn notice_loss(&mut self, slot: StoreSlot) {
        if let Some(lookout) = &mut self.lookout {
            lookout.missed = Some(slot);
        }
    }
}
