//! Records operations and watch streams of concurrent clients.
//!
//! The clock is a counter: what began after something else had ended has the higher number.

use std::sync::Arc;

use keyloom_etcd_api::{
    Code, EtcdError, Status,
    etcdserverpb::{WatchRequest, WatchResponse},
};
use parking_lot::Mutex;

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

/// One watch stream of one client, as it went over the wire.
#[derive(Clone, Debug)]
pub struct Stream {
    pub client: u64,
    /// What went either way, each with its time: when a request was about to leave, when a
    /// response had arrived.
    pub messages: Vec<(u64, Message)>,
}

#[derive(Clone, Debug)]
pub enum Message {
    Asked(WatchRequest),
    Told(WatchResponse),
}

/// Operations and streams in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    pub streams: Vec<Stream>,
}

/// Takes down operations and streams. Clones write into the same history, by the same clock.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    clock: u64,
    history: History,
    /// How often what was recorded was taken away: places from before mean nothing.
    round: u64,
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
        let at = (shared.round, shared.history.operations.len());
        shared.history.operations.push(Operation {
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

    /// To be called before a watch stream is opened.
    pub fn open(&self, client: u64) -> StreamRecording {
        let mut shared = self.shared.lock();
        let at = (shared.round, shared.history.streams.len());
        shared.history.streams.push(Stream {
            client,
            messages: Vec::new(),
        });
        StreamRecording {
            shared: Arc::clone(&self.shared),
            at,
        }
    }

    /// A time of the same clock, for what is recorded elsewhere.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.shared.lock().tick()
    }

    /// What was recorded so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.shared.lock().history.clone()
    }

    /// What was recorded so far, to be forgotten here: for tests that go on for long and check
    /// from time to time. Nothing may be under way; what goes on all the same is not recorded
    /// any more. Writes of unknown outcome stay, for they may still take effect.
    #[must_use]
    pub fn take(&self) -> History {
        let mut shared = self.shared.lock();
        shared.round += 1;
        let history = std::mem::take(&mut shared.history);
        let still_open = |operation: &&Operation| {
            matches!(operation.outcome, Outcome::Unknown) && !operation.step.only_reads()
        };
        let still_open = history.operations.iter().filter(still_open);
        shared.history.operations = still_open.cloned().collect();
        history
    }

    /// [`Self::take`], where whatever was of unknown outcome has happened by now or never will.
    #[must_use]
    pub fn take_all(&self) -> History {
        let history = self.take();
        self.shared.lock().history.operations.clear();
        history
    }
}

/// A watch stream that is open.
#[derive(Debug)]
pub struct StreamRecording {
    shared: Arc<Mutex<Shared>>,
    at: (u64, usize),
}

impl StreamRecording {
    /// To be called before the request leaves.
    pub fn asked(&self, request: &WatchRequest) {
        self.push(Message::Asked(request.clone()));
    }

    /// To be called when the response has arrived, and before it is used.
    pub fn told(&self, response: &WatchResponse) {
        self.push(Message::Told(response.clone()));
    }

    fn push(&self, message: Message) {
        let mut shared = self.shared.lock();
        let now = shared.tick();
        let (round, at) = self.at;
        if shared.round == round
            && let Some(stream) = shared.history.streams.get_mut(at)
        {
            stream.messages.push((now, message));
        }
    }
}

/// An operation that has begun.
#[derive(Debug)]
#[must_use = "an operation that does not end has an unknown outcome"]
pub struct Recording {
    shared: Arc<Mutex<Shared>>,
    at: (u64, usize),
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
        let (round, at) = self.at;
        if shared.round == round
            && let Some(operation) = shared.history.operations.get_mut(at)
        {
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
