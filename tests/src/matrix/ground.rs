//! Three stores, the ways to them, and a Keyloom.

use std::{cell::Cell, fs};

use tempfile::TempDir;

use super::fault::Victim;
use crate::{
    etcd::{Etcd, Version},
    keyloom::Keyloom,
    trial,
    wire::Wire,
};

/// How long a call to a store that hangs may take.
const TIMEOUT: &str = "2s";

/// See the module's page. Two etcds, each behind a wire, and a SQLite file with the pods.
#[derive(Debug)]
pub struct Ground {
    pub default: Etcd,
    pub tenant: Etcd,
    pub to_default: Wire,
    pub to_tenant: Wire,
    pub keyloom: Keyloom,
    home: TempDir,
    number: Cell<u64>,
}

impl Ground {
    pub async fn new() -> Self {
        // A store that is away must not end the term.
        Self::with(&["--term", "30s"]).await
    }

    /// With a Keyloom that is told more.
    pub async fn with(arguments: &[&str]) -> Self {
        let [default, tenant] = Etcd::start_all([Version::V36, Version::V36]).await;
        let (to_default, to_tenant) = (Wire::to(&default.url()), Wire::to(&tenant.url()));
        let home = tempfile::tempdir().expect("a temporary folder");
        let urls = [to_default.url(), to_tenant.url()];
        let file = file(&urls, &home, 0);
        let mut keyloom = Keyloom::launch_with(&file, arguments);
        keyloom.ready().await;
        Self {
            default,
            tenant,
            to_default,
            to_tenant,
            keyloom,
            home,
            number: Cell::new(0),
        }
    }

    /// The store that something happens to.
    pub fn store(&mut self, victim: Victim) -> &mut Etcd {
        match victim {
            Victim::Default => &mut self.default,
            Victim::Tenant => &mut self.tenant,
        }
    }

    /// Keyloom's way to it.
    #[must_use]
    pub fn wire(&self, victim: Victim) -> &Wire {
        match victim {
            Victim::Default => &self.to_default,
            Victim::Tenant => &self.to_tenant,
        }
    }

    /// Writes another topology: the way to the tenant's store has another limit, and a namespace
    /// that nobody uses moves to or from it.
    pub fn write_another_topology(&self) {
        self.number.set(self.number.get() + 1);
        let urls = [self.to_default.url(), self.to_tenant.url()];
        let text = file(&urls, &self.home, self.number.get());
        let path = self.keyloom.topology_file();
        let new = path.with_extension("new");
        fs::write(&new, text).expect("the folder is the test's own");
        fs::rename(&new, &path).expect("the folder is the test's own");
    }

    /// Whether the topology that was written last is served.
    pub async fn serves_what_is_written(&self) -> bool {
        let (_, served) = self.keyloom.admin("/topology").await;
        served.contains(&format!("maxInFlight: {}", limit(self.number.get())))
    }
}

/// Tells one topology from another.
fn limit(number: u64) -> u64 {
    1_000 + number
}

fn file(urls: &[String; 2], home: &TempDir, number: u64) -> String {
    let pods = format!("sqlite://{}/pods.db", home.path().display());
    let file = trial::topology().file(&[urls[0].clone(), urls[1].clone(), pods]);
    let limits = format!("{{timeout: {TIMEOUT}, maxInFlight: {}}}", limit(number));
    let file = file.replace(
        "- name: tenant\n",
        &format!("- name: tenant\n  limits: {limits}\n"),
    );
    if number.is_multiple_of(2) {
        file
    } else {
        file.replace("[tenant-a]", "[tenant-a, tenant-unused]")
    }
}
