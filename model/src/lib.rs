//! An explicit-state model of how Keyloom orders, recovers, hands over, compacts and reroutes.
//!
//! Two stores, their logs, the own writes and calls that are on their way, one or two instances, and
//! clients that write, read, list and watch. Every step is one that the code takes, under the code's
//! name; every order of steps is tried, for as many steps as the budget of a [`Scene`] allows. What
//! must never be is in [`told`]: an answer that contradicts what a client was told before.
//!
//! | concern | here | in the code |
//! |---|---|---|
//! | the order itself | `ledger.rs` | `ledger/src/ledger.rs`, `recover.rs` (`tests/same_ledger.rs` holds them together) |
//! | answers and their place | `ordering.rs` | `proxy/src/order/merged.rs` |
//! | own writes, leadership, take-over | `leadership.rs` | `proxy/src/order/keeper.rs`, `proxy/src/order/leadership.rs` |
//! | crashes and starts | `recovery.rs` | `proxy/src/bringup/start.rs` |
//! | lists, the hub, merged watches | `watching.rs` | `proxy/src/services/merged.rs`, `proxy/src/feeds`, `hub` |
//! | compaction | `compaction.rs` | `proxy/src/services/compact.rs` |
//! | changes of routes | `routes.rs` | `proxy/src/bringup`, `proxy/src/order/reroute.rs`, `hub/src/eras.rs` |
//! | leases | `leases.rs` | `proxy/src/services/lease` |
//!
//! `cargo test -p keyloom-model` explores the small scenes, and shows for each rule of [`Without`]
//! that the model finds what breaks when it is left out. `cargo run --release -p keyloom-model`
//! explores the large ones, and prints how many states each has.

#![expect(
    clippy::indexing_slicing,
    reason = "the model's own small numbers index its own small arrays"
)]

pub mod world;

pub mod ledger;
pub mod ordering;
pub mod leadership;
pub mod recovery;
pub mod watching;
pub mod compaction;
pub mod routes;

pub mod leases;
pub mod scenes;
pub mod told;
pub mod variant;

pub mod step;

pub use ledger::{Care, Ledger, Order, Place, Restored, WentBack, recover};
pub use scenes::Scene;
pub use step::Step;
pub use variant::Without;
pub use world::{Budget, STORES, World};
