//! Three stores, the ways to them, and a Keyloom.

use std::{cell::Cell, fs, path::Path};

use keyloom_etcd_api::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

use tempfile::TempDir;

use super::fault::Victim;
use crate::{
    disk::SmallDisk,
    etcd::{Etcd, Version},
    keyloom::Keyloom,
    trial,
    wire::Wire,
};

/// How long a call to the store in trouble may take, and one to another store: whatever the machine
/// has to do besides.
const TIMEOUT: &str = "2s";
const LONG_TIMEOUT: &str = "60s";

/// A store that is away must not end the term.
const TERM: [&str; 2] = ["--term", "90s"];

/// See the module's page. Two etcds, each behind a wire, and a SQLite file with the pods.
#[derive(Debug)]
pub struct Ground {
    pub default: Etcd,
    pub tenant: Etcd,
    pub to_default: Wire,
    pub to_tenant: Wire,
    pub keyloom: Keyloom,
    home: TempDir,
    /// Of the SQLite file, where it is to become full.
    disk: Option<SmallDisk>,
    victim: Victim,
    number: Cell<u64>,
}

impl Ground {
    pub async fn new(victim: Victim) -> Self {
        Self::on(None, victim, &TERM).await
    }

    /// With a Keyloom that is told more.
    pub async fn with(arguments: &[&str]) -> Self {
        Self::on(None, Victim::Tenant, arguments).await
    }

    /// With the SQLite file on a disk of its own. `None` where this system has none to give.
    pub async fn on_small_disk() -> Option<Self> {
        let disk = SmallDisk::new()?;
        Some(Self::on(Some(disk), Victim::Pods, &TERM).await)
    }

    async fn on(disk: Option<SmallDisk>, victim: Victim, arguments: &[&str]) -> Self {
        let [default, tenant] = Etcd::start_all([Version::V36, Version::V36]).await;
        let (to_default, to_tenant) = (Wire::to(&default.url()), Wire::to(&tenant.url()));
        let home = tempfile::tempdir().expect("a temporary folder");
        let urls = [to_default.url(), to_tenant.url()];
        let pods = disk.as_ref().map_or(home.path(), SmallDisk::path);
        let file = file(&urls, pods, victim, 0);
        let by = disk.as_ref().map_or_else(Vec::new, SmallDisk::by);
        let mut keyloom = Keyloom::launch_by(by, &file, arguments);
        keyloom.ready().await;
        Self {
            default,
            tenant,
            to_default,
            to_tenant,
            keyloom,
            home,
            disk,
            victim,
            number: Cell::new(0),
        }
    }

    /// The store that something happens to.
    pub fn store(&mut self, victim: Victim) -> &mut Etcd {
        match victim {
            Victim::Default => &mut self.default,
            Victim::Tenant => &mut self.tenant,
            Victim::Pods => panic!("a SQLite file is no process"),
        }
    }

    /// Keyloom's way to it.
    #[must_use]
    pub fn wire(&self, victim: Victim) -> &Wire {
        match victim {
            Victim::Default => &self.to_default,
            Victim::Tenant => &self.to_tenant,
            Victim::Pods => panic!("no network leads to a SQLite file"),
        }
    }

    /// Leaves no room for what a store writes.
    pub(super) async fn fill(&mut self, victim: Victim) {
        match &self.disk {
            Some(disk) if victim == Victim::Pods => disk.fill(self.keyloom.id()),
            _ => self.quota(victim, AlarmAction::Activate).await,
        }
    }

    /// There is room again.
    pub(super) async fn make_room(&mut self, victim: Victim) {
        match &self.disk {
            Some(disk) if victim == Victim::Pods => disk.make_room(self.keyloom.id()),
            _ => self.quota(victim, AlarmAction::Deactivate).await,
        }
    }

    /// What an etcd does itself once its quota is used up, and what its operator does then.
    async fn quota(&mut self, victim: Victim, action: AlarmAction) {
        let alarm = AlarmRequest {
            action: action.into(),
            member_id: 0,
            alarm: AlarmType::Nospace.into(),
        };
        let told = self.store(victim).client().maintenance().alarm(alarm).await;
        told.expect("an alarm");
    }

    /// Writes another topology: the way to the tenant's store has another limit, and a namespace
    /// that nobody uses moves to or from it.
    pub fn write_another_topology(&self) {
        self.number.set(self.number.get() + 1);
        let urls = [self.to_default.url(), self.to_tenant.url()];
        let pods = self.disk.as_ref().map_or(self.home.path(), SmallDisk::path);
        let text = file(&urls, pods, self.victim, self.number.get());
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

fn file(urls: &[String; 2], folder: &Path, victim: Victim, number: u64) -> String {
    let pods = format!("sqlite://{}/pods.db", folder.display());
    let file = trial::topology().file(&[urls[0].clone(), urls[1].clone(), pods]);
    let timeout = |of| {
        if of == victim { TIMEOUT } else { LONG_TIMEOUT }
    };
    let limits = format!(
        "{{timeout: {}, maxInFlight: {}}}",
        timeout(Victim::Tenant),
        limit(number)
    );
    let file = file.replace(
        "- name: tenant\n",
        &format!("- name: tenant\n  limits: {limits}\n"),
    );
    let default = timeout(Victim::Default);
    let default = format!("default:\n  limits: {{timeout: {default}}}\n");
    let file = file.replacen("default:\n", &default, 1);
    if number.is_multiple_of(2) {
        file
    } else {
        file.replace("[tenant-a]", "[tenant-a, tenant-unused]")
    }
}
