//! What there is at this moment of everything that comes and goes: what an operator watches for
//! leaks. Counted when somebody looks, so that calls pay nothing for it.

use std::fs;

use keyloom_hub::HubGauges;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// Gauges that [`Self::look`] sets.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    tasks: Gauge,
    streams: Gauge,
    watchers: Gauge,
    ranges: Gauge,
    chases: Gauge,
    kept_revisions: Gauge,
    kept_bytes: Gauge,
    resident: Gauge,
    files: Gauge,
    /// Of clients: kept by the listeners.
    pub(crate) connections: Gauge,
}

impl Gauges {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let gauges = Self::default();
        let rows = [
            ("tasks", "Tasks of the runtime", &gauges.tasks),
            (
                "connections",
                "Open client connections",
                &gauges.connections,
            ),
            (
                "watch_streams",
                "Open watch streams of clients, with several stores",
                &gauges.streams,
            ),
            ("watchers", "Watches on these streams", &gauges.watchers),
            (
                "watched_ranges",
                "Distinct ranges that these watches have",
                &gauges.ranges,
            ),
            (
                "watch_chases",
                "Watches opened on stores for clients that are catching up",
                &gauges.chases,
            ),
            (
                "kept_revisions",
                "Revisions of all stores that are kept in memory for watches",
                &gauges.kept_revisions,
            ),
            (
                "kept_revisions_bytes",
                "Memory that kept revisions take, in bytes (estimated)",
                &gauges.kept_bytes,
            ),
        ];
        for (name, help, gauge) in rows {
            registry.register(format!("keyloom_proxy_{name}"), help, gauge.clone());
        }
        // The names that Prometheus' own client libraries use.
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            gauges.resident.clone(),
        );
        registry.register(
            "process_open_fds",
            "Number of open file descriptors",
            gauges.files.clone(),
        );
        gauges
    }

    /// Sets what is not kept up to date.
    pub(crate) fn look(&self, gauges: &HubGauges) {
        let runtime = tokio::runtime::Handle::try_current();
        set(
            &self.tasks,
            runtime.map_or(0, |it| it.metrics().num_alive_tasks()),
        );
        set(&self.streams, gauges.streams);
        set(&self.watchers, gauges.watchers);
        set(&self.ranges, gauges.ranges);
        set(&self.chases, gauges.chases);
        set(&self.kept_revisions, gauges.kept_revisions);
        set(&self.kept_bytes, gauges.kept_bytes);
        set(&self.resident, resident().unwrap_or_default());
        // The folder that is read is one itself.
        let files = fs::read_dir("/proc/self/fd").map(Iterator::count);
        set(
            &self.files,
            files.map_or(0, |count| count.saturating_sub(1)),
        );
    }
}

fn set(gauge: &Gauge, value: usize) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// In bytes; `None` on a system that does not say it as Linux does.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    resident_of(&status)
}

fn resident_of(status: &str) -> Option<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_in_bytes() {
        let status = "Name:\tkeyloom\nVmHWM:\t   20480 kB\nVmRSS:\t   12288 kB\nThreads:\t1\n";
        assert_eq!(resident_of(status), Some(12 << 20));
        assert_eq!(resident_of("Name:\tkeyloom\n"), None);
    }

    #[tokio::test]
    async fn the_page_has_what_there_is() {
        let mut registry = Registry::default();
        let gauges = Gauges::register(&mut registry);
        let _task = tokio::spawn(std::future::pending::<()>());
        gauges.connections.set(5);
        gauges.look(&HubGauges {
            watchers: 7,
            ..HubGauges::default()
        });
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for line in [
            "keyloom_proxy_tasks 1\n",
            "keyloom_proxy_watchers 7\n",
            "keyloom_proxy_connections 5\n",
        ] {
            assert!(page.contains(line), "{page}");
        }
    }
}
