//! Random programs for differential tests: the same steps against two targets, whose answers must
//! be the same.
//!
//! A [`Generator`] is told every answer of the reference and asks accordingly: it reads at
//! revisions that exist, and compares with what a key was just now.
//!
//! ```
//! use keyloom_testkit::{
//!     model::Etcd,
//!     program::{Generator, Group, Settings, Tolerance, same_answer},
//! };
//!
//! let (mut reference, mut tested) = (Etcd::default(), Etcd::default());
//! let mut generator = Generator::new(7, Settings::new(vec![Group::numbered("/registry/pods/", 4)]));
//! for _ in 0..100 {
//!     let step = generator.next_step();
//!     let expected = reference.apply(&step).map_err(Into::into);
//!     let got = tested.apply(&step).map_err(Into::into);
//!     generator.learn(&step, &expected);
//!     same_answer(&expected, &got, Tolerance::default()).unwrap();
//! }
//! ```

mod chance;
mod settings;

mod generator;
mod leases;
mod memory;
mod ops;
mod spoil;
mod watches;

mod compare;
mod mentioned;
mod watch_log;

pub use chance::Chance;
pub(crate) use compare::blurred;
pub use compare::{Difference, Tolerance, same_answer};
pub use generator::Generator;
pub use leases::name_leases;
pub use mentioned::{highest_revision, reads_below};
pub use settings::{Group, Settings};
pub use watch_log::{Headers, WatchLog};

use crate::{Step, model::Etcd};

/// Steps that were generated against the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub steps: Vec<Step>,
}

impl Program {
    /// A program for a target that is empty at its start.
    #[must_use]
    pub fn generate(seed: u64, settings: Settings, length: usize) -> Self {
        let mut generator = Generator::new(seed, settings);
        let mut etcd = Etcd::default();
        let mut step = || {
            let step = generator.next_step();
            generator.learn(&step, &etcd.apply(&step).map_err(Into::into));
            step
        };
        Self {
            steps: (0..length).map(|_| step()).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
