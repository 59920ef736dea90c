//! What the whole-program tests stand on: real processes, real clients, and the questions they ask.
//!
//! Run by `cargo xtask e2e`, which says in the environment where the programs are. Every process
//! has ports and a folder of its own and dies with the value that owns it.
//!
//! | module | what for |
//! |---|---|
//! | [`programs`] | where etcd, etcdctl and keyloom are |
//! | [`process`] | a child that dies with its owner and shows its log when a test fails |
//! | [`etcd`], [`keyloom`], [`grpc_proxy`], [`etcdctl`] | the programs |
//! | [`served`] | a program that keeps its address when it is started again |
//! | [`tls`], [`page`] | certificates, and the documentation as something that is run |
//! | [`disk`] | a disk that can be full |
//! | [`ground`] | the stores of a topology: etcds, SQLite files, or both |
//! | [`client`] | calls to an endpoint, independent of Keyloom's own way to stores |
//! | [`poll`], [`http`], [`metrics`] | waiting for a state, and reading counters |
//! | [`duel`] | a random program against two endpoints |
//! | [`topology`] | topology files, and where keys must lie |
//! | [`split`] | a program over several stores against one etcd |
//! | [`crowd`] | clients at the same time, and whether one etcd could have answered so |
//! | [`routes`] | random keys and ranges, and the calls that they cost |
//! | [`watching`] | watch streams, and programs of watch calls |
//! | [`stage`] | what tests of failures begin with |
//! | [`robustness`] | everything at once, in rounds, and every checker over it |
//! | [`trial`] | clients that go on while Keylooms are killed, paused and replaced |
//! | [`soak`] | stores for an hour, trouble, and whether anything grows |
//! | [`wire`] | TCP connections that can be made bad |
//! | [`matrix`] | a fault, a kind of call during it, and all checkers |
//! | [`kubernetes`] | a kube-apiserver, a controller manager and kubectl, and what is asked of them |

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "support of tests: a surprise ends the test with the reason"
)]

pub mod programs;
pub mod poll;
pub mod process;
pub mod port;
pub mod tls;
pub mod page;
pub mod disk;

pub mod etcd;
pub mod keyloom;
pub mod grpc_proxy;
pub mod etcdctl;
pub mod served;
pub mod ground;

pub mod client;
pub mod http;
pub mod metrics;

pub mod duel;
pub mod topology;
pub mod split;
pub mod crowd;
pub mod routes;
pub mod watching;
pub mod stage;
pub mod robustness;
pub mod trial;
pub mod soak;
pub mod wire;
pub mod matrix;
pub mod kubernetes;

pub use client::Client;
pub use duel::Duel;
pub use etcd::{Etcd, Version};
pub use etcdctl::Etcdctl;
pub use ground::{Ground, Kind};
pub use grpc_proxy::GrpcProxy;
pub use keyloom::Keyloom;
pub use served::Served;
