//! The processes of a comparison.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use super::{ETCD, FOUR, GRPC_PROXY, ONE, RAW, TONIC};
use crate::{
    connection::Connection,
    endpoint::{Endpoint, Target},
    keyspace::namespace,
    process::Process,
    request::Request,
    run::Subject,
};

/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(60);

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) keyloom: PathBuf,
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
    pub(super) async fn start(programs: &Programs, only: &[String]) -> Result<Self> {
        let folder = TempDir::with_prefix("keyloom-compare-").context("a temporary folder")?;
        let mut cluster = Self {
            servers: Vec::new(),
            stores: Vec::new(),
            folder,
        };
        let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
        let store = cluster.store(programs, ETCD).await?;
        for name in [RAW, TONIC, GRPC_PROXY, ONE] {
            if wanted(name) {
                let (command, address) = single(programs, name, store)?;
                cluster.serve(name, command, address).await?;
            }
        }
        if wanted(FOUR) {
            let mut stores = Vec::new();
            for number in 0..4 {
                let name = format!("store-{number}");
                stores.push(cluster.store(programs, &name).await?);
            }
            let topology = cluster.path("topology.yaml");
            fs::write(&topology, topology_of(&stores)).context("writing the topology")?;
            let address = free_address()?;
            let mut command = keyloom(programs, address);
            command.arg("--topology").arg(&topology);
            cluster.serve(FOUR, command, address).await?;
        }
        Ok(cluster)
    }

    /// The targets in the order of the report, each with its own process.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let etcd = self.stores.iter().filter(|store| store.name == ETCD);
        etcd.chain(&self.servers).map(Server::subject).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn store(&mut self, programs: &Programs, name: &str) -> Result<SocketAddr> {
        let (client, peer) = (free_address()?, free_address()?);
        let (url, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new(&programs.etcd);
        command.args(["--name", name, "--data-dir"]);
        command.arg(self.path(name));
        command.args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ]);
        command.args(["--listen-peer-urls", &peer]);
        command.args(["--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("{name}={peer}")]);
        // Every store is a cluster of its own.
        command.args(["--initial-cluster-token", name]);
        // A run writes more than the default quota of 2 GB.
        command.args(["--quota-backend-bytes", "8589934592"]);
        let store = Server::start(name, command, client, &self.path(&format!("{name}.log")))?;
        self.stores.push(store);
        answers(name, client).await?;
        Ok(client)
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
fn single(programs: &Programs, name: &str, store: SocketAddr) -> Result<(Command, SocketAddr)> {
    let address = free_address()?;
    let floor = |program: &str| {
        let mut command = Command::new(programs.floor.join(program));
        command.args([address.to_string(), store.to_string()]);
        command
    };
    let command = match name {
        RAW => floor("keyloom-floor-raw"),
        TONIC => floor("keyloom-floor-tonic"),
        GRPC_PROXY => {
            let mut command = Command::new(&programs.etcd);
            command.args(["grpc-proxy", "start"]);
            command.args([
                format!("--listen-addr={address}"),
                format!("--endpoints={store}"),
            ]);
            command
        }
        _ => {
            let mut command = keyloom(programs, address);
            command.args(["--endpoint", &format!("http://{store}")]);
            command
        }
    };
    Ok((command, address))
}

fn keyloom(programs: &Programs, address: SocketAddr) -> Command {
    let mut command = Command::new(&programs.keyloom);
    command.args(["serve", "--listen", &format!("http://{address}")]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command
}

/// The first store is the default one and has the first namespace; each other has the namespace
/// of its number.
fn topology_of(stores: &[SocketAddr]) -> String {
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

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?)
}

/// Waits until a program answers a linearizable read.
async fn answers(name: &str, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START;
    let endpoint = Endpoint { address };
    loop {
        match probe(&endpoint).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                bail!("{name} does not answer: {error:#}");
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn probe(endpoint: &Endpoint) -> Result<Bytes> {
    let get = Request::get(&Bytes::from_static(b"/registry/health"));
    let connection = Connection::open(endpoint).await?;
    tokio::time::timeout(START, connection.unary(get.rpc, get.frame)).await?
}

/// A process of ours.
#[derive(Debug)]
struct Server {
    name: String,
    address: SocketAddr,
    process: Child,
}

impl Server {
    fn start(name: &str, mut command: Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let log = File::create(log).context("creating a log")?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {name}: {}", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            address,
            process,
        })
    }

    fn subject(&self) -> Subject {
        Subject {
            target: Target {
                name: self.name.clone(),
                endpoint: Endpoint {
                    address: self.address,
                },
            },
            processes: vec![Process {
                name: self.name.clone(),
                pid: self.process.id(),
            }],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself. Its data is worth nothing, so it need not end cleanly.
        drop(self.process.kill());
        drop(self.process.wait());
    }
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
