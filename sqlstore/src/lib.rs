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
