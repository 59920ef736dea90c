//! How long to wait before the next try. Pure.

use std::time::Duration;

/// The first wait: a server that restarts at once is found again almost at once.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait: how late a server that is back may be noticed.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double up to a bound, with half of each left to chance so that many clients of one
/// server do not come back together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait. Every bit of `chance` is as likely 0 as 1.
    pub(super) fn next(&mut self, chance: u64) -> Duration {
        let whole = FIRST
            .saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX))
            .min(LONGEST);
        self.tries = (self.tries + 1).min(u32::BITS - 1);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(chance % nanos.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let shortest: [u64; 8] = [50, 100, 200, 400, 800, 1600, 2500, 2500];
        let mut backoff = Backoff::default();
        for milliseconds in shortest {
            assert_eq!(backoff.next(0), Duration::from_millis(milliseconds));
        }
        for _ in 0..100 {
            assert_eq!(backoff.next(0), LONGEST / 2);
        }
    }

    #[test]
    fn chance_moves_a_wait_within_its_upper_half() {
        for chance in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX] {
            let mut backoff = Backoff::default();
            let first = backoff.next(chance);
            assert!(FIRST / 2 <= first && first <= FIRST, "{first:?}");
        }
        let mut one = Backoff::default();
        let mut other = Backoff::default();
        assert_ne!(one.next(7_000_000), other.next(11_000_000));
    }
}
