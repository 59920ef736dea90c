//! A lease that lives on the default store, and on another store since a key there used it:
//! `proxy/src/services/lease.rs`, `lease/materialise.rs`, `memory.rs`, `turns.rs`.
//!
//! One lease and one key of the other store; puts with the lease and revokes, any of which may be
//! given up while its call still lands, and a crash that takes the memory. A revoke that was
//! acknowledged, or a lease that a client was told to be gone, must leave no key behind once nothing
//! is under way any more.
//!
//! ```text
//!   put:     held? ── no ─► turn ─► granted_ttl (default) ─► grant_on (other) ─► forward
//!   revoke:  turns of all ─► revoke_on (other), unless held is No ─► default ─► forget
//! ```
//!
//! Time to live is left out: here a lease ends by a revoke, or at any moment by itself.

use stateright::{Model, Property};

use crate::variant::Without;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    Unknown,
    Yes,
    No,
}

/// Where a call stands: the next thing that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// A put, and whether it was refused once.
    Held {
        again: bool,
    },
    Turn {
        again: bool,
    },
    GrantedTtl {
        again: bool,
    },
    GrantOn {
        again: bool,
    },
    Forward {
        again: bool,
    },

    Turns,
    RevokeOn,
    RevokeDefault,
}

/// A call that nobody waits for any more, and that may land.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Late {
    Grant,
    Put,
    RevokeOn,
    RevokeDefault,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub on_default: bool,
    pub on_other: bool,
    /// Whether the key is there, with the lease.
    pub key: bool,
    pub held: Held,
    pub ops: Vec<Op>,
    pub late: Vec<Late>,
    /// Whether a client was told that the lease is gone.
    pub told_gone: bool,
    /// A grant that everybody had given up came to the other store beside a revoke. What is put
    /// there with it, by a put that was given up as well, ends with its time to live alone
    /// (docs/concepts/guarantees.md, known differences).
    pub came_late: bool,
    pub puts: u8,
    pub revokes: u8,
    pub crashes: u8,
    pub give_ups: u8,
    pub expiries: u8,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    pub size: u8,
    pub without: Without,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseStep {
    Put,
    Revoke,
    /// The call goes on to its next step.
    Goes(usize),
    GiveUp(usize),
    Lands(usize),
    Crash,
    ExpiresOnDefault,
    ExpiresOnOther,
}

impl Model for Leases {
    type State = Lease;
    type Action = LeaseStep;

    fn init_states(&self) -> Vec<Lease> {
        vec![Lease {
            on_default: true,
            on_other: false,
            key: false,
            held: Held::No,
            ops: Vec::new(),
            late: Vec::new(),
            told_gone: false,
            came_late: false,
            puts: 1 + self.size,
            revokes: 2,
            crashes: 1,
            give_ups: 1 + self.size,
            expiries: 1,
        }]
    }

    fn actions(&self, lease: &Lease, steps: &mut Vec<LeaseStep>) {
        steps.extend([
            LeaseStep::Put,
            LeaseStep::Revoke,
            LeaseStep::Crash,
            LeaseStep::ExpiresOnDefault,
            LeaseStep::ExpiresOnOther,
        ]);
        for op in 0..lease.ops.len() {
            steps.extend([LeaseStep::Goes(op), LeaseStep::GiveUp(op)]);
        }
        steps.extend((0..lease.late.len()).map(LeaseStep::Lands));
    }

    fn next_state(&self, lease: &Lease, step: LeaseStep) -> Option<Lease> {
        let mut next = lease.clone();
        match step {
            LeaseStep::Put => {
                next.puts = next.puts.checked_sub(1)?;
                next.ops.push(Op::Held { again: false });
            }
            LeaseStep::Revoke => {
                next.revokes = next.revokes.checked_sub(1)?;
                next.ops.push(Op::Turns);
            }
            LeaseStep::Goes(op) => self.goes(&mut next, op)?,
            LeaseStep::GiveUp(op) => next.give_up(op)?,
            LeaseStep::Lands(late) => next.lands(late),
            LeaseStep::Crash => {
                next.crashes = next.crashes.checked_sub(1)?;
                // What was sent may land.
                let sent: Vec<Late> = next.ops.drain(..).filter_map(Op::sent).collect();
                next.late.extend(sent);
                next.held = Held::Unknown;
            }
            LeaseStep::ExpiresOnDefault => next.expires(true)?,
            LeaseStep::ExpiresOnOther => next.expires(false)?,
        }
        next.ops.sort_unstable();
        next.late.sort_unstable();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a lease that is gone holds no key", |_, lease: &Lease| {
                let is_quiet = lease.ops.is_empty() && lease.late.is_empty();
                !(is_quiet && lease.told_gone && lease.key && !lease.came_late)
            }),
            Property::sometimes("a key has the lease", |_, lease: &Lease| lease.key),
            Property::sometimes("a lease is revoked with its key", |_, lease: &Lease| {
                lease.told_gone && lease.held == Held::Unknown && !lease.on_other
            }),
        ]
    }
}

// === impl Op ===

impl Op {
    /// What is on its way to a store while the call waits there.
    fn sent(self) -> Option<Late> {
        match self {
            Self::GrantOn { .. } => Some(Late::Grant),
            Self::Forward { .. } => Some(Late::Put),
            Self::RevokeOn => Some(Late::RevokeOn),
            Self::RevokeDefault => Some(Late::RevokeDefault),
            Self::Held { .. } | Self::Turn { .. } | Self::GrantedTtl { .. } | Self::Turns => None,
        }
    }

    fn has_turn(self) -> bool {
        match self {
            Self::GrantedTtl { .. } | Self::GrantOn { .. } => true,
            Self::RevokeOn | Self::RevokeDefault => true,
            Self::Held { .. } | Self::Turn { .. } | Self::Forward { .. } | Self::Turns => false,
        }
    }
}

// === impl Lease ===

impl Lease {
    fn give_up(&mut self, op: usize) -> Option<()> {
        self.give_ups = self.give_ups.checked_sub(1)?;
        let late = self.ops[op].sent()?;
        self.late.push(late);
        self.ops.remove(op);
        Some(())
    }

    fn lands(&mut self, late: usize) {
        match self.late.remove(late) {
            Late::Grant => {
                self.on_other = true;
                self.came_late = true;
            }
            Late::Put => self.key |= self.on_other,
            Late::RevokeOn => self.end_on_other(),
            Late::RevokeDefault => self.on_default = false,
        }
    }

    fn expires(&mut self, on_default: bool) -> Option<()> {
        self.expiries = self.expiries.checked_sub(1)?;
        match on_default {
            true => self.on_default = false,
            false => self.end_on_other(),
        }
        Some(())
    }

    fn end_on_other(&mut self) {
        self.on_other = false;
        self.key = false;
    }
}

// === impl Leases ===

impl Leases {
    fn goes(self, lease: &mut Lease, op: usize) -> Option<()> {
        let others = lease.ops.iter().enumerate().filter(|(at, _)| *at != op);
        let turn_is_free =
            !others.clone().any(|(_, op)| op.has_turn()) || self.without == Without::Turns;
        let next = match lease.ops[op] {
            Op::Held { again } if lease.held == Held::Yes => Some(Op::Forward { again }),
            Op::Held { again } => Some(Op::Turn { again }),
            Op::Turn { .. } | Op::Turns if !turn_is_free => return None,
            Op::Turn { again } => match lease.held {
                Held::Yes => Some(Op::Forward { again }),
                Held::Unknown | Held::No => Some(Op::GrantedTtl { again }),
            },
            Op::GrantedTtl { again } => self.granted_ttl(lease, again),
            Op::GrantOn { again } => {
                // `already exists` is success.
                lease.on_other = true;
                lease.held = Held::Yes;
                Some(Op::Forward { again })
            }
            Op::Forward { again } => lease.forward(again),
            Op::Turns if self.without == Without::DefaultLast => Some(Op::RevokeDefault),
            Op::Turns => Some(self.next_of_turns(lease)),
            Op::RevokeOn => {
                lease.end_on_other();
                lease.held = Held::No;
                match self.without {
                    Without::DefaultLast => {
                        lease.told_gone = true;
                        None
                    }
                    _ => Some(Op::RevokeDefault),
                }
            }
            Op::RevokeDefault => self.revoke_default(lease),
        };
        match next {
            Some(next) => lease.ops[op] = next,
            None => drop(lease.ops.remove(op)),
        }
        Some(())
    }

    /// `granted_ttl`: whether the default store has it.
    fn granted_ttl(self, lease: &mut Lease, again: bool) -> Option<Op> {
        if !lease.on_default && self.without != Without::DefaultAsked {
            lease.held = Held::Unknown;
            return None;
        }
        lease.held = Held::Unknown;
        Some(Op::GrantOn { again })
    }

    /// `holders`
    fn next_of_turns(self, lease: &mut Lease) -> Op {
        let is_asked = match lease.held {
            Held::Yes => true,
            Held::Unknown => self.without != Without::UnknownIsAsked,
            Held::No => false,
        };
        if !is_asked {
            return Op::RevokeDefault;
        }
        lease.held = Held::Unknown;
        Op::RevokeOn
    }

    fn revoke_default(self, lease: &mut Lease) -> Option<Op> {
        let was = std::mem::replace(&mut lease.on_default, false);
        if self.without == Without::DefaultLast && was {
            return Some(Op::RevokeOn);
        }
        // Revoked, or `not found`.
        lease.held = Held::Unknown;
        lease.told_gone = true;
        None
    }
}

impl Lease {
    /// The put itself.
    fn forward(&mut self, again: bool) -> Option<Op> {
        if self.on_other {
            self.key = true;
            return None;
        }
        // Refused: what was remembered is not so.
        self.held = Held::Unknown;
        (!again).then_some(Op::Held { again: true })
    }
}
