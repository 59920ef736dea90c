//! When to stop asking a store at all. Pure: the owner says what happened.
//!
//! ```text
//!            THRESHOLD failures in a row            the prober starts
//!   Closed ------------------------------> Open -----------------------> HalfOpen
//!     ^ ^                                   |  ^                            |  |
//!     | +------------- an answer -----------+  +--------- a failure --------+  |
//!     +------------------------------ an answer -------------------------------+
//! ```
//!
//! Only `Closed` admits calls. Only one probe is ever under way, because it starts from `Open`
//! alone. An answer closes the breaker from every state: a call that was sent before it opened
//! shows as well as a probe that the store is there.

use std::sync::Arc;

/// How many failures in a row open the breaker: each is a dial that failed, a connection that
/// broke under calls, or a call that the store's own time limit ended; never an answer.
const THRESHOLD: u32 = 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Circuit {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// The circuit breaker of a store.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Circuit,
    /// Failures since the last answer.
    failures: u32,
    /// The last failure, for those who are turned away.
    cause: Option<Arc<str>>,
}

impl Breaker {
    /// Whether a call may go to the store.
    ///
    /// # Errors
    /// The last failure, where it may not.
    pub(super) fn admit(&self) -> Result<(), Arc<str>> {
        match self.state {
            Circuit::Closed => Ok(()),
            Circuit::Open | Circuit::HalfOpen => Err(self.cause.clone().unwrap_or_default()),
        }
    }

    /// Whether calls are turned away.
    pub(super) fn is_open(&self) -> bool {
        self.state != Circuit::Closed
    }

    /// The store answered.
    pub(super) fn answered(&mut self) {
        self.state = Circuit::Closed;
        self.failures = 0;
    }

    /// The store did not answer.
    pub(super) fn failed(&mut self, cause: Arc<str>) {
        self.failures = self.failures.saturating_add(1);
        self.cause = Some(cause);
        self.state = match self.state {
            Circuit::Closed if self.failures < THRESHOLD => Circuit::Closed,
            Circuit::Closed | Circuit::Open | Circuit::HalfOpen => Circuit::Open,
        };
    }

    /// Takes the one place of a probe, if there is one to take.
    pub(super) fn start_probe(&mut self) -> bool {
        let starts = self.state == Circuit::Open;
        if starts {
            self.state = Circuit::HalfOpen;
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Event {
        Failure,
        Answer,
        Probe { starts: bool },
    }
    use Event::{Answer, Failure, Probe};

    fn after(events: &[Event]) -> Breaker {
        let mut breaker = Breaker::default();
        for (place, event) in events.iter().enumerate() {
            match event {
                Failure => breaker.failed(Arc::from(format!("failure {place}"))),
                Answer => breaker.answered(),
                Probe { starts } => assert_eq!(breaker.start_probe(), *starts, "event {place}"),
            }
        }
        breaker
    }

    #[test]
    fn table_of_what_leads_where() {
        let started = Probe { starts: true };
        let refused = Probe { starts: false };
        let table: &[(&str, &[Event], Circuit)] = &[
            ("new", &[], Circuit::Closed),
            ("no probe while closed", &[refused], Circuit::Closed),
            ("four are not enough", &[Failure; 4], Circuit::Closed),
            ("five are", &[Failure; 5], Circuit::Open),
            (
                "only failures in a row count",
                &[Failure, Failure, Failure, Failure, Answer, Failure],
                Circuit::Closed,
            ),
            (
                "a probe",
                &[Failure, Failure, Failure, Failure, Failure, started],
                Circuit::HalfOpen,
            ),
            (
                "one probe at a time",
                &[
                    Failure, Failure, Failure, Failure, Failure, started, refused,
                ],
                Circuit::HalfOpen,
            ),
            (
                "one failure of a probe is enough",
                &[
                    Failure, Failure, Failure, Failure, Failure, started, Failure,
                ],
                Circuit::Open,
            ),
            (
                "the next probe",
                &[
                    Failure, Failure, Failure, Failure, Failure, started, Failure, started,
                ],
                Circuit::HalfOpen,
            ),
            (
                "a probe that was answered",
                &[Failure, Failure, Failure, Failure, Failure, started, Answer],
                Circuit::Closed,
            ),
            (
                "a late answer of an older call",
                &[Failure, Failure, Failure, Failure, Failure, Answer],
                Circuit::Closed,
            ),
            (
                "after closing it takes five again",
                &[
                    Failure, Failure, Failure, Failure, Failure, Answer, Failure, Failure, Failure,
                    Failure,
                ],
                Circuit::Closed,
            ),
        ];
        for (name, events, expected) in table {
            let breaker = after(events);
            assert_eq!(breaker.state, *expected, "{name}");
            assert_eq!(
                breaker.admit().is_ok(),
                *expected == Circuit::Closed,
                "{name}"
            );
            assert_eq!(breaker.is_open(), *expected != Circuit::Closed, "{name}");
        }
    }

    #[test]
    fn who_is_turned_away_hears_the_last_cause() {
        let breaker = after(&[Failure; 6]);
        assert_eq!(breaker.admit(), Err(Arc::from("failure 5")));
    }
}
