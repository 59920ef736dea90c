//! A whole etcd on a SQL database, behind the store port.
//!
//! | module | what for |
//! |---|---|
//! | [`SqliteStore`] | opening, the port, closing |
//! | `engine` | every call, to the writer or to a reader |
//! | `kv`, `lease`, `watch` | etcd's semantics, on any dialect |
//! | `writer` | the one thread that gives out revisions; batches, chores |
//! | `readers`, `feed`, `census` | reading: snapshots, newest events, counts |
//! | `session` | what is asked of a database: the seam |
//! | `dialect` | what stands behind the seam: SQLite |
//! | `lock`, `given_out` | files beside a database: who owns it, and how far it got |
//! | [`Importer`] | a new database from the contents of another store |
//!
//! Another dialect (PostgreSQL, MySQL) is another implementation of `session::Session`, the whole
//! of what the core asks of a database, and of what [`SqliteStore`] does to open and close one.
//! Nothing else knows SQL: `engine`, `kv`, `lease`, `watch`, `writer`, `readers`, `feed` and
//! `census` are generic over the session. What such a database needs and a file does not is the
//! right to be the one writer: in the place of `lock` and `given_out`, which are about files.

mod store;

mod engine;
mod shared;

mod kv;
mod lease;
mod watch;

mod writer;

mod census;
mod feed;
mod readers;
mod usage;

mod session;
mod statement;
mod wire;

mod dialect;
mod given_out;
mod import;
mod lock;

mod clock;
mod error;
mod metrics;
mod options;

pub use clock::{SystemClock, WallClock};
pub use error::{Fault, FaultKind, OpenError, Origin};
pub use import::{ImportError, Imported, ImportedLease, Importer, Snapshot};
pub use metrics::Metrics;
pub use options::{ArgumentError, Restored, SqliteOptions, Synchronous};
pub use session::Identity;
pub use store::SqliteStore;
pub use usage::Usage;
