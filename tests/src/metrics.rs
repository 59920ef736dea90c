//! Counters of a program, in Prometheus' text form.

use crate::http;

/// All samples of one page.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    /// As written, without the braces.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads `/metrics` at an address.
    pub async fn read(url: &str) -> Self {
        let (status, text) = http::get(&format!("{url}/metrics")).await.expect("metrics");
        assert_eq!(status, 200, "metrics of {url}");
        Self::parse(&text)
    }

    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Sample::parse).collect())
    }

    /// The sum of a family over the series that have all these labels, each written `name="value"`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|label| sample.labels.contains(label))
        };
        self.0.iter().filter(has).map(|sample| sample.value).sum()
    }

    /// How many calls of that method an etcd has answered, however.
    #[must_use]
    pub fn handled(&self, method: &str) -> u64 {
        let method = format!("grpc_method=\"{method}\"");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter of calls is a small whole number"
        )]
        let handled = self.sum("grpc_server_handled_total", &[&method]) as u64;
        handled
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some(Self {
            name: name.to_owned(),
            labels: labels.trim_end_matches('}').to_owned(),
            value: value.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_over_the_series_with_the_labels() {
        let metrics = Metrics::parse(concat!(
            "# HELP grpc_server_handled_total calls\n",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Range\"} 5\n",
            "grpc_server_handled_total{grpc_code=\"OutOfRange\",grpc_method=\"Range\"} 2\n",
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"RangeStream\"} 9\n",
            "up 1\n",
        ));
        assert_eq!(metrics.handled("Range"), 7);
        assert_eq!(metrics.handled("Put"), 0);
        assert!((metrics.sum("up", &[]) - 1.0).abs() < f64::EPSILON);
    }
}
