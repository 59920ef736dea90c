//! When each request is sent.
//!
//! In a closed loop a client sends when its last answer is there: a slow target is asked less
//! often, and what would have waited is not measured. In an open loop requests are due at a fixed
//! rate whatever the target does, and the latency counts from when a request was due, not from when
//! a client was free to send it. What was due and never sent counts too, with the time it waited.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::{
    sync::Semaphore,
    time::{Duration, Instant},
};

/// The times of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) start: Instant,
    /// When the warm-up is over.
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Clock {
    pub(crate) fn new(start: Instant, warmup: Duration, duration: Duration) -> Self {
        let begin = start + warmup;
        Self {
            start,
            begin,
            end: begin + duration,
        }
    }

    /// Whether what was due then is measured.
    pub(crate) fn measures(&self, due: Instant) -> bool {
        due >= self.begin && due < self.end
    }
}

/// Gives the clients their turns.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Clock,
    /// At most so many requests, the warm-up's included.
    most: u64,
    taken: AtomicU64,
    schedule: Option<Schedule>,
}

#[derive(Debug)]
struct Schedule {
    rate: f64,
    /// One permit for each request that is due and not yet taken.
    due: Semaphore,
}

impl Pace {
    /// In an open loop where there is a rate (requests a second), else in a closed one.
    pub(crate) fn new(clock: Clock, rate: Option<f64>, most: Option<u64>) -> Arc<Self> {
        let schedule = rate.map(|rate| Schedule {
            rate,
            due: Semaphore::new(0),
        });
        let pace = Arc::new(Self {
            clock,
            most: most.unwrap_or(u64::MAX),
            taken: AtomicU64::new(0),
            schedule,
        });
        if pace.schedule.is_some() {
            let metronome = Arc::clone(&pace);
            thread::spawn(move || metronome.beat());
        }
        pace
    }

    /// When the next request is due, once it is; none when the round is over.
    pub(crate) async fn next(&self) -> Option<Instant> {
        if let Some(schedule) = &self.schedule {
            schedule.due.acquire().await.ok()?.forget();
        }
        let now = Instant::now();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.most || now >= self.clock.end {
            return None;
        }
        Some(match &self.schedule {
            None => now,
            Some(schedule) => schedule.due_at(&self.clock, number),
        })
    }

    /// Whether no more requests are to be sent.
    pub(crate) fn is_over(&self) -> bool {
        let ended = |schedule: &Schedule| schedule.due.is_closed();
        Instant::now() >= self.clock.end || self.schedule.as_ref().is_some_and(ended)
    }

    /// Ends an open loop before its time.
    pub(crate) fn end(&self) {
        if let Some(schedule) = &self.schedule {
            schedule.due.close();
        }
    }

    /// What was due within the round and nobody was free to send, each with its wait.
    pub(crate) fn unsent(&self) -> Vec<Duration> {
        let Some(schedule) = &self.schedule else {
            return Vec::new();
        };
        let taken = self.taken.load(Ordering::Relaxed);
        (taken..self.most)
            .map(|number| schedule.due_at(&self.clock, number))
            .take_while(|due| *due < self.clock.end)
            .filter(|due| self.clock.measures(*due))
            .map(|due| self.clock.end - due)
            .collect()
    }

    /// Lets the due requests go. A thread of its own: the runtime's timers know only milliseconds.
    fn beat(&self) {
        let Some(schedule) = &self.schedule else {
            return;
        };
        let mut given = 0_u64;
        loop {
            let now = Instant::now();
            if now >= self.clock.end || schedule.due.is_closed() {
                // Whoever still waits is told that the round is over.
                schedule.due.close();
                return;
            }
            let due = schedule.due_by(&self.clock, now);
            let fresh = usize::try_from(due.saturating_sub(given)).unwrap_or(0);
            schedule.due.add_permits(fresh);
            given = given.max(due);
            let next = schedule.due_at(&self.clock, given).min(self.clock.end);
            thread::park_timeout(next.saturating_duration_since(now));
        }
    }
}

impl Schedule {
    /// When a request is due, by its number from 0.
    fn due_at(&self, clock: &Clock, number: u64) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 requests")]
        let after = number as f64 / self.rate;
        clock.start + Duration::from_secs_f64(after)
    }

    /// How many requests are due at a time.
    fn due_by(&self, clock: &Clock, now: Instant) -> u64 {
        let since = now.saturating_duration_since(clock.start).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of requests since the start"
        )]
        let whole = (since * self.rate) as u64;
        whole + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clock(ago: Duration) -> Clock {
        let start = Instant::now().checked_sub(ago).unwrap();
        Clock::new(start, SECOND, 2 * SECOND)
    }

    #[test]
    fn only_what_was_due_after_the_warm_up_is_measured() {
        let clock = clock(Duration::ZERO);
        assert!(!clock.measures(clock.start));
        assert!(clock.measures(clock.begin));
        assert!(!clock.measures(clock.end));
    }

    #[test]
    fn due_times_are_evenly_spaced() {
        let clock = clock(Duration::ZERO);
        let schedule = Schedule {
            rate: 4.0,
            due: Semaphore::new(0),
        };
        assert_eq!(schedule.due_at(&clock, 6), clock.start + SECOND * 3 / 2);
        for (quarters, due) in [(0, 1), (1, 2), (6, 7)] {
            assert_eq!(
                schedule.due_by(&clock, clock.start + SECOND / 4 * quarters),
                due
            );
        }
    }

    /// The heart of an open loop: a target that stalls makes the wait of every later request part
    /// of its latency, and what was never sent is not forgotten.
    #[tokio::test]
    async fn waiting_counts_from_when_a_request_was_due() {
        // The round is over, and the only client took its first turn and never came back.
        let clock = clock(3 * SECOND);
        let pace = Pace {
            clock,
            most: u64::MAX,
            taken: AtomicU64::new(1),
            schedule: Some(Schedule {
                rate: 2.0,
                due: Semaphore::new(0),
            }),
        };
        // Due at 0.5 s is in the warm-up; those at 1, 1.5, 2 and 2.5 s count.
        let waits: Vec<_> = pace.unsent().iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [2000, 1500, 1000, 500]);
    }

    #[tokio::test]
    async fn a_late_turn_has_the_time_it_was_due() {
        let clock = clock(SECOND);
        let pace = Pace {
            clock,
            most: 2,
            taken: AtomicU64::new(0),
            schedule: Some(Schedule {
                rate: 2.0,
                due: Semaphore::new(3),
            }),
        };
        assert_eq!(pace.next().await, Some(clock.start));
        assert_eq!(pace.next().await, Some(clock.start + SECOND / 2));
        assert_eq!(pace.next().await, None, "no more than asked for");
    }

    #[tokio::test]
    async fn a_closed_loop_ends_with_its_time() {
        let closed = |clock| Pace::new(clock, None, None);
        assert!(closed(clock(Duration::ZERO)).next().await.is_some());
        assert!(closed(clock(4 * SECOND)).next().await.is_none());
        assert!(closed(clock(4 * SECOND)).unsent().is_empty());
    }
}
