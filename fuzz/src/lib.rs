//! What is done with arbitrary bytes, and what must hold of it.
//!
//! A target is a function of bytes that panics where something is wrong. Three drive them:
//! - `tests/short.rs`, in continuous integration: the corpus and a few seconds of its mutations,
//!   with fixed chance, on any toolchain;
//! - `cargo run --release -p keyloom-fuzz`: the same for as long as one likes;
//! - `cargo xtask fuzz`: libFuzzer, which looks at what of the program each input reaches
//!   (`guided/`).
//!
//! | target | bytes | what must hold |
//! |---|---|---|
//! | [`mod@wire`] | a message, as it is or made from them | rewriting in the bytes is decoding, changing and encoding; what is not known survives |
//! | [`mod@framing`] | pieces of a gRPC stream | the messages are those of the plain reading, however they are cut |
//! | [`mod@routes`] | a topology, ranges, keys | parts hold exactly the keys that route to their store; plans name those stores |
//! | [`mod@topology`] | a topology file | accepted, or refused with a reason for each line; what is accepted reads back as itself |
//! | [`mod@ledger`] | the records of a ledger, damaged | restored as it was, or refused; nothing in between panics |
//! | [`mod@client`] | calls of clients | every call is answered or refused, and Keyloom serves on |
//! | [`mod@store`] | a store's answers | calls fail that need it, and no other |
//! | [`mod@note`] | the note beside a SQLite file | opened or refused, and then no revision below what a good note says |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a target panics where something is wrong"
)]

pub mod wire;
pub mod framing;
pub mod routes;
pub mod topology;
pub mod ledger;
pub mod client;
pub mod store;
pub mod note;

mod keyloom;
mod panics;

pub mod drive;

// The oracle of the wire's property tests.
use keyloom_etcd_api::FILE_DESCRIPTOR_SET;
#[path = "../../etcd-api/src/wire/tests/api.rs"]
mod api;
#[path = "../../etcd-api/src/wire/tests/generate.rs"]
mod generate;

use generate::Entropy;

/// A target, by name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 8] = [
    ("wire", wire::target),
    ("framing", framing::target),
    ("routes", routes::target),
    ("topology", topology::target),
    ("ledger", ledger::target),
    ("client", client::target),
    ("store", store::target),
    ("note", note::target),
];
