//! The short form of the fuzzing: each target's corpus, and a few seconds of its mutations. Chance is
//! fixed, so that what passed once passes again: `cargo run --release -p keyloom-fuzz -- --seed N`
//! and `cargo xtask fuzz` look further.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use keyloom_fuzz::{TARGETS, drive::drive};

/// A slow machine tries less in it, and is not late.
const EACH: Duration = Duration::from_secs(5);

#[track_caller]
fn holds(name: &str) {
    let target = TARGETS.into_iter().find(|(of, _)| *of == name).unwrap();
    match drive(target, 1, EACH) {
        Ok(tried) => assert!(tried.corpus > 0, "{name} has no corpus"),
        Err(input) => panic!("{name} fails at {}", input.escape_ascii()),
    }
}

#[test]
fn rewriting_in_the_bytes_is_rewriting_the_message() {
    holds("wire");
}

#[test]
fn framing_is_the_same_wherever_the_stream_is_cut() {
    holds("framing");
}

#[test]
fn parts_and_plans_hold_what_routes_there() {
    holds("routes");
}

#[test]
fn any_topology_file_is_accepted_or_refused() {
    holds("topology");
}

#[test]
fn any_records_of_a_ledger_are_restored_or_refused() {
    holds("ledger");
}

#[test]
fn whatever_clients_send_is_answered_or_refused() {
    holds("client");
}

#[test]
fn whatever_a_store_answers_the_others_serve() {
    holds("store");
}

#[test]
fn any_note_beside_a_sqlite_file_is_taken_or_refused() {
    holds("note");
}
