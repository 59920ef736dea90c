//! What clients asked and were answered, and whether one etcd could have answered so:
//! [`check_linearizable`] for calls, [`check_watches`] for watches.
//!
//! ```
//! use keyloom_testkit::{
//!     Step,
//!     history::{Recorder, Rules, Verdict, check_linearizable},
//!     model::Etcd,
//! };
//!
//! let (recorder, mut etcd) = (Recorder::default(), Etcd::default());
//! let step = Step::Put(Default::default());
//! let call = recorder.begin(0, step.clone());
//! call.end(etcd.apply(&step).map_err(Into::into));
//! let verdict = check_linearizable(&recorder.history(), &Rules::default());
//! assert!(matches!(verdict, Verdict::Linearizable));
//! ```

mod record;

mod linearizable;
mod watch;
mod wish;

pub use linearizable::{Reason, Rules, Stuck, Verdict, Violation, check_linearizable};
pub use record::{
    History, Message, Operation, Outcome, Recorder, Recording, Stream, StreamRecording,
};
pub use watch::{
    Broken, Canceled, Facts, Property, Replay, Response, Watcher, atomic, bookmarkable,
    check_watches, filter, is_create, lost_values, ordered, prev_kv, reliable, resumable, unique,
};
pub use wish::{Connection, Heard, Wish};
