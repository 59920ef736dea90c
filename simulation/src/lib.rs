//! A deterministic simulation of the whole proxy: one seed decides everything that happens.
//!
//! Each Keyloom is the program itself (`keyloom_proxy::serve`) in a runtime of its own, on a
//! network ([`net`]) on which connections are slow, lost, half-open; stores are model etcds behind
//! real HTTP/2 servers; clients call, watch, and write down what they were told. In the end the
//! checkers of `keyloom-testkit` say whether one etcd could have told them so.
//!
//! | module | what |
//! |---|---|
//! | [`host`], [`net`] | machines, processes, clocks; connections |
//! | [`stores`], [`server`], [`keyloom`] | what runs on them |
//! | [`plan`], [`faults`], [`reloads`] | what a seed decides: the stage, and what goes wrong |
//! | [`stage`], [`client`], [`traffic`], [`conduct`] | what clients do |
//! | [`judge`], [`owners`], [`truth`] | whether it was as one etcd |
//! | [`drive`], [`watchdog`], [`fleet`] | one run, its end where it has none; many |
//!
//! One process runs one seed, on one thread, because chance of the operating system is made the
//! same in every process (`chance.c`): a seed replays exactly.

mod host;
mod net;

mod keyloom;
mod server;
mod stores;

mod faults;
mod plan;
mod reloads;

mod client;
mod conduct;
mod stage;
mod traffic;

mod judge;
mod owners;
mod truth;

mod drive;
mod fleet;
mod trace;
mod watchdog;

pub mod cli;
