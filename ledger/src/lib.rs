//! The ledger: the one total order of every store's revisions, store revision <-> unified revision.
//!
//! Pure data: no clock, no socket, no task, no lock. Whoever owns a [`Ledger`] serialises the calls
//! that change it; what is written to the default store, and when, is decided outside.
//!
//! Over one store nothing is persisted. Over several, the owner
//! - [flushes](Ledger::flush) a few times a second and on shutdown (then with [`Seal::clean`]), and
//!   [hides](Ledger::hide) the revision that the write got;
//! - makes *each* hidden write a flush (a heartbeat, a change of users): the revision of the last one
//!   is then all that a recovery has to be told;
//! - gives nothing out while [`Ledger::must_flush`], nor above what it reserved;
//! - starts with [`Restoring`], then [`recover`].
//!
//! # Words
//! A *visible* revision of a store takes one unified revision `u`. A *hidden* one, a write of
//! Keyloom's own to the default store, takes none. A *hole* is a `u` that maps to no store.
//!
//! # Invariants
//! They are of this crate, and have letters because the ordering rules below have numbers.
//!
//! - **a. Append only.** What a lookup answered for a `u` at or below the head, or for a revision at
//!   or below a store's frontier, it answers for ever (the one exception is at the open end, see e).
//! - **b. Order respects observation.** Each append goes above the head, and each store's visible
//!   revisions have strictly growing `u` in the order of the store.
//! - **c. Dense.** Above the start head each `u` up to the head belongs to exactly one store's visible
//!   revision, or to a hole.
//! - **d. Identity below.** A store that was there when the ledger started at revision `R` has `u = r`
//!   for `1 <= r <= R`; a store added later has it for `r = 1` alone (etcd's empty keyspace). So at or
//!   below the start head one `u` may stand for a revision of several stores.
//! - **e. Galois pair.** `store_at(s, u)` is the largest revision of `s` that lies before the first
//!   visible one above `u`, or the frontier if there is none: hidden revisions stand with the visible
//!   one before them. `below_next(s, r)` is the largest `u` with `store_at(s, u) <= r`, at most head.
//! - **f. Inverse.** `unified(s, r) == Some(u)` exactly if `store_exact(s, u) == Some(r)`.
//! - **g. Never 0.** No translation yields 0, which to a store means "latest" and to a client "none".
//!
#![doc = include_str!("../RULES.md")]

mod rev;

mod directory;
mod ledger;
mod sequence;

mod persist;
mod recover;

pub use directory::{AddStoreError, StoreInfo};
pub use ledger::{Ledger, StoreStart};
pub use persist::{AcceptedChange, AcceptedRange, AcceptedRecord, Stamp};
pub use persist::{Damage, Flush, HEAD, Mark, RestoreError, Restored, Restoring, Seal};
pub use recover::{Order, RecoverError, Recovery, WentBack, recover};
pub use rev::{StoreRev, StoreSlot, UnifiedRev};

#[cfg(test)]
mod tests;
