//! The unified revision as the services see it.
//!
//! With one store the order is the store's own and nothing is rewritten ([`Order::Native`]). With
//! several, the ledger orders what the stores' answers reveal ([`Order::Merged`]).
//!
//! Invariants of the merged order:
//! 1. An answer leaves only after the ledger covers the store revision that it carries.
//! 2. While one of Keyloom's own writes is in flight its revision is unknown, so an answer of the
//!    default store that is newer than the ledger waits: the revision in between must not be given
//!    a place that a client can see.
//! 3. No unified revision above the persisted reservation leaves.
//! 4. A store that answered below what the ledger had when it was asked is shut out: it lost data.

mod error;
mod keeper;
mod leadership;
mod merged;
mod outward;
mod inward;
mod order_view;
mod reroute;
mod restore;
mod sequence;
mod standing;

use std::sync::Arc;

pub(crate) use error::OrderError;
pub(crate) use inward::Inward;
pub use keeper::RenewOn;
pub(crate) use keeper::{
    Keeper, KeeperStart, Keeping, NotWritten, RESERVED_AHEAD, is_accepted, reserved_prefix,
    start_keeper,
};
pub(crate) use leadership::{LeadershipOptions, TakenLeadership, take};
pub(crate) use merged::{Cut, Merged};
pub(crate) use outward::{Native, Outward};
pub(crate) use reroute::{KnownUpTo, RerouteError, Rerouted};
pub use restore::LedgerError;
pub(crate) use restore::{PersistedLedger, StoreAtStart, new_ledger, recover_ledger, restore};
pub(crate) use sequence::{Answered, Sequenced};
pub(crate) use standing::{NotEnrolled, StoreStanding, enroll};

/// Who orders the revisions that clients see.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// The only store: `u = r`, and Keyloom writes nothing of its own.
    Native,
    /// The ledger.
    Merged(Arc<Merged>),
}
