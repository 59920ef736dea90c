//! What a seed decides beforehand: stores, routes, traffic, and how much goes wrong.

use std::time::Duration;

use keyloom_proxy::WatchOptions;
use keyloom_testkit::program::Chance;

use crate::net::Latency;

/// A run, before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Places in [`BACKENDS`].
    pub(crate) backends: Vec<usize>,
    pub(crate) latency: Latency,
    pub(crate) leadership_duration: Duration,
    pub(crate) watch: WatchOptions,
    /// For how long the clients work.
    pub(crate) work: Duration,
    /// Whether a second instance stands by.
    pub(crate) standby: bool,
    /// How many milliseconds pass between two faults at most; 0 is no faults.
    pub(crate) fault_every: i64,
    /// Whether instances are killed and paused.
    pub(crate) crashes: bool,
    /// Whether the topology changes.
    pub(crate) reloads: bool,
    pub(crate) compacts: bool,
    /// Whether connections that are half-open in the end stay so until somebody notices.
    pub(crate) patient: bool,
    /// The longest pause of a client between two calls, in milliseconds.
    pub(crate) pause: i64,
    pub(crate) versions: Vec<&'static str>,
    /// Whether somebody writes to the stores past Keyloom, and compacts them.
    pub(crate) foreign: bool,
    pub(crate) others_compact: bool,
}

/// Name, matcher, and the group of keys that it takes.
pub(crate) const BACKENDS: [(&str, &str); 3] = [
    ("rbac", "regexp: {key: ^(clusterroles|roles)/}"),
    ("tenant", "namespace: {namespace: tenant-a}"),
    ("pods", "prefix: {prefix: pods}"),
];

/// Of these the last does not tell progress in a way that can be trusted.
const VERSIONS: [&str; 3] = ["3.6.16", "3.5.21", "3.4.20"];

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x0051_3ed5);
        let mut backends = vec![0, 1, 2];
        for _ in 0..chance.below(3) {
            let at = chance.below(backends.len());
            backends.remove(at);
        }
        let crashes = chance.percent(50);
        let calm = chance.percent(8);
        let least = chance.between(1, 8);
        let latency = Latency {
            least,
            most: least + chance.between(1, 25),
        };
        let history = *chance.pick(&[4, 40, 2_000]).unwrap_or(&40);
        let versions = (0..=backends.len()).map(|_| {
            let newest = chance.percent(60);
            let one = chance.pick(&VERSIONS).copied();
            if newest {
                VERSIONS[0]
            } else {
                one.unwrap_or(VERSIONS[0])
            }
        });
        let plan = Self {
            versions: versions.collect(),
            seed,
            latency,
            leadership_duration: Duration::from_millis(chance.between(1_000, 3_000).unsigned_abs()),
            watch: WatchOptions {
                progress_interval: Duration::from_millis(chance.between(500, 4_000).unsigned_abs()),
                history_bytes: 1 << 20,
                history_revisions: history,
            },
            work: Duration::from_millis(chance.between(4_000, 16_000).unsigned_abs()),
            standby: crashes && chance.percent(50),
            fault_every: if calm { 0 } else { chance.between(200, 2_500) },
            crashes,
            reloads: chance.percent(25),
            compacts: chance.percent(60),
            patient: chance.percent(15),
            pause: chance.between(60, 400),
            backends,
            foreign: false,
            others_compact: false,
        };
        // Drawn last, so that all else of a seed is as it was without.
        let foreign = chance.percent(40);
        Self {
            foreign,
            others_compact: foreign && plan.compacts && chance.percent(25),
            ..plan
        }
    }

    /// The names of the stores in the order of the topology, the default one first.
    pub(crate) fn stores(&self) -> Vec<&'static str> {
        let names = self.backends.iter().filter_map(|at| BACKENDS.get(*at));
        std::iter::once("default")
            .chain(names.map(|(name, _)| *name))
            .collect()
    }

    /// The topology file. With `services`, that backend has the services too; nothing else moves.
    pub(crate) fn topology(&self, services: Option<usize>) -> String {
        let mut text =
            "default: {endpoint: 'http://default:2379'}\ndeleteRangeOverStores: refuse\nbackends:\n"
                .to_owned();
        if let Some((name, _)) = services.and_then(|at| BACKENDS.get(at)) {
            text += &format!(
                "- {{name: {name}-services, endpoint: 'http://{name}:2379', prefix: {{prefix: services}}}}\n"
            );
        }
        for (name, matcher) in self.backends.iter().filter_map(|at| BACKENDS.get(*at)) {
            text += &format!("- {{name: {name}, endpoint: 'http://{name}:2379', {matcher}}}\n");
        }
        text
    }

    /// The place of the store of a key; none where that changes.
    pub(crate) fn store_of(&self, key: &[u8]) -> Option<usize> {
        let text = String::from_utf8_lossy(key);
        let path = text.strip_prefix("/registry/").unwrap_or_default();
        if self.reloads && path.starts_with("services/") {
            return None;
        }
        let takes = |at: &usize| match at {
            0 => path.starts_with("clusterroles/") || path.starts_with("roles/"),
            1 => path.split('/').nth(1) == Some("tenant-a"),
            _ => path == "pods" || path.starts_with("pods/"),
        };
        Some(self.backends.iter().position(takes).map_or(0, |at| at + 1))
    }
}
