//! The state of the model: the stores, what is on its way to them, the instances, and the clients.

use crate::{
    ledger::Ledger,
    told::{Broken, Told, Value},
};

/// A store's own revision. An empty store is at 1, as an etcd.
pub type Rev = u8;
/// A unified revision.
pub type U = u8;
pub type Slot = usize;
/// The number of a write, in the order in which the stores committed them. 0 is none.
pub type Id = u8;
pub type Key = usize;
/// One run of an instance.
pub type Nonce = u8;

pub const STORES: usize = 2;
pub const DEFAULT: Slot = 0;
/// Key 0 lives on the default store, key 1 on the other one, and key 2 moves from the first to the
/// second.
pub const KEYS: usize = 3;
pub const MOVING: Key = 2;
/// How far ahead unified revisions are reserved.
pub const RESERVED_AHEAD: U = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub stores: [Store; STORES],
    pub instances: Vec<Instance>,
    /// Calls of clients.
    pub calls: Vec<Call>,
    /// Own writes on their way to the default store, or back.
    pub own: Vec<OwnWrite>,
    pub caches: Vec<Cache>,
    pub told: Told,
    pub budget: Budget,
    /// How many writes were committed, and how many runs there were.
    pub ids: Id,
    pub nonces: Nonce,
    /// Whether a store lost what it had.
    pub went_back: bool,
    /// What the exploration wants to have seen.
    pub seen: Seen,
    pub broken: Option<Broken>,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub puts: u8,
    pub deletes: u8,
    pub reads: u8,
    /// Writes of others, directly to a store.
    pub others: u8,
    pub flushes: u8,
    pub crashes: u8,
    pub ends: u8,
    pub starts: u8,
    /// Stores that do not answer at a start.
    pub absences: u8,
    pub lists: u8,
    pub old_lists: u8,
    pub watches: u8,
    pub compactions: u8,
    /// Compactions of a store by others.
    pub other_compactions: u8,
    pub reroutes: u8,
    pub give_ups: u8,
    pub backups: u8,
}

/// Marks that the interesting things were reached: a model that cannot reach them shows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub order_lost: bool,
    pub order_known: bool,
    pub taken_over: bool,
    pub shut_out: bool,
    pub returned: bool,
    pub cancelled: bool,
    pub moved: bool,
    pub late: bool,
    pub compacted: bool,
    pub floor_raised: bool,
    pub compacted_by_others: bool,
}

// === stores ===

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Event {
        key: Key,
        id: Id,
        delete: bool,
    },
    /// A write of Keyloom's own.
    Own,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// From revision 2 on.
    pub log: Vec<Entry>,
    pub compacted: Rev,
    /// The cluster id: another one after a restore.
    pub cluster: u8,
    /// The default store's alone.
    pub kept: Option<Kept>,
    pub backup: Option<Box<Store>>,
    /// Where it stood before it was taken back; 0 if it never was.
    pub had: Rev,
}

/// What the default store keeps of Keyloom's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    pub stamp: Stamp,
    pub stamp_at: Rev,
    pub head_at: Rev,
    pub ledger: Ledger,
    pub reserved: U,
    /// The ledger's own seal. Taking the leadership does not touch it.
    pub clean: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub nonce: Nonce,
    pub clean: bool,
    /// Whether it is the one that takes the leadership.
    pub takes: bool,
    /// Takings since the ledger was written.
    pub unserved: Vec<Rev>,
}

/// A transaction of Keyloom's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnWrite {
    pub stamp: Stamp,
    /// The revision of the stamp that it is compared with.
    pub after: Rev,
    /// The ledger and what it reserves; a write that takes the leadership has none.
    pub records: Option<(Ledger, U)>,
    pub outcome: Option<Outcome>,
    pub sent: Sent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Written(Rev),
    Lost,
}

/// How long ago something was sent, as a successor's wait has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    Lately,
    /// Before a successor looked at the stamp.
    BeforeTheLook,
    /// A whole leadership ago.
    LongAgo,
}

// === instances ===

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Down,
    /// Waits until the stamp that it saw has not changed for the length of a leadership.
    Waiting {
        stamp_at: Rev,
    },
    /// The write that takes the leadership is under way.
    Taking,
    /// Asks the stores where they stand.
    Asking(Box<Asking>),
    /// The order is recovered and not yet written.
    Recovered,
    Serving,
    /// The last write is under way, or done.
    Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asking {
    pub taken: Rev,
    pub before: Vec<Rev>,
    pub kept: Option<Kept>,
    pub observed: [Option<Rev>; STORES],
    pub absent: [bool; STORES],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    pub phase: Phase,
    pub nonce: Nonce,
    pub ledger: Ledger,
    pub mark: Ledger,
    pub mark_is_clean: bool,
    /// The revision of the last own write.
    pub after: Rev,
    pub own_write: bool,
    pub must_record: bool,
    pub reserved: U,
    /// When the last renewal was sent: past the length of the leadership nothing leaves.
    pub renewed: Sent,
    pub stopped: bool,
    pub shut_out: [bool; STORES],
    pub clusters: [u8; STORES],
    /// What the hub has delivered of each store.
    pub delivered: [Rev; STORES],
    /// What was compacted before the hub delivered it: above the first, up to the second.
    pub lost: [(Rev, Rev); STORES],
    pub change: Change,
    pub compaction: Option<Compaction>,
}

/// A change of routes on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    None,
    /// Writes to what moves are held.
    Held,
    /// No key is in the way; what the old store had at that revision has its place.
    Checked {
        gains: bool,
        /// Where the stores stood.
        at: [Rev; STORES],
    },
    /// It has its place and is not written yet.
    Recording,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compaction {
    pub at: U,
    pub recorded: bool,
    pub done: [bool; STORES],
}

// === clients ===

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub nonce: Nonce,
    pub key: Key,
    pub slot: Slot,
    pub what: What,
    /// What `admit` gave before the call.
    pub known: Rev,
    /// What every client together knew when it began.
    pub began: Began,
    pub answer: Option<Answer>,
    /// Nobody waits for it any more; it may still land.
    pub given_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Put,
    Delete,
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Began {
    pub newest: U,
    pub acknowledged: Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub revision: Rev,
    pub id: Id,
    pub present: bool,
    pub cluster: u8,
}

/// A client that lists and watches a range over some stores, as a Kubernetes cache does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cache {
    pub keys: Vec<Key>,
    /// What it has, and up to where; none before it has listed.
    pub has: Option<(U, [Value; KEYS])>,
    /// The run that its watch is open with.
    pub watching: Option<Nonce>,
}

// === impl ===

impl Store {
    pub fn revision(&self) -> Rev {
        crate::ledger::small(self.log.len()) + 1
    }

    /// Whether it went back and has as many revisions again as were lost, under the same cluster id:
    /// what it says then cannot be told from what it said. The model assumes that nobody reads it
    /// before the answer to a write shows it.
    pub fn has_caught_up(&self) -> bool {
        self.had > 0 && self.cluster == 0 && self.revision() >= self.had
    }

    pub fn entry(&self, r: Rev) -> Option<&Entry> {
        self.log.get(usize::from(r).checked_sub(2)?)
    }

    /// The last write to a key up to a revision, and whether the key is there.
    pub fn key_at(&self, key: Key, r: Rev) -> (Id, bool) {
        let log = self.log.iter().take(usize::from(r).saturating_sub(1));
        let of_key = log.rev().find_map(|entry| match entry {
            Entry::Event {
                key: at,
                id,
                delete,
            } if *at == key => Some((*id, !*delete)),
            _ => None,
        });
        of_key.unwrap_or((0, false))
    }
}

impl Instance {
    pub fn down() -> Self {
        Self {
            phase: Phase::Down,
            nonce: 0,
            ledger: Ledger::start(),
            mark: Ledger::start(),
            mark_is_clean: false,
            after: 0,
            own_write: false,
            must_record: false,
            reserved: 0,
            renewed: Sent::LongAgo,
            stopped: false,
            shut_out: [false; STORES],
            clusters: [0; STORES],
            delivered: [1; STORES],
            lost: [(0, 0); STORES],
            change: Change::None,
            compaction: None,
        }
    }

    /// The newest unified revision that is reserved.
    pub fn head(&self) -> U {
        self.ledger.head().min(self.reserved)
    }

    /// Where a key lives at a place of the order.
    pub fn route_at(&self, key: Key, u: U) -> Slot {
        let moved = self.ledger.moved_at;
        match key {
            MOVING if moved == 0 || u < moved => DEFAULT,
            MOVING => 1,
            key => key,
        }
    }

    pub fn route(&self, key: Key) -> Slot {
        self.route_at(key, U::MAX)
    }
}

impl World {
    pub fn of(&self, nonce: Nonce) -> Option<usize> {
        self.instances
            .iter()
            .position(|instance| instance.nonce == nonce && instance.phase != Phase::Down)
    }
}
