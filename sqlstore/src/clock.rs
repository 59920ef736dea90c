//! The time of day, for the expiry of leases.
//!
//! Leases outlive the process, so when they end is written down as a time of day: the runtime's
//! clock, which timers use, starts again with each process. While the process runs, time is what
//! passed since it started: a clock that somebody sets must not end leases or keep them.

use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A clock on the wall. Tests move it by hand.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

/// The time of day when it was first asked for in this process, and what passed since then.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// When the process first asked.
#[allow(
    clippy::disallowed_methods,
    reason = "leases last for real time; tests move a clock of their own"
)]
static BEGUN: LazyLock<Begun> = LazyLock::new(|| Begun {
    wall: SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default(),
    steady: Instant::now(),
});

/// One moment by two clocks.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// Since 1970.
    wall: Duration,
    steady: Instant,
}

impl Begun {
    fn ms_at(self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.steady);
        i64::try_from((self.wall + passed).as_millis()).unwrap_or(i64::MAX)
    }
}

impl WallClock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "leases last for real time; tests move a clock of their own"
    )]
    fn now_ms(&self) -> i64 {
        BEGUN.ms_at(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the wall's clock says later is not asked.
    #[allow(
        clippy::disallowed_methods,
        reason = "the clock under test is the real one"
    )]
    #[test]
    fn time_is_what_passed_since_the_start() {
        let steady = Instant::now();
        let begun = Begun {
            wall: Duration::from_millis(5_000),
            steady,
        };
        assert_eq!(begun.ms_at(steady), 5_000);
        assert_eq!(begun.ms_at(steady + Duration::from_secs(2)), 7_000);
        let first = SystemClock.now_ms();
        let (least, most) = (first, first + 60_000);
        assert!((least..most).contains(&SystemClock.now_ms()));
        assert!(first > 1_700_000_000_000, "{first}");
    }
}
