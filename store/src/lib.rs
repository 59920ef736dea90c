//! The port by which every store is reached, and etcd endpoints behind it.
//!
//! [`Store`] is the port; [`etcd::EtcdStore`] is what stands behind it for one or more etcd
//! endpoints, and [`kine::KineStore`] where a kine answers there; [`environment`] is what both take
//! from outside.

pub mod environment;
pub mod etcd;
pub mod kine;
pub mod metrics;
mod port;

pub use port::{Answers, Call, CallError, Lane, Requests, Store};
