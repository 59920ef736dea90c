//! The metrics of the endpoint, registered on a registry that is passed in.

mod topology;

use std::{sync::OnceLock, time::Duration};

use keyloom_etcd_api::{Code, Rpc};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

pub(crate) use topology::ChangeOutcome;
pub use topology::TopologyMetrics;

/// Counts and durations of the calls that clients make.
#[derive(Debug)]
pub(crate) struct Metrics {
    calls: Family<CallLabels, Counter>,
    durations: Family<RpcLabels, Histogram, fn() -> Histogram>,
    /// By the place of the call in its enum.
    often: Box<[Often]>,
}

/// The series of a call that ends well. Looked up once: a family's map is a lock and a hash of the
/// labels.
#[derive(Debug, Default)]
struct Often {
    well: OnceLock<Counter>,
    durations: OnceLock<Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc: RpcLabel,
    code: CodeLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    rpc: RpcLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RpcLabel(Rpc);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeLabel(Code);

impl EncodeLabelValue for RpcLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.0.name().encode(encoder)
    }
}

impl EncodeLabelValue for CodeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        format!("{:?}", self.0).as_str().encode(encoder)
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // 64 µs, a forwarded call on loopback, to about 17 s, past any sensible deadline.
        let durations: Family<RpcLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(64e-6, 2.0, 19)));
        let metrics = Self {
            calls: Family::default(),
            durations,
            often: Rpc::ALL.iter().map(|_| Often::default()).collect(),
        };
        registry.register(
            "keyloom_proxy_calls",
            "Calls of clients, by method and gRPC code",
            metrics.calls.clone(),
        );
        registry.register(
            "keyloom_proxy_call_duration_seconds",
            "Time from the arrival of a call to the headers of its answer, in seconds",
            metrics.durations.clone(),
        );
        metrics
    }

    pub(crate) fn called(&self, rpc: Rpc, code: Code, took: Duration) {
        let Some(often) = self.often.get(rpc as usize) else {
            return;
        };
        match code {
            Code::Ok => {
                let well = often.well.get_or_init(|| self.counter(rpc, code));
                well.inc();
            }
            _ => {
                self.counter(rpc, code).inc();
            }
        }
        let durations = often.durations.get_or_init(|| {
            let rpc = RpcLabel(rpc);
            self.durations.get_or_create_owned(&RpcLabels { rpc })
        });
        durations.observe(took.as_secs_f64());
    }

    fn counter(&self, rpc: Rpc, code: Code) -> Counter {
        let (rpc, code) = (RpcLabel(rpc), CodeLabel(code));
        self.calls.get_or_create_owned(&CallLabels { rpc, code })
    }
}
