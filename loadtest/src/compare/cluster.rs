//! The processes of a comparison.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{BEFORE_FOUR, BEFORE_ONE, ETCD, FOUR, GRPC_PROXY, ONE, RAW, TONIC};
use crate::{
    keyspace::namespace,
    run::Subject,
    server::{Server, answers, etcd, free_address, grpc_proxy},
};

/// Where the programs are.
#[derive(Debug)]
pub(super) struct ClusterPrograms {
    pub(super) etcd: PathBuf,
    pub(super) keyloom: PathBuf,
    pub(super) before: Option<PathBuf>,
    pub(super) floor: PathBuf,
}

/// Everything that runs; ends with the value, the front ends before the stores.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Vec<Server>,
    stores: Vec<Server>,
    /// Removed last.
    folder: TempDir,
}

impl Cluster {
    /// Starts the targets, or those of them that are named.
    pub(super) async fn start(programs: &ClusterPrograms, only: &[String]) -> Result<Self> {
        let folder = TempDir::with_prefix("keyloom-compare-").context("a temporary folder")?;
        let mut cluster = Self {
            servers: Vec::new(),
            stores: Vec::new(),
            folder,
        };
        let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
        let store = cluster.store(programs, ETCD).await?;
        for name in [RAW, TONIC, GRPC_PROXY] {
            if wanted(name) {
                let (command, address) = single(programs, name, store)?;
                cluster.serve(name, command, address).await?;
            }
        }
        let before = programs.before.as_ref();
        let keylooms = [
            (before, BEFORE_ONE, BEFORE_FOUR),
            (Some(&programs.keyloom), ONE, FOUR),
        ];
        for (program, one, four) in keylooms {
            let Some(program) = program else { continue };
            if wanted(one) {
                let address = free_address()?;
                let mut command = keyloom(program, address);
                command.args(["--endpoint", &format!("http://{store}")]);
                cluster.serve(one, command, address).await?;
            }
            if wanted(four) {
                cluster.four(programs, program, four).await?;
            }
        }
        Ok(cluster)
    }

    /// A Keyloom in front of four stores of its own.
    async fn four(
        &mut self,
        programs: &ClusterPrograms,
        program: &Path,
        called: &str,
    ) -> Result<()> {
        let mut stores = Vec::new();
        for number in 0..4 {
            let name = format!("store-{number}-of-{called}");
            stores.push(self.store(programs, &name).await?);
        }
        let topology = self.path(&format!("{called}.yaml"));
        fs::write(&topology, topology_of(&stores)).context("writing the topology")?;
        let address = free_address()?;
        let mut command = keyloom(program, address);
        command.arg("--topology").arg(&topology);
        self.serve(called, command, address).await
    }

    /// The targets in the order of the report, each with its own process.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let etcd = self.stores.iter().filter(|store| store.name() == ETCD);
        etcd.chain(&self.servers).map(Server::subject).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn store(&mut self, programs: &ClusterPrograms, name: &str) -> Result<SocketAddr> {
        let address = free_address()?;
        let command = etcd(&programs.etcd, name, &self.path(name), address)?;
        let log = self.path(&format!("{name}.log"));
        self.stores
            .push(Server::start(name, command, address, &log)?);
        answers(name, address).await?;
        Ok(address)
    }

    async fn serve(&mut self, name: &str, command: Command, address: SocketAddr) -> Result<()> {
        let log = self.path(&format!("{name}.log"));
        self.servers
            .push(Server::start(name, command, address, &log)?);
        let started = answers(name, address).await;
        started.with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }
}

/// A proxy in front of one store, and where it listens.
fn single(
    programs: &ClusterPrograms,
    name: &str,
    store: SocketAddr,
) -> Result<(Command, SocketAddr)> {
    let address = free_address()?;
    let floor = |program: &str| {
        let mut command = Command::new(programs.floor.join(program));
        command.args([address.to_string(), store.to_string()]);
        command
    };
    let command = match name {
        RAW => floor("keyloom-floor-raw"),
        TONIC => floor("keyloom-floor-tonic"),
        GRPC_PROXY => grpc_proxy(&programs.etcd, address, store),
        other => anyhow::bail!("{other} is no proxy in front of one store"),
    };
    Ok((command, address))
}

fn keyloom(program: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", &format!("http://{address}")]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command
}

/// The first store is the default one and has the first namespace; each other has the namespace
/// of its number.
pub(crate) fn topology_of(stores: &[SocketAddr]) -> String {
    let mut text = String::new();
    for (number, store) in stores.iter().enumerate() {
        text += &match number {
            0 => format!("default:\n  endpoint: http://{store}\nbackends:\n"),
            _ => format!(
                "- name: store-{number}\n  endpoint: http://{store}\n  namespace: {{namespace: {}}}\n",
                namespace(number)
            ),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_its_store() {
        let stores: Vec<_> = (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect();
        assert_eq!(
            topology_of(&stores),
            "default:\n  endpoint: http://127.0.0.1:1\nbackends:\n\
             - name: store-1\n  endpoint: http://127.0.0.1:2\n  namespace: {namespace: load-001}\n\
             - name: store-2\n  endpoint: http://127.0.0.1:3\n  namespace: {namespace: load-002}\n"
        );
    }
}
