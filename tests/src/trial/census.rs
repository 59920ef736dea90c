//! Figures for a report: how often, how long.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Durations, of which the middle and the ends are shown.
#[derive(Clone, Debug, Default)]
pub struct Times {
    all: Vec<Duration>,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.all.push(time);
    }

    /// The time that so many of a hundred do not pass; zero where there is none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.all.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_millis();
        write!(
            f,
            "median {} ms, 90th {} ms, longest {} ms (of {})",
            millis(50),
            millis(90),
            millis(100),
            self.all.len()
        )
    }
}

/// How often each number came.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    all: BTreeMap<u64, u64>,
}

impl Counts {
    pub fn add(&mut self, number: u64) {
        *self.all.entry(number).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self
            .all
            .iter()
            .map(|(number, times)| format!("{number} in {times}"))
            .collect();
        let total: u64 = self.all.iter().map(|(number, times)| number * times).sum();
        write!(f, "{} ({total} in all)", rows.join(", "))
    }
}

/// A number from the environment, for the long form of a test.
#[must_use]
pub fn asked(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text:?} is no number")),
        Err(_) => usual,
    }
}
