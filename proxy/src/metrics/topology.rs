//! What of the topology is counted and shown.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: ChangeOutcome,
}

/// What became of a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ChangeOutcome {
    Accepted,
    Unchanged,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    store: String,
}

/// See the module's page. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct TopologyMetrics {
    reloads: Family<OutcomeLabels, Counter>,
    refused: Gauge,
    generation: Gauge,
    strays: Family<StoreLabels, Gauge>,
    late: Family<StoreLabels, Counter>,
}

impl TopologyMetrics {
    /// Metrics that the registry shows.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "keyloom_proxy_topology_reloads",
            "Topology files that were read, by outcome",
            metrics.reloads.clone(),
        );
        registry.register(
            "keyloom_proxy_topology_refused",
            "1 while the topology file is refused and the previous topology is in effect, else 0",
            metrics.refused.clone(),
        );
        registry.register(
            "keyloom_proxy_topology_generation",
            "Changes of topology that took effect since the start",
            metrics.generation.clone(),
        );
        registry.register(
            "keyloom_proxy_topology_stray_keys",
            "Keys that a store holds and that route elsewhere, at the last count",
            metrics.strays.clone(),
        );
        registry.register(
            "keyloom_proxy_topology_late_writes",
            "Writes that reached a store after their key had moved; no client sees them",
            metrics.late.clone(),
        );
        metrics
    }

    pub(crate) fn looked_at(&self, outcome: ChangeOutcome) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
        self.refused
            .set(i64::from(outcome == ChangeOutcome::Refused));
    }

    pub(crate) fn took(&self, generation: u64) {
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    pub(crate) fn strays(&self, store: &str, count: u64) {
        let store = store.to_owned();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.strays.get_or_create(&StoreLabels { store }).set(count);
    }
    pub(crate) fn late_write(&self, store: &str) {
        let store = store.to_owned();
        self.late.get_or_create(&StoreLabels { store }).inc();
    }
}
