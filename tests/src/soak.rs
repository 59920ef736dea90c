//! What a run of an hour stands on.
//!
//! | module | what for |
//! |---|---|
//! | [`ground`] | two etcds of different versions, a SQLite file, an etcd that comes and goes, and topologies over them |
//! | [`fill`] | makes full what is bounded, before anything is measured |
//! | [`trouble`] | what is done to stores and topology while clients work |
//! | [`readers`] | reads as fast as they are answered, beside everything that is checked |
//! | [`samples`] | what Keyloom takes, over time, and whether that grows |

pub mod ground;
pub mod fill;
pub mod trouble;
pub mod readers;
pub mod samples;
