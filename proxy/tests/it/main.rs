//! The program's library as a whole, over model stores and with stopped time: one test program, so
//! that it is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and some show what they counted"
)]

mod lease_calls;
mod support;

mod admin;
mod away;
mod compares;
mod differential;
mod edge;
mod embedded;
mod examples;
mod faults;
mod hierarchy;
mod kine;
mod lease_programs;
mod leases;
mod list_times;
mod lists;
mod maintenance;
mod recovery;
mod reload;
mod reload_held;
mod reload_resumed;
mod reload_watches;
mod scaling;
mod threads;
mod traces;
#[cfg(target_os = "linux")]
mod unwritten_logs;
mod watch_calls;
mod watches;
