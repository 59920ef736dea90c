//! etcd's key-value semantics over a [`Session`](crate::session::Session), for the writer and
//! for readers alike.

mod range;
mod txn;
mod write;

pub(crate) use range::{Scope, range};
pub(crate) use txn::only_reads;
pub(crate) use write::{Changed, Tx};
