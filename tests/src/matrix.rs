//! One fault of a store, and one kind of call during it: a cell of the fault matrix.
//!
//! A cell is a round of [`crate::robustness`]: writers, transactions, leases, compactions, deletes
//! over stores and watches go on all the time, and in the end everything that anybody was told is
//! held against etcd's promises. Amid this one kind of call is made again and again before, during
//! and after the fault. During it, what does not need the store must work.
//!
//! | module | what for |
//! |---|---|
//! | [`ground`] | three stores, the ways to them, and a Keyloom |
//! | [`fault`] | what happens to a store |
//! | [`probe`] | one kind of call |
//! | [`cell`] | a fault and a kind of call, and what came of it |
//! | [`instance`] | the same where something happens to a Keyloom |
//! | [`row`] | what came of it, for the table |

pub mod ground;
pub mod fault;
pub mod probe;
pub mod cell;
pub mod instance;
pub mod row;

pub use cell::run;
pub use fault::{Fault, Victim};
pub use ground::Ground;
pub use instance::{Change, change};
pub use probe::Call;
pub use row::Row;
