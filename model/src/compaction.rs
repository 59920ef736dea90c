//! Compaction: `proxy/src/services/compact.rs`.

use crate::{
    variant::Without,
    world::{Compaction, Phase, Rev, STORES, Slot, U, World},
};

impl World {
    /// The compaction gets into the ledger; the keeper then writes it.
    pub fn compact(&mut self, without: Without, instance: usize, u: U) -> Option<()> {
        let at = &mut self.instances[instance];
        let is_due = u > at.ledger.compacted && u <= at.head() && at.compaction.is_none();
        if !at.may_leave(without) || !is_due {
            return None;
        }
        self.budget.compactions = self.budget.compactions.checked_sub(1)?;
        at.ledger.compact(u);
        at.compaction = Some(Compaction {
            at: u,
            recorded: without == Without::CompactionRecorded,
            done: [false; STORES],
        });
        Some(())
    }

    /// `compact_store`: not above what the store's watch has delivered.
    pub fn compact_store(&mut self, without: Without, instance: usize, slot: Slot) -> Option<()> {
        let at = &mut self.instances[instance];
        let compaction = at.compaction.filter(|compaction| compaction.recorded)?;
        if compaction.done[slot] || at.phase != Phase::Serving {
            return None;
        }
        let exact = at.ledger.exact(slot, compaction.at);
        let r: Rev = exact.unwrap_or_else(|| at.ledger.store_at(slot, compaction.at));
        let is_delivered = at.delivered[slot] >= r || without == Without::CompactionBehindWatch;
        if !is_delivered || r > self.stores[slot].revision() {
            return None;
        }
        let store = &mut self.stores[slot];
        store.compacted = store.compacted.max(r);
        if let Some(compaction) = &mut at.compaction {
            compaction.done[slot] = true;
        }
        self.seen.compacted = true;
        Some(())
    }

    /// The client is answered; a store that could not be compacted waits for the next compaction.
    pub fn compacted(&mut self, without: Without, instance: usize) -> Option<()> {
        let at = &mut self.instances[instance];
        let compaction = at.compaction.filter(|compaction| compaction.recorded)?;
        if !at.may_leave(without) {
            return None;
        }
        at.compaction = None;
        self.told.compacted = self.told.compacted.max(compaction.at);
        Some(())
    }

    /// Somebody compacts a store directly.
    pub fn other_compaction(&mut self, slot: Slot) -> Option<()> {
        self.budget.other_compactions = self.budget.other_compactions.checked_sub(1)?;
        let store = &mut self.stores[slot];
        if store.compacted >= store.revision() {
            return None;
        }
        store.compacted = store.revision();
        self.seen.compacted_by_others = true;
        Some(())
    }
}
