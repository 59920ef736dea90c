//! Medians over rounds, and ratios to the first target.
//!
//! Rounds are interleaved (A B C, A B C), so that what disturbs the machine for a while disturbs
//! all targets alike. A ratio is therefore taken within each round, and the median of those is
//! reported: the ratio of two medians would put together rounds that had nothing to do with each
//! other.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Duration;

/// Latencies in microseconds, to three figures, up to a minute.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are constants that fit"));
        histogram.auto(true);
        Self(histogram)
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, and they grow.
        let _: Result<(), _> = self.0.add(&other.0);
    }

    pub(crate) fn summary(&self) -> Summary {
        let at = |percentile| micros(self.0.value_at_percentile(percentile));
        Summary {
            count: self.0.len(),
            mean: self.0.mean(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: micros(self.0.max()),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies are far below 2^53 us"
)]
fn micros(value: u64) -> f64 {
    value as f64
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What one round of one target showed: figures by name (`cpu_us/keyloom`, `p50_us/get`).
pub(crate) type Figures = BTreeMap<String, f64>;

/// The median; none of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let high = *values.get(upper)?;
    match values.len() % 2 {
        1 => Some(high),
        _ => Some(f64::midpoint(*values.get(upper.checked_sub(1)?)?, high)),
    }
}

/// The median of a figure over the rounds that have it.
pub(crate) fn median_of(rounds: &[Figures], figure: &str) -> Option<f64> {
    median(rounds.iter().filter_map(|round| round.get(figure).copied()))
}

/// The median over the rounds of what `of` makes of two figures of the same round.
pub(crate) fn paired(
    rounds: (&[Figures], &str),
    others: (&[Figures], &str),
    of: impl Fn(f64, f64) -> f64,
) -> Option<f64> {
    let pairs = rounds.0.iter().zip(others.0);
    median(
        pairs.filter_map(|(round, other)| Some(of(*round.get(rounds.1)?, *other.get(others.1)?))),
    )
}

/// The median over the rounds of a figure's ratio to another in the same round.
pub(crate) fn ratio(rounds: (&[Figures], &str), others: (&[Figures], &str)) -> Option<f64> {
    paired(rounds, others, |figure, other| figure / other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median([f64::NAN, 1.0, f64::INFINITY]), Some(1.0));
    }

    fn rounds(values: &[f64]) -> Vec<Figures> {
        let round = |value: &f64| Figures::from([("cpu".to_owned(), *value)]);
        values.iter().map(round).collect()
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // A machine that becomes three times as slow in the second round: every ratio is 2.
        let (slow, fast) = (rounds(&[2.0, 6.0, 2.0]), rounds(&[1.0, 3.0, 1.0]));
        assert_eq!(ratio((&slow, "cpu"), (&fast, "cpu")), Some(2.0));
        assert_eq!(ratio((&slow, "cpu"), (&slow, "cpu")), Some(1.0));
        assert_eq!(ratio((&slow, "cpu"), (&fast, "other")), None);
        assert_eq!(ratio((&slow, "cpu"), (&rounds(&[0.0; 3]), "cpu")), None);
        let added = paired((&slow, "cpu"), (&fast, "cpu"), |a, b| a - b);
        assert_eq!(added, Some(1.0));
    }

    #[test]
    fn percentiles_are_those_of_all_that_was_added() {
        let (mut some, mut others) = (Latencies::default(), Latencies::default());
        for millis in 1..=50 {
            some.record(Duration::from_millis(millis));
            others.record(Duration::from_millis(millis + 50));
        }
        some.add(&others);
        let summary = some.summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50 / 50_000.0 - 1.0).abs() < 0.001, "{summary:?}");
        assert!((summary.p99 / 99_000.0 - 1.0).abs() < 0.001, "{summary:?}");
        assert!((summary.max / 100_000.0 - 1.0).abs() < 0.001, "{summary:?}");
    }
}
