//! A whole etcd on a SQL database, behind the store port.
//!
//! | module | what for |
//! |---|---|
//! | `engine` | every call, to the writer or to a reader |
//! | `kv`, `lease`, `watch` | etcd's semantics, on any dialect |
//! | `writer` | the one thread that gives out revisions; batches, chores |
//! | `readers`, `feed`, `key_counts` | reading: snapshots, newest events, counts |
//! | `session` | what is asked of a database: the seam |
//! | `dialect` | what stands behind the seam: SQLite |
//!
//! Another dialect (PostgreSQL, MySQL) is another folder in `dialect`: an implementation of
//! `session::Session`, the whole of what the core asks of a database, and of opening and closing
//! one. Nothing else knows SQL or a file: `engine`, `kv`, `lease`, `watch`, `writer`, `readers`,
//! `feed` and `key_counts` are generic over the session. Who may be the one writer is the dialect's to
//! settle when it opens a database, and so is [`Importer`]: with SQLite both are about files.

mod engine;
mod shared;

mod kv;
mod lease;
mod watch;

mod writer;

mod key_counts;
mod feed;
mod readers;
mod usage;

mod session;
mod statement;
mod wire;

mod dialect;

mod clock;
mod error;
mod metrics;
mod options;

pub use clock::{SystemClock, WallClock};
pub use dialect::sqlite::{
    ArgumentError, ImportError, Imported, ImportedLease, Importer, Restored, Snapshot,
    SqliteOptions, SqliteStore, Synchronous,
};
pub use error::{Fault, FaultKind, OpenError, Origin};
pub use metrics::Metrics;
pub use options::StoreOptions;
pub use session::Identity;
pub use usage::Usage;
