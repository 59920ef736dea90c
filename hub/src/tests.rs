//! Tests of the whole core: exact behaviour, and random worlds against a plain log.

mod chance;
mod client;
mod exact;
mod random;
mod store;
mod world;
