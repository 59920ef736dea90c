//! The hub: one upstream watch per store, shared by every client watch, merged into one order.
//!
//! Pure: no clock, no socket, no task, no lock. Whoever owns a [`Hub`] serialises the calls to it,
//! opens the upstream watches that it asks for, and hands their answers over *after* the ledger
//! covers them; [`OrderView`] is the ledger as the hub sees it.
//!
//! ```text
//!   store's watch ─ Feed ─ groups ─► Hub ─ History (per store, bounded)
//!                                     │ Index: key -> topics
//!                                     ▼
//!                                   Topic (one per distinct range): a queue per store of its span
//!                                     │ merge by unified revision, up to the topic's bound
//!   older history ─ Feed ─ chase ─►   ▼
//!                                  watcher ─► ClientStream ─► encoded WatchResponses
//! ```
//!
//! # Invariants
//! 1. **Frontier by events.** `delivered(store)` moves by delivered groups only, never by headers.
//! 2. **Bound.** A watcher is given a `u` only if every store of its span has delivered everything
//!    below it: `u <= min over the span of below_next(store, delivered(store))`.
//! 3. **Cursor.** Everything that a watcher's range holds up to its cursor was taken by it, nothing
//!    above it was. The cursor never goes back.
//! 4. **Pulled, not pushed.** A watcher takes when its stream has room. One that waits longer than
//!    the history lasts *chases*: it is fed from the store's own history until it meets the hub's.
//!    So memory is bounded and nothing is dropped.
//! 5. **Whole revisions.** All events of one `u` go into one response.
//! 6. **Eras.** Where a key lives at `u` is decided by the routes of that stretch of the order: a
//!    watch that is open while its range moves takes the old store's events up to the change and
//!    the new store's above it.

mod bounds;
mod order_view;
mod routes;
mod eras;
mod feed;
mod event;
mod history;
mod index;
mod topic;
mod chase;
mod watcher;
mod merge;
mod hub;
mod stream;

pub use bounds::Bounds;
pub use feed::{Feed, FeedError, Group, Step, Taken};
pub use hub::{Flow, Hub, HubGauges, Late, Need, Reroute, Seen, Signals, TakeError};
pub use order_view::OrderView;
pub use routes::{RangeFloors, Routes};
pub use stream::{ClientStream, HeaderOf, StreamError};

/// One client stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// One upstream watch that catches a watcher up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChaseId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct WatcherId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TopicId(u64);

#[cfg(test)]
mod tests;
