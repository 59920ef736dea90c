//! Calls to one store, and their place in the order: `proxy/src/order/merged.rs`.
//!
//! ```text
//!   admit ── send ──► (the store commits, or never) ── answer ──► sequence: not yet | place ──► leaves
//!                                │
//!                                └ nobody waits for it any more: it may land later
//! ```

use crate::{
    told::Value,
    variant::Without,
    world::{
        Answer, Call, Change, DEFAULT, Entry, Instance, Key, MOVING, Phase, Rev, STORES, Sent,
        Slot, U, What, World,
    },
};

impl Instance {
    /// `Inner::alive`, but for a change that is being written.
    fn is_alive(&self, without: Without) -> bool {
        let leads = self.renewed != Sent::LongAgo || without == Without::DeadlineCheck;
        self.phase == Phase::Serving && !self.stopped && leads
    }

    /// `Merged::may_leave`.
    pub fn may_leave(&self, without: Without) -> bool {
        self.is_alive(without) && !self.must_record
    }

    /// `Inner::place`, without the translation: the observation, and whether what comes of it may
    /// be told.
    pub fn sequence(&mut self, without: Without, slot: Slot, r: Rev) -> Option<()> {
        if !self.may_leave(without) {
            return None;
        }
        if r > self.ledger.frontier(slot) {
            if slot == DEFAULT && self.own_write && without != Without::OwnWriteAwaited {
                return None;
            }
            self.ledger.observe(slot, r);
        }
        let is_reserved = self.ledger.head() <= self.reserved || without == Without::Reservation;
        (is_reserved && self.ledger.frontier(slot) >= r).then_some(())
    }

    /// The newest `u` that may be told.
    pub fn newest(&self, without: Without) -> U {
        match without {
            Without::Reservation => self.ledger.head(),
            _ => self.head(),
        }
    }
}

impl World {
    /// A client's call passes `admit` and the gate, and is sent.
    pub fn send(&mut self, without: Without, instance: usize, key: Key, what: What) -> Option<()> {
        let at = &self.instances[instance];
        let slot = at.route(key);
        let held = at.change != Change::None && without != Without::Drain;
        let waits = held && key == MOVING && what != What::Read;
        if !at.is_alive(without) || at.shut_out[slot] || waits {
            return None;
        }
        let left = match what {
            What::Put => &mut self.budget.puts,
            What::Delete => &mut self.budget.deletes,
            What::Read => &mut self.budget.reads,
        };
        *left = left.checked_sub(1)?;
        self.calls.push(Call {
            nonce: at.nonce,
            key,
            slot,
            what,
            known: at.ledger.frontier(slot),
            began: self.told.began(key),
            answer: None,
            given_up: false,
        });
        Some(())
    }

    /// The store does it.
    pub fn commit(&mut self, call: usize) -> Option<()> {
        let Call {
            key, slot, what, ..
        } = self.calls[call];
        if self.calls[call].answer.is_some() {
            return None;
        }
        if what == What::Read && self.stores[slot].has_caught_up() {
            return None;
        }
        let delete = what == What::Delete;
        let store = &mut self.stores[slot];
        // As in etcd, deleting what is not there is no revision, and the answer is a read's.
        if what == What::Put || delete && store.key_at(key, store.revision()).1 {
            self.ids += 1;
            let id = self.ids;
            store.log.push(Entry::Event { key, id, delete });
        }
        let (id, present) = store.key_at(key, store.revision());
        let answer = Answer {
            revision: store.revision(),
            id,
            present,
            cluster: store.cluster,
        };
        match self.calls[call].given_up {
            true => drop(self.calls.remove(call)),
            false => self.calls[call].answer = Some(answer),
        }
        Some(())
    }

    /// The client or the store's time limit gives a call up.
    pub fn give_up(&mut self, call: usize) -> Option<()> {
        let call = &mut self.calls[call];
        if call.given_up || call.answer.is_some() || call.what == What::Read {
            return None;
        }
        self.budget.give_ups = self.budget.give_ups.checked_sub(1)?;
        call.given_up = true;
        Some(())
    }

    /// `Merged::sequence`: the answer gets its place and leaves.
    pub fn place(&mut self, without: Without, call: usize) -> Option<()> {
        let Call {
            nonce,
            key,
            slot,
            what,
            known,
            began,
            ..
        } = self.calls[call];
        let answer = self.calls[call].answer?;
        let index = self.of(nonce)?;
        let at = &mut self.instances[index];
        if !at.may_leave(without) {
            return None;
        }
        let own = self.stores[slot].entry(answer.revision);
        let is_own = |entry: &Entry| matches!(entry, Entry::Event { id, .. } if *id == answer.id);
        let wrote = what != What::Read && own.is_some_and(is_own);
        let stranger = answer.cluster != at.clusters[slot] && without != Without::ClusterSeen;
        let below = answer.revision < known || wrote && answer.revision == known;
        let back = below && without != Without::WentBackSeen;
        if stranger || back {
            at.shut_out[slot] = true;
            self.seen.shut_out = true;
            self.calls.remove(call);
            return Some(());
        }
        at.sequence(without, slot, answer.revision)?;
        let value = Value::of((answer.id, answer.present));
        let u = match (wrote, without) {
            // A revision that is hidden is nonsense, and refused.
            (true, _) => match at.ledger.unified(slot, answer.revision) {
                Some(u) => u,
                None => return self.drop_call(call),
            },
            (false, Without::HeaderBelowNext) => at.newest(without),
            (false, _) => at.ledger.below_next(slot, answer.revision),
        };
        // `Request::holds_at`: the change of routes overtook it, and it starts again.
        if !wrote && at.route_at(key, u) != slot {
            return self.drop_call(call);
        }
        self.calls.remove(call);
        self.is_dense(index);
        let told = self.told.answer(u, wrote, value, began);
        self.check(told);
        if wrote {
            let told = self.told.write(u, answer.id);
            self.check(told);
            self.told.acknowledge(key, value);
        }
        let told = self.told.fact(u, key, value);
        self.check(told);
        Some(())
    }

    fn drop_call(&mut self, call: usize) -> Option<()> {
        self.calls.remove(call);
        Some(())
    }

    /// Somebody writes to a store directly.
    pub fn other_write(&mut self, slot: Slot, key: Key) -> Option<()> {
        self.budget.others = self.budget.others.checked_sub(1)?;
        self.ids += 1;
        let (id, delete) = (self.ids, false);
        self.stores[slot].log.push(Entry::Event { key, id, delete });
        Some(())
    }

    /// A store is taken back to a copy that was made before.
    pub fn backup(&mut self, slot: Slot) -> Option<()> {
        let store = &mut self.stores[slot];
        if store.backup.is_some() {
            return None;
        }
        self.budget.backups = self.budget.backups.checked_sub(1)?;
        let copy = store.clone();
        store.backup = Some(Box::new(copy));
        Some(())
    }

    /// `is_new`: as `etcdutl snapshot restore` does it, under another cluster id.
    pub fn go_back(&mut self, slot: Slot, is_new: bool) -> Option<()> {
        let copy = self.stores[slot].backup.take()?;
        if copy.log.len() == self.stores[slot].log.len() {
            return None;
        }
        // Its connections break: nothing on its way to it or from it arrives.
        self.calls.retain(|call| call.slot != slot);
        let had = self.stores[slot].revision();
        self.stores[slot] = *copy;
        self.stores[slot].had = had;
        self.stores[slot].cluster += u8::from(is_new);
        self.went_back = true;
        Some(())
    }

    /// What the stores have of a key, as an instance reads it at `u`: the content, or nothing where
    /// the read fails.
    pub fn read_at(&self, instance: usize, key: Key, u: U) -> Option<Value> {
        let at = &self.instances[instance];
        let read = |slot: Slot, u: U| {
            let store = &self.stores[slot];
            let r = at.ledger.store_at(slot, u);
            let is_there = r <= store.revision() && r >= store.compacted;
            is_there.then(|| Value::of(store.key_at(key, r)))
        };
        let slot = at.route_at(key, u);
        let value = read(slot, u)?;
        let moved = at.ledger.moved_at;
        if key == MOVING && slot != DEFAULT && value == Value::default() {
            // Absent before and after: the same thing to a client.
            let before = read(DEFAULT, moved).unwrap_or_default();
            return Some(if before.is_present() { value } else { before });
        }
        Some(value)
    }

    /// Rule 3: what Keyloom writes for itself is hidden.
    pub(crate) fn is_dense(&mut self, instance: usize) {
        let ledger = &self.instances[instance].ledger;
        let mut own = (2..=ledger.frontier(DEFAULT))
            .filter(|r| matches!(self.stores[DEFAULT].entry(*r), Some(Entry::Own)));
        if own.any(|r| !ledger.is_hidden(r)) {
            self.check(Err(crate::told::Broken::NotDense));
        }
    }

    pub fn check(&mut self, told: Result<(), crate::told::Broken>) {
        if let Err(broken) = told {
            self.broken.get_or_insert(broken);
        }
    }

    /// All the stores of a range.
    pub fn span(&self, instance: usize, keys: &[Key]) -> Vec<Slot> {
        let at = &self.instances[instance];
        (0..STORES)
            .filter(|slot| keys.iter().any(|key| at.route(*key) == *slot))
            .collect()
    }
}
