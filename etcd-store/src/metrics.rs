//! What is counted about stores, on a registry that is passed in.
//!
//! Every label is one of a few: the store's name, the call, what came of it, the lane. Series
//! appear with their first event.

use std::sync::OnceLock;

use keyloom_etcd_api::Rpc;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Duration;

use keyloom_store::{CallError, Lane};

/// From a local etcd's fastest answer to kube-apiserver's time limit, in steps of about two.
const SECONDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An answer.
    Ok,
    /// An error that the store answered.
    Refused,
    /// It never reached the store.
    NotSent,
    /// Nobody knows.
    Unknown,
    /// No answer in time.
    TimedOut,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::NotSent,
        Self::Unknown,
        Self::TimedOut,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::TimedOut => "timed_out",
        }
    }

    fn of<T>(result: &Result<T, CallError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(CallError::Refused(_)) => Self::Refused,
            Err(CallError::NotSent(_)) => Self::NotSent,
            Err(CallError::Unknown(_)) => Self::Unknown,
            Err(CallError::TimedOut) => Self::TimedOut,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    store: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    store: String,
    rpc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    store: String,
    rpc: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    store: String,
    lane: &'static str,
}

/// The families of every store.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<RpcLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<StoreLabels, Gauge>,
    opened: Family<ConnectionLabels, Counter>,
    failed: Family<ConnectionLabels, Counter>,
}

impl Default for Metrics {
    /// Counted, and shown nowhere.
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_flight: Family::default(),
            opened: Family::default(),
            failed: Family::default(),
        }
    }
}

impl Metrics {
    /// Families on a registry. Once per registry: the stores of a program share them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let store = registry.sub_registry_with_prefix("keyloom_store");
        store.register(
            "calls",
            "Unary calls to stores, by outcome",
            metrics.calls.clone(),
        );
        store.register(
            "call_duration_seconds",
            "Duration of unary calls in seconds, waiting included",
            metrics.seconds.clone(),
        );
        store.register(
            "calls_in_flight",
            "Unary calls in flight, waiting ones included",
            metrics.in_flight.clone(),
        );
        store.register(
            "connections_opened",
            "Connections that were opened",
            metrics.opened.clone(),
        );
        store.register(
            "connections_failed",
            "Connections that could not be opened",
            metrics.failed.clone(),
        );
        metrics
    }

    pub(crate) fn of_store(&self, name: &str) -> StoreMetrics {
        let store = name.to_owned();
        StoreMetrics {
            in_flight: self.in_flight.get_or_create_owned(&StoreLabels { store }),
            calls: Rpc::ALL.iter().map(|_| OfRpc::default()).collect(),
            families: self.clone(),
            store: name.to_owned(),
        }
    }
}

/// One call's series. Looked up once: a family's map is a lock and a hash of the labels.
#[derive(Debug, Default)]
struct OfRpc {
    outcomes: [OnceLock<Counter>; Outcome::ALL.len()],
    seconds: OnceLock<Histogram>,
}

/// The series of one store.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    families: Metrics,
    store: String,
    in_flight: Gauge,
    /// By the place of the call in its enum.
    calls: Box<[OfRpc]>,
}

impl StoreMetrics {
    /// Counts a call as under way until the answer is dropped.
    pub(crate) fn under_way(&self) -> UnderWay<'_> {
        self.in_flight.inc();
        UnderWay(&self.in_flight)
    }

    pub(crate) fn called<T>(&self, rpc: Rpc, result: &Result<T, CallError>, took: Duration) {
        let outcome = Outcome::of(result);
        let Some(series) = self.calls.get(rpc as usize) else {
            return;
        };
        if let Some(counter) = series.outcomes.get(outcome as usize) {
            counter.get_or_init(|| self.counter(rpc, outcome)).inc();
        }
        let seconds = series.seconds.get_or_init(|| self.histogram(rpc));
        seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn connected(&self, lane: Lane, succeeded: bool) {
        let family = match succeeded {
            true => &self.families.opened,
            false => &self.families.failed,
        };
        let labels = ConnectionLabels {
            store: self.store.clone(),
            lane: match lane {
                Lane::Unary => "unary",
                Lane::Bulk => "bulk",
                Lane::Watch => "watch",
            },
        };
        family.get_or_create(&labels).inc();
    }

    fn counter(&self, rpc: Rpc, outcome: Outcome) -> Counter {
        self.families.calls.get_or_create_owned(&CallLabels {
            store: self.store.clone(),
            rpc: rpc.name(),
            outcome: outcome.name(),
        })
    }

    fn histogram(&self, rpc: Rpc) -> Histogram {
        self.families.seconds.get_or_create_owned(&RpcLabels {
            store: self.store.clone(),
            rpc: rpc.name(),
        })
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Gauge);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_call_and_outcome_has_a_place_of_its_own() {
        for (place, &rpc) in Rpc::ALL.iter().enumerate() {
            assert_eq!(rpc as usize, place);
        }
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
    }

    #[test]
    fn what_is_shown() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry).of_store("main");
        metrics.called(Rpc::Range, &Ok(()), Duration::from_millis(3));
        let late: Result<(), CallError> = Err(CallError::TimedOut);
        metrics.called(Rpc::Txn, &late, Duration::from_secs(61));
        metrics.connected(Lane::Watch, true);
        metrics.connected(Lane::Bulk, false);
        let under_way = metrics.under_way();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"keyloom_store_calls_total{store="main",rpc="Range",outcome="ok"} 1"#,
            r#"keyloom_store_calls_total{store="main",rpc="Txn",outcome="timed_out"} 1"#,
            r#"keyloom_store_call_duration_seconds_bucket{le="0.0025",store="main",rpc="Range"} 0"#,
            r#"keyloom_store_call_duration_seconds_bucket{le="0.005",store="main",rpc="Range"} 1"#,
            r#"keyloom_store_call_duration_seconds_count{store="main",rpc="Txn"} 1"#,
            r#"keyloom_store_calls_in_flight{store="main"} 1"#,
            r#"keyloom_store_connections_opened_total{store="main",lane="watch"} 1"#,
            r#"keyloom_store_connections_failed_total{store="main",lane="bulk"} 1"#,
        ] {
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in\n{text}"
            );
        }
        drop(under_way);
        text.clear();
        encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"keyloom_store_calls_in_flight{store="main"} 0"#),
            "{text}"
        );
    }
}
