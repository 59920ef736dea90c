//! A model of etcd in memory.
//!
//! [`Etcd`] is the pure core: requests in, answers out, no clock, no socket. [`ModelStore`] puts
//! it behind the store port, counts the calls, and misbehaves as a [`Fault`] says. Facts are those
//! of etcd 3.6.16 (`server/etcdserver/txn/txn.go`, `server/storage/mvcc/kvstore_txn.go`), checked
//! by running the same programs against real servers.

mod etcd;
mod keyspace;
mod range;
mod txn;

mod lease;
mod watch;

mod fault;
mod store;

pub use etcd::{Etcd, Identity};
pub use fault::{Fault, Gate, Nonsense};
pub use keyspace::Keyspace;
pub use store::{ModelStore, Profile};
pub use watch::WatchStream;
