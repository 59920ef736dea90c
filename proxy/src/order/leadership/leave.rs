//! Until when answers may leave, to be asked without the order's lock: every call asks it as its last
//! step.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use keyloom_planted::{Bug, planted};
use tokio::time::Instant;

use super::Leadership;

/// A copy of what [`Leadership::may_leave`] says as long as nothing is wrong. Written under the order's
/// lock with every change of the leadership.
#[derive(Debug)]
pub(in crate::order) struct MayLeave {
    born: Instant,
    /// In nanoseconds from `born`; 0 where only the leadership itself can say.
    until: AtomicU64,
}

impl MayLeave {
    pub(in crate::order) fn new() -> Self {
        Self {
            born: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    pub(in crate::order) fn publish(&self, leadership: &Leadership) {
        let until = match &leadership.stopped {
            None if !leadership.must_record => leadership.until.duration_since(self.born),
            _ => Duration::ZERO,
        };
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.until.store(nanos, Ordering::Release);
    }

    /// `false` is "ask the leadership".
    pub(in crate::order) fn is_certain(&self) -> bool {
        let until = Duration::from_nanos(self.until.load(Ordering::Acquire));
        !planted(Bug::LeadershipIgnored) && self.born.elapsed() < until
    }
}
