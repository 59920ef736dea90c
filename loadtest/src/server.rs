//! Processes that a comparison starts on this machine, and ends.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    connection::Connection,
    endpoint::{Endpoint, Target},
    process::Process,
    request::Request,
    run::Subject,
};

/// How long a program may take until it answers: one may have a large database to look through.
const START: Duration = Duration::from_secs(300);

/// A process of ours; it ends with the value.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    address: SocketAddr,
    process: Child,
}

impl Server {
    /// Starts a program that will listen at an address; what it says goes to a log.
    ///
    /// # Errors
    /// Where the log cannot be made, and where there is no such program.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self> {
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

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn subject(&self) -> Subject {
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
            lenient: false,
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

/// An etcd that is a cluster of its own.
///
/// # Errors
/// Where no address is free.
pub(crate) fn etcd(
    program: &Path,
    name: &str,
    data: &Path,
    address: SocketAddr,
) -> Result<Command> {
    let (url, peer) = (
        format!("http://{address}"),
        format!("http://{}", free_address()?),
    );
    let mut command = Command::new(program);
    command.args(["--name", name, "--data-dir"]).arg(data);
    command.args(["--listen-client-urls", &url]);
    command.args(["--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peer]);
    command.args(["--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("{name}={peer}")]);
    command.args(["--initial-cluster-token", name]);
    // A run writes more than the default quota of 2 GB.
    command.args(["--quota-backend-bytes", "8589934592"]);
    Ok(command)
}

/// etcd's own proxy, in front of one store.
pub(crate) fn grpc_proxy(etcd: &Path, address: SocketAddr, store: SocketAddr) -> Command {
    let mut command = Command::new(etcd);
    command.args(["grpc-proxy", "start"]);
    command.arg(format!("--listen-addr={address}"));
    // It connects to itself by that address, and ends where it cannot within seconds.
    command.arg(format!("--advertise-client-url={address}"));
    command.arg(format!("--endpoints={store}"));
    command
}

/// An address that was free a moment ago.
///
/// # Errors
/// Where none is.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?)
}

/// Waits until a program answers a linearizable read.
///
/// # Errors
/// Where it does not for too long.
pub(crate) async fn answers(name: &str, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START;
    let endpoint = Endpoint { address };
    loop {
        match probe(&endpoint).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                bail!("{name} does not answer: {error:#}");
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn probe(endpoint: &Endpoint) -> Result<Bytes> {
    let get = Request::get(&Bytes::from_static(b"/registry/health"));
    let connection = Connection::open(endpoint).await?;
    tokio::time::timeout(START, connection.unary(get.rpc, get.frame)).await?
}
