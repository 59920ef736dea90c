//! Records operations of concurrent clients.
//!
//! The clock is a counter: what began after something else had ended has the higher number.

use std::sync::Arc;

use keyloom_etcd_api::EtcdError;
use parking_lot::Mutex;
use tonic::{Code, Status};

use crate::{Answer, Step};

/// What is known of the end of an operation.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answered(Answer),
    /// Refused with one of etcd's errors, for what the request is or for what it found.
    Refused(EtcdError),
    /// It may have taken effect at any time since it began, may still do so, or never.
    Unknown,
    /// It never took effect, for reasons that are none of etcd's.
    Never,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: u64,
    pub step: Step,
    /// When it began.
    pub invoked: u64,
    /// When its outcome was known; `None` where it never was.
    pub returned: Option<u64>,
    pub outcome: Outcome,
}

/// Operations in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
}

/// Takes down operations. Clones write into the same history.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    clock: u64,
    operations: Vec<Operation>,
}

impl Shared {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Recorder {
    /// To be called before the request leaves. An operation whose end is not recorded has an
    /// unknown outcome.
    pub fn begin(&self, client: u64, step: Step) -> Recording {
        let mut shared = self.shared.lock();
        let invoked = shared.tick();
        let at = shared.operations.len();
        shared.operations.push(Operation {
            client,
            step,
            invoked,
            returned: None,
            outcome: Outcome::Unknown,
        });
        Recording {
            shared: Arc::clone(&self.shared),
            at,
        }
    }

    /// What was recorded so far.
    #[must_use]
    pub fn history(&self) -> History {
        History {
            operations: self.shared.lock().operations.clone(),
        }
    }
}

/// An operation that has begun.
#[derive(Debug)]
#[must_use = "an operation that does not end has an unknown outcome"]
pub struct Recording {
    shared: Arc<Mutex<Shared>>,
    at: usize,
}

impl Recording {
    /// To be called after the answer arrived, and before it is used.
    pub fn end(self, answer: Result<Answer, Status>) {
        match answer {
            Ok(answer) => self.finish(Outcome::Answered(answer)),
            Err(status) => self.finish(outcome_of(&status)),
        }
    }

    /// The operation certainly did not reach the store.
    pub fn never_happened(self) {
        self.finish(Outcome::Never);
    }

    fn finish(self, outcome: Outcome) {
        let mut shared = self.shared.lock();
        let now = shared.tick();
        if let Some(operation) = shared.operations.get_mut(self.at) {
            operation.returned = Some(now);
            operation.outcome = outcome;
        }
    }
}

/// An error that is one of etcd's answers to what it found can be checked; another one that says
/// that the request cannot be done says that it was not done; any other says nothing.
fn outcome_of(status: &Status) -> Outcome {
    let refuses = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    );
    match EtcdError::of(status) {
        Some(error) if refuses => Outcome::Refused(error),
        None if refuses => Outcome::Never,
        _ => Outcome::Unknown,
    }
}
