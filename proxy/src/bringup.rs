//! From a topology to a snapshot that serves: the start, and every change while Keyloom serves.

mod accepted;
pub(crate) mod ask;
mod change;
mod clusters;
mod following;
mod hidden;
mod next;
mod scan;
mod start;
mod strays;

pub use accepted::AcceptedError;
pub(crate) use change::Reconfigurer;
pub use change::{Applied, Refusal};
pub(crate) use following::{FileStatus, Following};
pub(crate) use hidden::hidden_keys;
pub use start::BringUpError;
pub(crate) use start::{Start, start};
pub(crate) use strays::{Stray, StrayCursor, Strays, list as strays};
