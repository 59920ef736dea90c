//! A load generator for etcd endpoints: what it sends, what it measures, what it prints.
//!
//! The way of a run: [`cli`] reads what is asked for, [`run`] interleaves rounds over the targets,
//! [`round`] drives the clients of one round at the pace of [`pace`], [`workload`] says what each
//! client sends and checks every answer, [`stats`] and [`report`] make the table and the JSON,
//! [`plot`] the picture.
//! [`compare`], [`sqlite`], [`footprint`] and [`stores`] start peers of their own and put them side by
//! side; [`inprocess`] runs Keyloom within the program.
//!
//! It speaks only the wire, over its own thin client ([`connection`]), so that the machine's time
//! goes to what is measured.

pub mod cli;
mod run;
mod round;
mod pace;
mod workload;
mod keyspace;
mod request;
mod connection;
mod endpoint;
mod process;
mod server;
mod stats;
mod report;
mod plot;
mod progress;
mod compare;
mod sqlite;
mod footprint;
mod stores;
mod inprocess;
