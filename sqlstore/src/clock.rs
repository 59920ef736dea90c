//! The time of day, for the expiry of leases.
//!
//! Leases outlive the process, so when they end is written down as a time of day: the runtime's
//! clock, which timers use, starts again with each process.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// A clock on the wall. Tests move it by hand.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or_default()
    }
}
