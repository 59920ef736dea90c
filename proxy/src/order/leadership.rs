//! The leadership: what the one instance that orders and answers has beside the [`Sequence`]. Its own
//! writes to the default store, the revisions that they reserved, and until when it may answer.
//!
//! [`Sequence`]: super::sequence::Sequence

mod leave;
mod take;

use std::time::Duration;

use bytes::Bytes;
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};
use tokio::time::Instant;

use super::{OrderError, RenewOn};

pub(super) use leave::MayLeave;
pub(crate) use take::{TakenLeadership, take};

/// How the leadership is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeadershipOptions {
    /// How long one instance may answer after it last showed that it is there.
    pub(crate) duration: Duration,
    pub(crate) renew_on: RenewOn,
}

impl LeadershipOptions {
    /// Between two renewals.
    pub(super) fn renewal(self) -> Duration {
        self.duration / 5
    }

    pub(super) fn millis(self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long after a renewal was sent answers may leave: the rest allows for clocks that run
    /// differently.
    pub(super) fn safe(self) -> Duration {
        self.duration / 10 * 9
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Leadership {
    /// Whether one of Keyloom's own writes is in flight, its revision unknown.
    pub(super) own_write: bool,
    /// No unified revision above this one may leave.
    pub(super) reserved: UnifiedRev,
    /// Whether the ledger holds a change that must be written before anything leaves: a crash in
    /// between could give the same numbers another meaning.
    pub(super) must_record: bool,
    /// The accepted topology, where it is not written yet; it goes with the ledger's next whole
    /// write, so that a crash leaves both as they were or both as they are.
    pub(super) accepted: Option<Bytes>,
    /// When the leadership ends: nothing leaves from then on.
    pub(super) until: Instant,
    /// Why nothing may leave any more.
    pub(super) stopped: Option<String>,
}

impl Leadership {
    /// Nothing leaves before the first own write reserved its revisions.
    pub(super) fn new() -> Self {
        Self {
            own_write: false,
            reserved: UnifiedRev::new(0),
            must_record: false,
            accepted: None,
            until: Instant::now(),
            stopped: None,
        }
    }

    /// Whether an answer may leave now.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn may_leave(&self) -> Result<(), OrderError> {
        match &self.stopped {
            Some(why) => Err(OrderError::Stopped(why.clone())),
            None if Instant::now() >= self.until && !planted(Bug::LeadershipIgnored) => {
                Err(OrderError::LeadershipOver)
            }
            None if self.must_record => Err(OrderError::Recording),
            None => Ok(()),
        }
    }
}
