//! What tests of Keyloom stand on: a model etcd behind the store port, generated programs for
//! differential tests, and checkers of recorded histories.
//!
//! | module | what for |
//! |---|---|
//! | [`step`] | one KV call and its answer, typed, encodable |
//! | [`model`] | etcd's semantics in memory: pure core, and a store on top that can misbehave |
//! | [`kine`] | a kine in memory, with its oddities |
//! | [`program`] | random programs for differential tests, and the comparing of answers |
//! | [`history`] | what concurrent clients and their watches saw, and whether one etcd could have shown it |
//!
//! Nothing here reads a clock or draws a random number of its own: the same test does the same
//! thing each time.

pub mod step;

pub mod model;

pub mod kine;

pub mod program;

pub mod history;

pub use step::{Answer, Step};
