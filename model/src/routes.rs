//! A change of routes: `proxy/src/bringup/change.rs`, `change/check.rs`, `change/apply.rs`,
//! `snapshot/gate.rs`, `order/reroute.rs`, `hub/src/hub/reroute.rs`.
//!
//! Key 2 leaves the default store for the other one.
//!
//! ```text
//!   hold ── drain ── check: is the key there? ── reroute: a place of its own ── written ── open
//!                                                   └ refused where it came since
//! ```

use crate::{
    variant::Without,
    world::{Change, DEFAULT, MOVING, What, World},
};

impl World {
    /// `Changer::hold`
    pub fn hold(&mut self, without: Without, instance: usize) -> Option<()> {
        let at = &mut self.instances[instance];
        let is_new = at.ledger.moved_at == 0 && at.change == Change::None;
        if !at.may_leave(without) || !is_new {
            return None;
        }
        self.budget.reroutes = self.budget.reroutes.checked_sub(1)?;
        at.change = Change::Held;
        Some(())
    }

    /// `Changer::check`, after `Holding::drain`: refused where keys would be hidden.
    pub fn look_for_keys(&mut self, without: Without, instance: usize) -> Option<()> {
        let at = &self.instances[instance];
        if at.change != Change::Held || at.shut_out[1] {
            return None;
        }
        let nonce = at.nonce;
        let under_way = |call: &crate::world::Call| {
            let moves = call.key == MOVING && call.what != What::Read;
            moves && call.nonce == nonce && !call.given_up
        };
        if self.calls.iter().any(under_way) && without != Without::Drain {
            return None;
        }
        let revisions = [self.stores[0].revision(), self.stores[1].revision()];
        let hides = self.stores[DEFAULT].key_at(MOVING, revisions[0]).1;
        let gains = self.stores[1].key_at(MOVING, revisions[1]).1;
        let at = &mut self.instances[instance];
        // What they have gets its place below the change.
        for slot in [0, 1] {
            at.sequence(without, slot, revisions[slot])?;
        }
        let refused = hides && without != Without::HiddenKeysChecked;
        at.change = match refused {
            true => Change::None,
            false => Change::Checked {
                gains,
                at: revisions,
            },
        };
        Some(())
    }

    /// `Changer::apply`, `LastLook::with_what_came`, `Merged::reroute`, `Hub::reroute`
    pub fn reroute(&mut self, without: Without, instance: usize) -> Option<()> {
        let at = &mut self.instances[instance];
        let Change::Checked {
            mut gains,
            at: looked,
        } = at.change
        else {
            return None;
        };
        if !at.may_leave(without) {
            return None;
        }
        if without != Without::AmidChangeSeen {
            let ordered = [at.ledger.frontier(0), at.ledger.frontier(1)];
            let known = |slot: usize| ordered[slot] <= looked[slot].max(at.delivered[slot]);
            if !known(0) || !known(1) {
                return None;
            }
            let came = |slot: usize| {
                let now = self.stores[slot].key_at(MOVING, ordered[slot]);
                now.1 && now != self.stores[slot].key_at(MOVING, looked[slot])
            };
            if came(DEFAULT) {
                at.change = Change::None;
                return Some(());
            }
            gains |= came(1);
        }
        at.ledger.skip_to(at.ledger.head() + 1);
        at.ledger.moved_at = at.ledger.head();
        at.ledger.structure += 1;
        at.must_record = without != Without::ChangeRecorded;
        at.change = Change::Recording;
        self.seen.moved = true;
        if gains && without != Without::GainedCancelled {
            self.cancel_all(instance, MOVING);
        }
        Some(())
    }

    /// The change is written: the gate opens.
    pub fn open(&mut self, instance: usize) -> Option<()> {
        let at = &mut self.instances[instance];
        if at.change != Change::Recording || at.must_record {
            return None;
        }
        at.change = Change::None;
        Some(())
    }
}
