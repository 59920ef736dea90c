//! What etcd does with a request, wherever the keys come from: the one implementation for merged
//! answers and for embedded stores.
//!
//! | module | what it decides |
//! |---|---|
//! | [`range`] | order, limit and revision filters of a range |
//! | [`compare`] | whether a comparison of a transaction holds |
//! | [`watch`] | a watch stream: ids, refusals, progress, cancellations, fragments |
//!
//! Pure: no clock, no socket, no task. The model etcd of the tests does not use it: what judges
//! must not share code with what it judges.

pub mod compare;
mod fields;
pub mod range;
pub mod watch;

pub use fields::{Fields, KeyAndValue};
