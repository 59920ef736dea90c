//! The store as a whole, through the port, on real files.

#![cfg(test)]

mod support;

mod crash;
mod differential;
mod import;
mod open;

mod status;
mod trouble;
mod watch;
