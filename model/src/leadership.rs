//! Own writes and the leadership (rule 8): `proxy/src/order/keeper.rs`, `proxy/src/order/leadership.rs`.
//!
//! There is no clock. A wait of a whole leadership shows in what has happened by its end: everything that
//! was sent before the look at its beginning is then older than a leadership ([`Sent`]).

use crate::{
    ledger::Ledger,
    variant::Without,
    world::{
        Asking, DEFAULT, Entry, Kept, Outcome, OwnWrite, Phase, RESERVED_AHEAD, STORES, Sent,
        Stamp, World,
    },
};

impl World {
    /// `Task::flush`: the transaction is sent.
    pub fn flush(&mut self, instance: usize, clean: bool) -> Option<()> {
        let at = &mut self.instances[instance];
        let may = match at.phase {
            Phase::Recovered | Phase::Serving => !clean,
            Phase::Ending => clean,
            _ => false,
        };
        if !may || at.own_write || at.stopped && !clean {
            return None;
        }
        if at.phase == Phase::Serving {
            self.budget.flushes = self.budget.flushes.checked_sub(1)?;
        }
        at.own_write = true;
        self.own.push(OwnWrite {
            stamp: Stamp {
                nonce: at.nonce,
                clean,
                takes: false,
                unserved: Vec::new(),
            },
            after: at.after,
            records: Some((at.ledger.clone(), at.ledger.head() + RESERVED_AHEAD)),
            outcome: None,
            sent: Sent::Lately,
        });
        Some(())
    }

    /// The default store takes the transaction, or its compare fails.
    pub fn lands(&mut self, without: Without, own: usize) -> Option<()> {
        let OwnWrite {
            stamp,
            after,
            records,
            outcome: None,
            ..
        } = self.own[own].clone()
        else {
            return None;
        };
        let store = &mut self.stores[DEFAULT];
        let kept = store.kept.clone()?;
        let outcome = if kept.stamp_at == after || without == Without::Compare {
            store.log.push(Entry::Own);
            let at = store.revision();
            let head_at = if records.is_some() { at } else { kept.head_at };
            let clean = if records.is_some() {
                stamp.clean
            } else {
                kept.clean
            };
            let (ledger, reserved) = records.unwrap_or((kept.ledger, kept.reserved));
            store.kept = Some(Kept {
                clean,
                stamp,
                stamp_at: at,
                head_at,
                ledger,
                reserved,
            });
            Outcome::Written(at)
        } else if kept.stamp == stamp {
            // An attempt before this one landed.
            Outcome::Written(kept.stamp_at)
        } else {
            Outcome::Lost
        };
        self.own[own].outcome = Some(outcome);
        if self.of(self.own[own].stamp.nonce).is_none() {
            self.own.remove(own);
        }
        Some(())
    }

    /// The answer to an own write arrives.
    pub fn written(&mut self, without: Without, own: usize) -> Option<()> {
        let outcome = self.own[own].outcome?;
        let instance = self.of(self.own[own].stamp.nonce)?;
        let OwnWrite {
            stamp,
            records,
            sent,
            ..
        } = self.own.remove(own);
        if stamp.takes {
            self.took(instance, outcome, stamp);
            return Some(());
        }
        let at = &mut self.instances[instance];
        at.own_write = false;
        let (Outcome::Written(revision), Some((written, reserved))) = (outcome, records) else {
            at.stopped = true;
            return Some(());
        };
        if at.phase == Phase::Ending {
            self.down(instance);
            return Some(());
        }
        at.ledger.hide(revision);
        at.mark_is_clean = false;
        at.must_record = at.ledger.must_flush(&written, false);
        if let Some(compaction) = &mut at.compaction {
            compaction.recorded |= written.compacted >= compaction.at;
        }
        at.mark = written;
        at.reserved = reserved;
        at.renewed = match without {
            Without::CountedFromSending => Sent::Lately,
            _ => sent,
        };
        at.after = revision;
        if at.phase == Phase::Recovered {
            at.phase = Phase::Serving;
            at.delivered = [at.ledger.frontier(0), at.ledger.frontier(1)];
        }
        Some(())
    }

    /// `begin` and `until_free`: a new run looks at the stamp.
    pub fn look(&mut self, instance: usize) -> Option<()> {
        let is_new = self.instances[instance].phase == Phase::Down;
        match self.instances[instance].phase {
            Phase::Down => self.budget.starts = self.budget.starts.checked_sub(1)?,
            // It changed since.
            Phase::Waiting { stamp_at } if self.stamp_at() != stamp_at => {}
            _ => return None,
        }
        if is_new {
            self.nonces += 1;
            self.instances[instance].nonce = self.nonces;
        }
        let kept = self.stores[DEFAULT].kept.as_ref()?;
        let (clean, stamp_at) = (kept.stamp.clean, kept.stamp_at);
        self.wait_begins(instance);
        self.instances[instance].phase = Phase::Waiting { stamp_at };
        if clean {
            self.take(instance);
        }
        Some(())
    }

    /// What is sent before now is older than a leadership when the wait that begins now is over.
    fn wait_begins(&mut self, instance: usize) {
        for (other, at) in self.instances.iter_mut().enumerate() {
            if other != instance && at.renewed == Sent::Lately {
                at.renewed = Sent::BeforeTheLook;
            }
        }
        for own in &mut self.own {
            if own.sent == Sent::Lately {
                own.sent = Sent::BeforeTheLook;
            }
        }
    }

    /// The stamp has not changed for the length of a leadership, by the clock of whoever waits.
    pub fn until_free(&mut self, without: Without, instance: usize) -> Option<()> {
        let Phase::Waiting { stamp_at } = self.instances[instance].phase else {
            return None;
        };
        if stamp_at != self.stamp_at() {
            return None;
        }
        if without != Without::SuccessorWait {
            for at in &mut self.instances {
                if at.renewed == Sent::BeforeTheLook {
                    at.renewed = Sent::LongAgo;
                }
            }
            for own in &mut self.own {
                if own.sent == Sent::BeforeTheLook {
                    own.sent = Sent::LongAgo;
                }
            }
        }
        self.take(instance);
        Some(())
    }

    fn stamp_at(&self) -> u8 {
        let kept = self.stores[DEFAULT].kept.as_ref();
        kept.map_or(0, |kept| kept.stamp_at)
    }

    /// `leadership::take`: the compared write is sent.
    fn take(&mut self, instance: usize) {
        let Some(kept) = &self.stores[DEFAULT].kept else {
            return;
        };
        let mut unserved = Vec::new();
        if kept.stamp.takes {
            unserved.clone_from(&kept.stamp.unserved);
            unserved.push(kept.stamp_at);
        }
        self.own.push(OwnWrite {
            stamp: Stamp {
                nonce: self.instances[instance].nonce,
                clean: false,
                takes: true,
                unserved,
            },
            after: kept.stamp_at,
            records: None,
            outcome: None,
            sent: Sent::Lately,
        });
        self.instances[instance].phase = Phase::Taking;
    }

    fn took(&mut self, instance: usize, outcome: Outcome, stamp: Stamp) {
        let stamp_at = self.stamp_at();
        if outcome == Outcome::Lost {
            self.wait_begins(instance);
        }
        self.instances[instance].phase = match outcome {
            Outcome::Written(taken) => Phase::Asking(Box::new(Asking {
                taken,
                before: stamp.unserved,
                kept: None,
                observed: [None; STORES],
                absent: [false; STORES],
            })),
            // Somebody was faster: it looks again, and waits the whole time again.
            Outcome::Lost => Phase::Waiting { stamp_at },
        };
    }

    /// What the first start leaves behind: a ledger over two empty stores, written once.
    pub(crate) fn first_ledger(&mut self) {
        let ledger = Ledger::start();
        let stamp = Stamp {
            nonce: 1,
            clean: false,
            takes: false,
            unserved: Vec::new(),
        };
        self.nonces = 1;
        self.stores[DEFAULT].log.push(Entry::Own);
        self.stores[DEFAULT].kept = Some(Kept {
            stamp,
            stamp_at: 2,
            head_at: 2,
            ledger: ledger.clone(),
            reserved: 1 + RESERVED_AHEAD,
            clean: false,
        });
        let at = &mut self.instances[0];
        at.nonce = 1;
        at.phase = Phase::Serving;
        at.mark = ledger.clone();
        at.ledger = ledger;
        at.ledger.hide(2);
        at.after = 2;
        at.reserved = 1 + RESERVED_AHEAD;
        at.renewed = Sent::Lately;
        at.delivered = [2, 1];
    }
}
