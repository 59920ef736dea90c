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
enum State {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// The circuit breaker of a store.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
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
            State::Closed => Ok(()),
            State::Open | State::HalfOpen => Err(self.cause.clone().unwrap_or_default()),
        }
    }

    /// Whether calls are turned away.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// The store answered.
    pub(super) fn answered(&mut self) {
        self.state = State::Closed;
        self.failures = 0;
    }

    /// The store did not answer.
    pub(super) fn failed(&mut self, cause: Arc<str>) {
        self.failures = self.failures.saturating_add(1);
        self.cause = Some(cause);
        self.state = match self.state {
            State::Closed if self.failures < THRESHOLD => State::Closed,
            State::Closed | State::Open | State::HalfOpen => State::Open,
        };
    }

    /// Takes the one place of a probe, if there is one to take.
    pub(super) fn start_probe(&mut self) -> bool {
        let starts = self.state == State::Open;
        if starts {
            self.state = State::HalfOpen;
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
        let table: &[(&str, &[Event], State)] = &[
            ("new", &[], State::Closed),
            ("no probe while closed", &[refused], State::Closed),
            ("four are not enough", &[Failure; 4], State::Closed),
            ("five are", &[Failure; 5], State::Open),
            (
                "only failures in a row count",
                &[Failure, Failure, Failure, Failure, Answer, Failure],
                State::Closed,
            ),
            (
                "a probe",
                &[Failure, Failure, Failure, Failure, Failure, started],
                State::HalfOpen,
            ),
            (
                "one probe at a time",
                &[
                    Failure, Failure, Failure, Failure, Failure, started, refused,
                ],
                State::HalfOpen,
            ),
            (
                "one failure of a probe is enough",
                &[
                    Failure, Failure, Failure, Failure, Failure, started, Failure,
                ],
                State::Open,
            ),
            (
                "the next probe",
                &[
                    Failure, Failure, Failure, Failure, Failure, started, Failure, started,
                ],
                State::HalfOpen,
            ),
            (
                "a probe that was answered",
                &[Failure, Failure, Failure, Failure, Failure, started, Answer],
                State::Closed,
            ),
            (
                "a late answer of an older call",
                &[Failure, Failure, Failure, Failure, Failure, Answer],
                State::Closed,
            ),
            (
                "after closing it takes five again",
                &[
                    Failure, Failure, Failure, Failure, Failure, Answer, Failure, Failure, Failure,
                    Failure,
                ],
                State::Closed,
            ),
        ];
        for (name, events, expected) in table {
            let breaker = after(events);
            assert_eq!(breaker.state, *expected, "{name}");
            assert_eq!(
                breaker.admit().is_ok(),
                *expected == State::Closed,
                "{name}"
            );
            assert_eq!(breaker.is_open(), *expected != State::Closed, "{name}");
        }
    }

    #[test]
    fn who_is_turned_away_hears_the_last_cause() {
        let breaker = after(&[Failure; 6]);
        assert_eq!(breaker.admit(), Err(Arc::from("failure 5")));
    }
}
