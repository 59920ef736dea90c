//! Keyloom: one etcd v3 endpoint over many stores.
//!
//! The way of a request: [`listen`](ListenUrl) accepts, the stack's layers observe and bound,
//! `services` plan and answer, `order` translates revisions, and the stores do the work.

mod app;
mod instance;

mod listen;
mod stack;
mod services;
mod feeds;
mod order;
mod snapshot;
mod reload;
mod identity;
mod failure;

mod stores;
mod transfer;
mod probe;
mod topology_file;
mod admin;
mod metrics;
mod gauges;

pub mod cli;

pub use app::{Announce, Environment, ServeOptions, serve};
pub use instance::{Instance, Options, StartError, WatchOptions};
pub use listen::{Accept, Listen, ListenUrl, ListenUrlError, TlsFiles, TokioListen};
pub use order::{BeginError, RenewOn};
pub use reload::{AcceptedError, FileChanges, OpenStores, Refusal, Taken, TopologyMetrics};
