//! Draws one step after the other.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange, Status, check_txn,
    etcdserverpb::{CompactionRequest, TxnRequest, request_op::Request},
};

use super::{Chance, Settings, memory::Memory, settings::Group};
use crate::{Answer, Step};

/// Makes programs from a seed and from the answers that it is told.
#[derive(Clone, Debug)]
pub struct Generator {
    pub(super) chance: Chance,
    pub(super) settings: Settings,
    pub(super) memory: Memory,
    /// How many values were drawn, so that some are never drawn twice.
    pub(super) values: u64,
    /// What those values begin with, so that several generators do not draw the same.
    pub(super) mark: u64,
}

/// Which keys a request may touch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// Those of all groups, and any range.
    Any,
    /// Those of one group, by its place.
    Group(usize),
}

impl Generator {
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            chance: Chance::new(seed),
            settings,
            memory: Memory::default(),
            values: 0,
            mark: seed,
        }
    }

    /// The next request.
    pub fn next_step(&mut self) -> Step {
        let step = match self.chance.below(100) {
            0..35 => Step::Range(self.range(Scope::Any)),
            35..60 => Step::Put(self.put(Scope::Any)),
            60..70 => {
                let scope = self.scope_of_write();
                Step::DeleteRange(self.delete_range(scope))
            }
            70..78 => Step::Txn(self.optimistic()),
            78..94 => Step::Txn(self.mostly_valid_txn()),
            94..97 if self.settings.compactions => Step::Compact(CompactionRequest {
                revision: self.memory.revision_to_compact(&mut self.chance),
                physical: false,
            }),
            _ => Step::Txn(self.read_only()),
        };
        if self.settings.bad_requests && self.chance.percent(3) {
            self.spoil(step)
        } else {
            step
        }
    }

    /// Tells the generator what the reference answered.
    pub fn learn(&mut self, step: &Step, answer: &Result<Answer, Status>) {
        if let Ok(answer) = answer {
            self.memory.learn(step, answer);
        }
    }

    pub(super) fn scope_of_write(&mut self) -> Scope {
        if self.settings.spanning_writes {
            Scope::Any
        } else {
            Scope::Group(self.chance.below(self.settings.groups.len()))
        }
    }

    /// A transaction that etcd mostly does not refuse for its shape.
    fn mostly_valid_txn(&mut self) -> TxnRequest {
        let scope = self.scope_of_write();
        let any = self.settings.bad_requests && self.chance.percent(15);
        for _ in 0..20 {
            let txn = self.txn(scope, 3);
            if (any || check_txn(&txn, 128).is_ok()) && !stops_etcd(&txn) {
                return txn;
            }
        }
        self.optimistic()
    }

    /// A key of the program.
    pub(super) fn key(&mut self, scope: Scope) -> Bytes {
        let group = match scope {
            Scope::Group(at) => self.settings.groups.get(at),
            Scope::Any => self.chance.pick(&self.settings.groups),
        };
        group
            .and_then(|group| self.chance.pick(&group.keys))
            .cloned()
            .unwrap_or_else(|| Bytes::from_static(b"key"))
    }

    /// A key of the program, or one near it that no program ever sets.
    pub(super) fn key_or_near(&mut self, scope: Scope) -> Bytes {
        let mut key = self.key(scope).to_vec();
        if self.chance.percent(8) {
            key.extend_from_slice(b"\0");
        } else if self.chance.percent(8) {
            key.extend_from_slice(b"/none");
        }
        key.into()
    }

    /// The `key` and `range_end` of a request.
    pub(super) fn bounds(&mut self, scope: Scope) -> (Bytes, Bytes) {
        let key = self.key_or_near(scope);
        match (self.chance.below(100), scope) {
            (0..45, _) => (key, Bytes::new()),
            (45..60, _) => self.whole_group(scope),
            (60..75, _) => self.folder(key, scope),
            // Backward ranges and empty ones among them.
            (75..85, Scope::Group(_)) => {
                let end = self.key(scope);
                (key, end)
            }
            (85.., Scope::Group(_)) => {
                let (_, end) = self.whole_group(scope);
                (key, end)
            }
            (75..90, Scope::Any) => {
                let end = self.key(scope);
                (key, end)
            }
            (90..95, Scope::Any) => (key, Bytes::from_static(b"\0")),
            (_, Scope::Any) => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        }
    }

    fn whole_group(&mut self, scope: Scope) -> (Bytes, Bytes) {
        let group = match scope {
            Scope::Group(at) => self.settings.groups.get(at),
            Scope::Any => self.chance.pick(&self.settings.groups),
        };
        let range = group.map_or_else(KeyRange::all, |group: &Group| {
            KeyRange::prefix(group.prefix.clone())
        });
        let end = range.range_end();
        (range.start, end)
    }

    /// Everything in the folder of a key, or in one above it; inside the group where the scope
    /// is one.
    fn folder(&mut self, key: Bytes, scope: Scope) -> (Bytes, Bytes) {
        let slashes: Vec<_> = (0..key.len())
            .filter(|&at| key.get(at) == Some(&b'/'))
            .collect();
        let Some(&slash) = self.chance.pick(&slashes) else {
            return (key, Bytes::new());
        };
        let prefix = key.slice(..=slash);
        let outside = |group: &Group| !prefix.starts_with(&group.prefix);
        if let Scope::Group(at) = scope
            && self.settings.groups.get(at).is_some_and(outside)
        {
            return self.whole_group(scope);
        }
        let range = KeyRange::prefix(prefix);
        let end = range.range_end();
        (range.start, end)
    }

    /// A value: from a few, empty among them, or one that no other step writes.
    pub(super) fn value(&mut self) -> Bytes {
        if self.chance.percent(40) {
            let few: [&'static str; 4] = ["", "a", "b", "10"];
            return self.chance.pick(&few).copied().unwrap_or_default().into();
        }
        self.values += 1;
        format!("value {} of {:x}", self.values, self.mark).into()
    }
}

/// Whether a put stands beside a delete without an end.
///
/// etcd (3.4.23 and 3.6.16) does not see that they overlap, lets the transaction through, and
/// panics: at once where the put keeps the value or the lease of what was deleted, and at the next
/// read where it is compacted at just that revision.
fn stops_etcd(txn: &TxnRequest) -> bool {
    let ops = every_op(txn);
    let endless = |op: &Request| match op {
        Request::RequestDeleteRange(delete) => delete.range_end[..] == *b"\0",
        _ => false,
    };
    let puts = |op: &Request| matches!(op, Request::RequestPut(_));
    ops.iter().any(|op| endless(op)) && ops.iter().any(|op| puts(op))
}

/// Every operation of both branches, nested ones included.
fn every_op(txn: &TxnRequest) -> Vec<&Request> {
    let mut ops = Vec::new();
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestTxn(txn)) => ops.extend(every_op(txn)),
            Some(request) => ops.push(request),
            None => {}
        }
    }
    ops
}
