//! Watches: one stream carries many, each with a range, a place and wishes of its own.
//!
//! ```text
//!             create                       everything up to the head was sent
//!   (request) ------> behind ----------------------------------> synced
//!                       ^   |                                      |
//!                       |   | its next revision is compacted       | a commit
//!                       |   v                                      |
//!                       | canceled                                 |
//!                       +------------------------------------------+
//! ```
//!
//! A watch that is behind is brought on in steps: from the feed where that still has its next
//! revision, from the history otherwise. There is no other state, and no buffer beside the
//! stream's own few answers: who reads slowly falls behind the feed and reads the history.
//!
//! Invariants:
//! 1. A watch stands at the first revision that was not yet looked at for it; that only grows.
//! 2. The header of an answer with events, or of a progress, is one below that or lower:
//!    nothing that the watch wants at or below it is still to come.
//! 3. `created` is sent before anything else of a watch.
//! 4. All events of a revision are in one answer, or in the fragments of one.

mod catch_up;
mod positions;
mod stream;
mod watcher;

pub(crate) use catch_up::{Ask, CaughtUp, catch_up};
pub(crate) use stream::serve;
