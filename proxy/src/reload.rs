//! Changes of the topology while Keyloom serves: what may change, how it is taken, and what a
//! start compares its file with.

mod accepted;
mod change;
mod file;
mod floors;
mod following;
mod gate;
mod metrics;
mod scan;
mod strays;

pub(crate) use accepted::Accepted;
pub use accepted::AcceptedError;
pub use change::{OpenStores, Refusal, Taken};
pub(crate) use change::{Reconfigurer, hidden_keys};
pub use file::FileChanges;
pub(crate) use floors::Floors;
pub(crate) use following::{Following, Status};
pub(crate) use gate::{Gate, Superseded, Traffic, UnderWay};
pub(crate) use metrics::LateWrites;
pub use metrics::TopologyMetrics;
pub(crate) use strays::{Stray, StrayCursor, Strays, list as strays};
