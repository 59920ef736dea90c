//! What is counted about SQL stores, on a registry that is passed in.
//!
//! Labels are the store's name and closed lists: statements, kinds of trouble.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Duration;

use crate::{error::FaultKind, statement::Statement};

/// From one row by index to a stall that leases notice.
const SECONDS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25,
    1.0, 2.5, 10.0, 30.0,
];

/// How many transactions share a commit: powers of two up to the most that may.
const BATCH: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    store: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatementLabels {
    store: String,
    statement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    store: String,
    fault: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The families of every SQL store.
#[derive(Clone, Debug)]
pub struct Metrics {
    statements: Histograms<StatementLabels>,
    slow: Family<StatementLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    batches: Histograms<StoreLabels>,
    revision: Family<StoreLabels, Gauge>,
    compacted: Family<StoreLabels, Gauge>,
    objects: Family<StoreLabels, Gauge>,
    bytes: Family<StoreLabels, Gauge>,
    leases: Family<StoreLabels, Gauge>,
    watchers: Family<StoreLabels, Gauge>,
    catch_ups: Family<StoreLabels, Counter>,
    log_pages: Family<StoreLabels, Gauge>,
}

impl Default for Metrics {
    /// Counted, and shown nowhere.
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let batch: fn() -> Histogram = || Histogram::new(BATCH);
        Self {
            statements: Family::new_with_constructor(seconds),
            slow: Family::default(),
            faults: Family::default(),
            batches: Family::new_with_constructor(batch),
            revision: Family::default(),
            compacted: Family::default(),
            objects: Family::default(),
            bytes: Family::default(),
            leases: Family::default(),
            watchers: Family::default(),
            catch_ups: Family::default(),
            log_pages: Family::default(),
        }
    }
}

impl Metrics {
    /// Families on a registry. Once per registry: the stores of a program share them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        let to = registry.sub_registry_with_prefix("keyloom_sqlstore");
        to.register(
            "statement_duration_seconds",
            "Duration of statements, in seconds",
            all.statements.clone(),
        );
        to.register(
            "slow_statements",
            "Statements that took longer than 100 ms",
            all.slow.clone(),
        );
        to.register(
            "faults",
            "Statements that failed, by cause",
            all.faults.clone(),
        );
        to.register(
            "batch_writes",
            "Writes that shared one commit",
            all.batches.clone(),
        );
        to.register(
            "revision",
            "The revision of the last change",
            all.revision.clone(),
        );
        to.register(
            "compacted_revision",
            "The revision of the last compaction; nothing below it can be read",
            all.compacted.clone(),
        );
        to.register("objects", "Keys that exist", all.objects.clone());
        to.register(
            "object_bytes",
            "Bytes of these keys and their values",
            all.bytes.clone(),
        );
        to.register("leases", "Leases that have not expired", all.leases.clone());
        to.register("watchers", "Open watches", all.watchers.clone());
        to.register(
            "watch_catch_ups",
            "Reads of the history for watches that were behind",
            all.catch_ups.clone(),
        );
        to.register(
            "log_pages",
            "Pages in the write-ahead log",
            all.log_pages.clone(),
        );
        all
    }

    pub(crate) fn of_store(&self, name: &str) -> StoreMetrics {
        let labels = StoreLabels {
            store: name.to_owned(),
        };
        let statement = |statement: &Statement| {
            let labels = StatementLabels {
                store: name.to_owned(),
                statement: statement.name(),
            };
            self.statements.get_or_create_owned(&labels)
        };
        StoreMetrics {
            statements: Statement::ALL.iter().map(statement).collect(),
            batches: self.batches.get_or_create_owned(&labels),
            revision: self.revision.get_or_create_owned(&labels),
            compacted: self.compacted.get_or_create_owned(&labels),
            objects: self.objects.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            leases: self.leases.get_or_create_owned(&labels),
            watchers: self.watchers.get_or_create_owned(&labels),
            catch_ups: self.catch_ups.get_or_create_owned(&labels),
            log_pages: self.log_pages.get_or_create_owned(&labels),
            families: self.clone(),
            store: labels.store,
        }
    }
}

/// The series of one store. Looked up once: a family's map is a lock and a hash of the labels.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    families: Metrics,
    store: String,
    /// By the place of the statement in its enum.
    statements: Box<[Histogram]>,
    pub(crate) batches: Histogram,
    pub(crate) revision: Gauge,
    pub(crate) compacted: Gauge,
    pub(crate) objects: Gauge,
    pub(crate) bytes: Gauge,
    pub(crate) leases: Gauge,
    pub(crate) watchers: Gauge,
    pub(crate) catch_ups: Counter,
    pub(crate) log_pages: Gauge,
}

impl StoreMetrics {
    pub(crate) fn took(&self, statement: Statement, time: Duration) {
        if let Some(histogram) = self.statements.get(statement as usize) {
            histogram.observe(time.as_secs_f64());
        }
    }

    pub(crate) fn slow(&self, statement: Statement) {
        let labels = StatementLabels {
            store: self.store.clone(),
            statement: statement.name(),
        };
        self.families.slow.get_or_create(&labels).inc();
    }

    pub(crate) fn fault(&self, kind: FaultKind) {
        let labels = FaultLabels {
            store: self.store.clone(),
            fault: kind.label(),
        };
        self.families.faults.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_is_shown() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry).of_store("main");
        metrics.took(Statement::Commit, Duration::from_millis(3));
        metrics.slow(Statement::Commit);
        metrics.fault(FaultKind::Full);
        metrics.batches.observe(3.0);
        metrics.revision.set(7);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"keyloom_sqlstore_statement_duration_seconds_bucket{le="0.005",store="main",statement="commit"} 1"#,
            r#"keyloom_sqlstore_slow_statements_total{store="main",statement="commit"} 1"#,
            r#"keyloom_sqlstore_faults_total{store="main",fault="full"} 1"#,
            r#"keyloom_sqlstore_batch_writes_bucket{le="4.0",store="main"} 1"#,
            r#"keyloom_sqlstore_revision{store="main"} 7"#,
        ] {
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in\n{text}"
            );
        }
        for (place, statement) in Statement::ALL.iter().enumerate() {
            assert_eq!(*statement as usize, place);
        }
    }
}
