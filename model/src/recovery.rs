//! The end of a run, in good order or not, and the beginning of the next: `proxy/src/bringup/start.rs`,
//! `ledger/src/recover.rs`.

use crate::{
    ledger::{Care, Order, Restored, recover},
    variant::Without,
    world::{DEFAULT, Instance, Phase, STORES, Slot, World},
};

impl World {
    /// The process dies; what it has sent may still land.
    pub fn crash(&mut self, instance: usize) -> Option<()> {
        if self.instances[instance].phase == Phase::Down {
            return None;
        }
        self.budget.crashes = self.budget.crashes.checked_sub(1)?;
        self.down(instance);
        Some(())
    }

    /// The process is told to end: nothing leaves any more, and the last write says so.
    pub fn end(&mut self, instance: usize) -> Option<()> {
        let at = &mut self.instances[instance];
        if at.phase != Phase::Serving || at.own_write || at.stopped {
            return None;
        }
        self.budget.ends = self.budget.ends.checked_sub(1)?;
        at.stopped = true;
        at.phase = Phase::Ending;
        self.flush(instance, true)
    }

    pub(crate) fn down(&mut self, instance: usize) {
        let nonce = self.instances[instance].nonce;
        self.instances[instance] = Instance::down();
        self.own
            .retain(|own| own.stamp.nonce != nonce || own.outcome.is_none());
        self.calls
            .retain(|call| call.nonce != nonce || call.answer.is_none());
        for call in self.calls.iter_mut().filter(|call| call.nonce == nonce) {
            call.given_up = true;
        }
        for cache in self
            .caches
            .iter_mut()
            .filter(|cache| cache.watching == Some(nonce))
        {
            cache.watching = None;
        }
    }

    /// `ask_all`: a store says where it stands. The records come with the default store's answer.
    pub fn ask(&mut self, instance: usize, slot: Slot) -> Option<()> {
        let store = &self.stores[slot];
        let Phase::Asking(asking) = &mut self.instances[instance].phase else {
            return None;
        };
        let is_next = asking.observed[slot].is_none() && !asking.absent[slot];
        if !is_next || slot != DEFAULT && asking.kept.is_none() {
            return None;
        }
        if slot == DEFAULT {
            asking.kept.clone_from(&store.kept);
        }
        asking.observed[slot] = Some(store.revision());
        Some(())
    }

    /// It does not answer.
    pub fn absent(&mut self, instance: usize, slot: Slot) -> Option<()> {
        let Phase::Asking(asking) = &mut self.instances[instance].phase else {
            return None;
        };
        let asked = asking.observed[slot].is_some() || asking.absent[slot];
        if slot == DEFAULT || asked || asking.kept.is_none() {
            return None;
        }
        self.budget.absences = self.budget.absences.checked_sub(1)?;
        asking.absent[slot] = true;
        Some(())
    }

    /// `restored`, `recovered`: what the ledger and the stores make together. It is written before
    /// anything is served from it.
    pub fn recover(&mut self, without: Without, instance: usize) -> Option<()> {
        let Phase::Asking(asking) = &self.instances[instance].phase else {
            return None;
        };
        let is_asked = |slot: Slot| asking.observed[slot].is_some() || asking.absent[slot];
        if !(0..STORES).all(is_asked) {
            return None;
        }
        let asking = asking.clone();
        let kept = asking.kept?;
        let takings = asking.before.iter().chain([&asking.taken]).copied();
        let mut hidden = vec![kept.head_at];
        if without != Without::TakingsKnown {
            hidden.extend(takings.filter(|at| *at > kept.head_at));
        }
        let restored = Restored {
            clean: kept.clean,
            ledger: kept.ledger.clone(),
            reserved: kept.reserved,
            hidden,
        };
        let clean = restored.clean;
        // `Stranger`: another cluster under the name of the store is refused.
        let strangers = (0..STORES).any(|slot| self.stores[slot].cluster != 0);
        let recovered = recover(restored, asking.observed, care(without));
        let Ok((ledger, order)) = recovered else {
            self.seen.shut_out = true;
            self.down(instance);
            return Some(());
        };
        if strangers && without != Without::ClusterSeen {
            self.seen.shut_out = true;
            self.down(instance);
            return Some(());
        }
        self.seen.order_lost |= order == Order::Lost;
        self.seen.order_known |= order == Order::Known;
        self.seen.taken_over |= self.instances.len() > 1 && instance == 1;
        let clusters = [self.stores[0].cluster, self.stores[1].cluster];
        let at = &mut self.instances[instance];
        at.mark_is_clean = clean;
        at.must_record = ledger.must_flush(&kept.ledger, clean);
        at.mark = kept.ledger;
        at.ledger = ledger;
        at.clusters = clusters;
        at.shut_out = [false, !at.ledger.settled[1]];
        at.after = asking.taken;
        at.phase = Phase::Recovered;
        Some(())
    }

    /// `start/returning.rs`: a store that was absent answers.
    pub fn return_of(&mut self, without: Without, instance: usize, slot: Slot) -> Option<()> {
        let r = self.stores[slot].revision();
        let at = &mut self.instances[instance];
        if at.phase != Phase::Serving || at.ledger.settled[slot] || at.stopped {
            return None;
        }
        if without == Without::Return {
            at.ledger.settled[slot] = true;
            at.ledger.observe(slot, r);
            at.shut_out[slot] = false;
            return Some(());
        }
        match at.ledger.return_of(slot, r, care(without)) {
            Ok(news) => {
                at.must_record |= news;
                at.shut_out[slot] = false;
                self.seen.returned |= news;
            }
            Err(_) => self.seen.shut_out = true,
        }
        Some(())
    }
}

fn care(without: Without) -> Care {
    Care {
        floors: without != Without::Floor,
        hole: without != Without::Hole,
    }
}
