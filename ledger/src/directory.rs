//! Which stores the ledger knows, and what it keeps of each beside the order.
//!
//! Invariants:
//! 1. A slot is given once and never again; the entry at index `i` is slot `i`.
//! 2. Of the entries with one name at most one is not retired.
//! 3. `floor` only rises; `identity` never changes and is at least 1.

use crate::{StoreRev, StoreSlot, UnifiedRev};

/// What the ledger keeps of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreInfo {
    pub name: String,
    /// The cluster id of the incarnation that this slot stands for; 0 while it is not known.
    pub cluster_id: u64,
    /// Up to here `u = r`.
    pub identity: StoreRev,
    /// Reads and watches that start below it answer `compacted`; 0 if there is none.
    pub floor: UnifiedRev,
    /// False after a crash that the store was not there to settle: until
    /// [`Ledger::return_of`](crate::Ledger::return_of) nothing of it enters the order.
    pub settled: bool,
    /// True after it left the topology: recovery does not ask for it.
    pub retired: bool,
}

/// Why a store was not added.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddStoreError {
    /// The caller wants the slot that the name has, or has to retire it first.
    #[error("store {name:?} is in the ledger already, as slot {slot}")]
    Known { name: String, slot: StoreSlot },
    #[error("the ledger has no free slot left")]
    Full,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Directory {
    entries: Vec<StoreInfo>,
}

impl Directory {
    /// With the symbol for holes the order has as many symbols as `u16` can count.
    const MAX: usize = u16::MAX as usize - 1;

    pub(crate) fn add(&mut self, info: StoreInfo) -> Result<StoreSlot, AddStoreError> {
        if let Some((slot, _)) = self.iter().find(|(_, e)| e.name == info.name && !e.retired) {
            return Err(AddStoreError::Known {
                name: info.name,
                slot,
            });
        }
        let slot = u16::try_from(self.entries.len()).map_err(|_| AddStoreError::Full)?;
        if self.entries.len() >= Self::MAX {
            return Err(AddStoreError::Full);
        }
        self.entries.push(info);
        Ok(StoreSlot::new(slot))
    }

    /// Whether the slot's name is its own to use.
    pub(crate) fn check_free(&self, slot: StoreSlot) -> Result<(), AddStoreError> {
        let Some(info) = self.get(slot) else {
            return Ok(());
        };
        match self.in_use(&info.name) {
            Some(other) if other != slot => Err(AddStoreError::Known {
                name: info.name.clone(),
                slot: other,
            }),
            _ => Ok(()),
        }
    }

    fn in_use(&self, name: &str) -> Option<StoreSlot> {
        self.iter()
            .find(|(_, e)| e.name == name && !e.retired)
            .map(|(slot, _)| slot)
    }

    pub(crate) fn get(&self, slot: StoreSlot) -> Option<&StoreInfo> {
        self.entries.get(usize::from(slot.get()))
    }

    pub(crate) fn get_mut(&mut self, slot: StoreSlot) -> Option<&mut StoreInfo> {
        self.entries.get_mut(usize::from(slot.get()))
    }

    /// The newest entry of that name: the one in use, or the last that was retired.
    pub(crate) fn find(&self, name: &str) -> Option<StoreSlot> {
        self.iter()
            .filter(|(_, e)| e.name == name)
            .last()
            .map(|(slot, _)| slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StoreSlot, &StoreInfo)> {
        (0..=u16::MAX).map(StoreSlot::new).zip(&self.entries)
    }
}
