//! The whole program, with real stores and real clients.
//!
//! | module | the question |
//! |---|---|
//! | [`harness`], [`reference`] | do the tests themselves stand on firm ground? |
//! | [`one_store`], [`three_stores`] | does every answer equal that of one etcd? |
//! | [`watches`], [`leases`] | is every watch told what one etcd tells, and is every lease the same? |
//! | [`slow_watcher`] | what do clients cost that watch and do not read? |
//! | [`concurrent`] | and those to clients that work at the same time? |
//! | [`sqlite`], [`sqlite_differential`], [`sqlite_kills`], [`sqlite_trouble`], [`sqlite_backups`], [`sqlite_page`] | and those over SQLite files, through kills and trouble? |
//! | [`transfer`] | does a copy have all that the original had? |
//! | [`routes`] | do calls go where they must, and nowhere else? |
//! | [`etcdctl`] | do operators notice? |
//! | [`bad_topology`], [`bad_requests`] | is what is wrong refused clearly? |
//! | [`reload`], [`changing_stores`] | and while the topology, or the way to its stores, changes? |
//! | [`pages`] | do the commands of the documentation do what it says? |
//! | [`failing_stores`], [`failing_keyloom`] | what is left when a part dies? |
//! | [`robustness`] | everything at once, for as long as wished |
//! | [`soak`] | and does anything grow, or break, in an hour? |
//! | [`kills`], [`pauses`], [`hand_over`] | do clients notice when a Keyloom ends, stops or follows another? |
//! | [`cost`] (alone, after the others) | does a request cost what it cost? |

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a surprise ends the test with the reason"
)]

mod harness;
mod reference;

mod one_store;
mod three_stores;
mod watches;
mod slow_watcher;
mod leases;
mod concurrent;
mod sqlite;
mod sqlite_differential;
mod sqlite_kills;
mod sqlite_trouble;
mod sqlite_backups;
mod sqlite_page;
mod transfer;
mod routes;
mod etcdctl;

mod bad_topology;
mod reload;
mod changing_stores;
mod pages;
mod bad_requests;
mod failing_stores;
mod failing_keyloom;

mod robustness;
mod soak;
mod kills;
mod pauses;
mod hand_over;
mod cost;
