//! What clients were told, and when that contradicts itself. This is what "as one etcd" means here.
//!
//! Whatever a client reads says of some keys what they were at a unified revision: a *fact*. All the
//! facts that all clients ever heard must fit into one history:
//! - at one unified revision a key is one thing ([`Broken::Torn`]);
//! - from one to a larger one it never goes back ([`Broken::Backwards`]);
//! - what is told includes what was acknowledged before it was asked for ([`Broken::Lost`]), and a
//!   revision that grew since ([`Broken::RealTime`]);
//! - a unified revision is one write's for ever ([`Broken::Reassigned`]).
//!
//! A cache says more, for it knows what it has: it is given each event once ([`Broken::Repeated`])
//! and none is left out ([`Broken::Skipped`]).

use crate::world::{Began, Id, KEYS, Key, U};

/// A write to a key: its number, and whether the key is there after it. Of two of one key the later
/// one is larger; 0 is a key that nobody wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(u8);

impl Value {
    pub fn of((id, present): (Id, bool)) -> Self {
        Self(id << 1 | u8::from(present))
    }

    pub fn id(self) -> Id {
        self.0 >> 1
    }

    pub fn is_present(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A promise that was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// One unified revision, two contents.
    Torn,
    /// A larger unified revision, an older content.
    Backwards,
    /// An acknowledged write is not there.
    Lost,
    /// A revision that is not larger than one that was told before the call began.
    RealTime,
    /// One unified revision, two writes.
    Reassigned,
    /// A write of Keyloom's own takes a unified revision.
    NotDense,
    /// An event that the cache had.
    Repeated,
    /// An event that the cache never gets.
    Skipped,
    /// What was compacted is read.
    CompactedRead,
    /// A watch lost its place by Keyloom's own compaction.
    Overtaken,
    /// A lease that was revoked holds a key.
    Leaked,
    /// A key ended with its lease while the client kept it alive.
    Expired,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// The largest unified revision of all.
    pub newest: U,
    pub acknowledged: [Value; KEYS],
    facts: Vec<(U, Key, Value)>,
    /// Which write was said to have which revision.
    writes: Vec<(U, Id)>,
    /// The compaction that was acknowledged.
    pub compacted: U,
}

// === impl Told ===

impl Told {
    pub fn began(&self, key: Key) -> Began {
        Began {
            newest: self.newest,
            acknowledged: self.acknowledged[key].id(),
        }
    }

    /// A key was this at `u`.
    pub fn fact(&mut self, u: U, key: Key, value: Value) -> Result<(), Broken> {
        for (at, _, other) in self.facts.iter().filter(|(_, of, _)| *of == key) {
            let (older, newer) = match at.cmp(&u) {
                std::cmp::Ordering::Equal if *other == value => return Ok(()),
                std::cmp::Ordering::Equal => return Err(Broken::Torn),
                std::cmp::Ordering::Less => (*other, value),
                std::cmp::Ordering::Greater => (value, *other),
            };
            if newer < older {
                return Err(Broken::Backwards);
            }
        }
        self.facts.push((u, key, value));
        self.facts.sort_unstable();
        self.newest = self.newest.max(u);
        Ok(())
    }

    /// This write has this revision.
    pub fn write(&mut self, u: U, id: Id) -> Result<(), Broken> {
        if self
            .writes
            .iter()
            .any(|(at, other)| *at == u && *other != id)
        {
            return Err(Broken::Reassigned);
        }
        if !self.writes.contains(&(u, id)) {
            self.writes.push((u, id));
            self.writes.sort_unstable();
        }
        Ok(())
    }

    /// An answer to a call that began so. A write's revision is its own: larger than all before.
    pub fn answer(&self, u: U, wrote: bool, value: Value, began: Began) -> Result<(), Broken> {
        if u < began.newest || wrote && u == began.newest {
            return Err(Broken::RealTime);
        }
        if value.id() < began.acknowledged {
            return Err(Broken::Lost);
        }
        Ok(())
    }

    pub fn acknowledge(&mut self, key: Key, value: Value) {
        self.acknowledged[key] = self.acknowledged[key].max(value);
    }
}
