//! The three numbers of the ledger, as types that cannot be mixed.
//!
//! Invariant: a `UnifiedRev` is made from what a client sent or from the ledger, a `StoreRev` from
//! what a store answered or from the ledger; only the ledger turns one into the other.

use std::fmt;

/// A revision that clients see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnifiedRev(i64);

/// A store's own revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StoreRev(i64);

/// A store's place in the ledger, the same for ever, also after the store has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoreSlot(u16);

impl UnifiedRev {
    pub const fn new(rev: i64) -> Self {
        Self(rev)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

impl StoreRev {
    /// Where an empty etcd stands.
    pub const FIRST: Self = Self(1);

    pub const fn new(rev: i64) -> Self {
        Self(rev)
    }

    pub const fn get(self) -> i64 {
        self.0
    }
}

impl StoreSlot {
    /// The default store, which also keeps the ledger.
    pub const DEFAULT: Self = Self(0);

    pub const fn new(slot: u16) -> Self {
        Self(slot)
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for UnifiedRev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StoreRev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StoreSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
