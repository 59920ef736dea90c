//! Keyloom: one etcd v3 endpoint over many stores.
//!
//! The way of a request: [`listen`](ListenUrl) accepts, the stack's layers observe and bound,
//! `services` plan and answer, `order` translates revisions, and the stores do the work.

mod app;
mod instance;
mod bringup;

mod caller;
mod telemetry;
mod listen;
mod stack;
mod services;
mod runtime;
mod feeds;
mod failure;
mod snapshot;
mod order;
mod identity;

mod stores;
mod transfer;
mod topology_file;
mod watched_files;
mod admin;
mod metrics;
mod gauges;
mod environment;
mod workers;

pub mod cli;

pub use app::{Announce, ServeOptions, serve};
pub use bringup::{AcceptedError, Applied, BringUpError, Refusal};
pub use environment::Environment;
pub use feeds::WatchOptions;
pub use instance::{Instance, Options, StartError};
pub use listen::{
    Accept, AcceptedConnection, Listen, ListenUrl, ListenUrlError, TlsFiles, TokioListen,
};
pub use metrics::TopologyMetrics;
pub use order::{LedgerError, RenewOn};
pub use stack::AdmissionLimits;
pub use stores::OpenStores;
pub use watched_files::FileChanges;
pub use workers::Workers;
