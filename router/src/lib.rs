//! Which stores a request concerns, and how their answers become one.
//!
//! Everything here is pure: a topology and a request go in, a plan comes out; the calls that a
//! plan needs are state machines that name the next message to send and take its answer. Nothing
//! here knows a socket, a clock or a unified revision: revisions are translated before and after.
//!
//! | module | what it decides |
//! |---|---|
//! | [`plan`] | the stores of a request, or why it is refused |
//! | [`read`] | the calls that read one store's part of a range |
//! | [`turns`] | which parts of a page are read, and when |
//! | [`join`] | one answer from the parts: order, limit, `more`, `count` |
//! | [`delete`] | the calls that delete one store's part of a range |
//! | [`compare`] | whether a comparison of a transaction holds on a snapshot |
//! | [`answer`] | the joined answers as messages |

pub mod answer;
pub mod compare;
pub mod delete;
pub mod join;
mod ops;
pub mod plan;
pub mod read;
mod routes;
mod shadow;
pub mod turns;

pub use delete::{DeleteError, PartDelete, PartDeleted};
pub use join::{Joined, join, trim};
pub use plan::{
    DeletePlan, RangePlan, Refused, TxnPlan, plan_delete, plan_put, plan_range, plan_txn,
};
pub use read::{PartAnswer, PartRead, ReadError, SCAN_PAGE};
pub use routes::Routes;

#[cfg(test)]
mod world;
