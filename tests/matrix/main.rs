//! The fault matrix: what happens to a store or a Keyloom, against what a client is doing then. Each
//! cell is a test; [`keyloom_tests::matrix`] says what it asserts.
//!
//! `cargo xtask e2e matrix` runs it; `cargo xtask matrix` also writes `docs/contributing/fault-matrix.md`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a surprise ends the test with the reason"
)]

mod matrix;
mod slow_watcher;
