//! What a proxy takes while nothing happens: the time until it is ready, its memory as it stands,
//! and what idle watchers and connections add.
//!
//! Every round starts each proxy anew in front of new etcds: Keyloom with one store and with two, and
//! grpc-proxy. What was there before would count: a Keyloom that finds a ledger whose owner did not end
//! waits for its term. In the end one write must reach every watcher once: a proxy that does not watch
//! saves memory too. How many watchers the stores have meanwhile is what the watchers cost them.

mod mtls;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use keyloom_etcd_api::etcdserverpb::WatchResponse;
use prost::Message as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, Instant, sleep, timeout},
};

use crate::{
    cli::{Output, block_on},
    compare::topology_of,
    connection::{Connection, Streams},
    keyspace::Resource,
    process::Process,
    report::{Table, figure},
    request::Request,
    run::Outcome,
    server::{Server, answers, etcd, free_address, grpc_proxy},
    stats::{Figures, median_of},
    workload::delivery,
};

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Footprint {
    /// The Keyloom to be measured: a release build
    #[arg(long, env = "KEYLOOM_BIN")]
    keyloom: PathBuf,
    /// The folder of etcd
    #[arg(long, env = "KEYLOOM_PEERS")]
    peers: PathBuf,
    /// Watchers on one prefix, each on a stream of its own
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Connections that they share; as many again are opened without anything on them
    #[arg(long, default_value_t = 20)]
    connections: usize,
    /// Connections with certificates on both sides, to a Keyloom of their own
    #[arg(long, default_value_t = 500)]
    mtls_connections: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

const ONE: &str = "keyloom-1";
const TWO: &str = "keyloom-2";
const GRPC_PROXY: &str = "grpc-proxy";

/// The stores that run, and where the proxies' logs go.
#[derive(Debug)]
struct RunningStores {
    servers: Vec<Server>,
    addresses: Vec<SocketAddr>,
    folder: TempDir,
}

/// How etcd counts its watchers.
const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total ";

impl RunningStores {
    async fn start(program: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix("keyloom-footprint-").context("a temporary folder")?;
        let mut stores = Self {
            servers: Vec::new(),
            addresses: Vec::new(),
            folder,
        };
        for name in ["main", "second"] {
            let address = free_address()?;
            let mut command = etcd(program, name, &stores.path(name), address)?;
            // Nothing of the disk is measured here.
            command.arg("--unsafe-no-fsync");
            let log = stores.path(&format!("{name}.log"));
            let server = Server::start(name, command, address, &log)?;
            stores.servers.push(server);
            answers(name, address).await?;
            stores.addresses.push(address);
        }
        Ok(stores)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn main(&self) -> Result<SocketAddr> {
        let main = self.addresses.first().context("no store")?;
        Ok(*main)
    }

    /// A topology of all stores. No key of the second one is written, and every watch spans it.
    fn topology(&self) -> Result<PathBuf> {
        let path = self.path("topology.yaml");
        fs::write(&path, topology_of(&self.addresses)).context("writing the topology")?;
        Ok(path)
    }

    /// How many watchers they have, all together.
    async fn watchers(&self) -> Result<f64> {
        let mut all = 0.0;
        for address in &self.addresses {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let count = text.lines().find_map(|line| line.strip_prefix(WATCHERS));
            all += count
                .context("etcd counts its watchers")?
                .trim()
                .parse::<f64>()?;
        }
        Ok(all)
    }
}

/// Memory that is allocated now and then may still be on its way.
const SETTLES: Duration = Duration::from_millis(500);

/// No event takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

impl Footprint {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            self.watchers > 0
                && self.connections > 0
                && self.mtls_connections > 0
                && self.rounds > 0,
            "at least one"
        );
        let outcome = block_on(1, self.measure())?;
        let text = self.table(&outcome).text();
        self.output.write(&text, &[outcome])
    }

    async fn measure(&self) -> Result<Outcome> {
        let program = self.peers.join("etcd");
        let mut outcome = Outcome {
            workload: "footprint".to_owned(),
            clients: self.watchers,
            targets: [ONE, TWO, GRPC_PROXY]
                .map(|name| (name.to_owned(), Vec::new()))
                .to_vec(),
        };
        for _ in 0..self.rounds {
            for (name, rounds) in &mut outcome.targets {
                let stores = RunningStores::start(&program).await?;
                let address = free_address()?;
                let command = self.command(name, &program, &stores, address)?;
                let log = stores.path(&format!("{name}.log"));
                let began = Instant::now();
                let server = Server::start(name, command, address, &log)?;
                answers(name, address).await?;
                let ready = began.elapsed();
                let figures = self.round(&server, &stores).await;
                let mut figures = figures.with_context(|| name.clone())?;
                figures.insert("ready_ms".to_owned(), ready.as_secs_f64() * 1e3);
                if name == ONE {
                    figures.insert("mtls_kib".to_owned(), self.mtls(&stores).await?);
                }
                rounds.push(figures);
            }
        }
        Ok(outcome)
    }

    fn command(
        &self,
        name: &str,
        etcd: &Path,
        stores: &RunningStores,
        address: SocketAddr,
    ) -> Result<Command> {
        let main = stores.main()?;
        if name == GRPC_PROXY {
            return Ok(grpc_proxy(etcd, address, main));
        }
        let mut command = Command::new(&self.keyloom);
        command.args(["serve", "--listen", &format!("http://{address}")]);
        command.args(["--admin-listen", "127.0.0.1:0"]);
        match name {
            ONE => command.args(["--endpoint", &format!("http://{main}")]),
            _ => command.arg("--topology").arg(stores.topology()?),
        };
        Ok(command)
    }

    async fn round(&self, server: &Server, stores: &RunningStores) -> Result<Figures> {
        let subject = server.subject();
        let process = subject.processes.first().context("no process")?;
        let base = settled(process).await?;
        let mut idle = Vec::new();
        for _ in 0..self.connections {
            let connection = Connection::open(&subject.target.endpoint).await?;
            // A connection that nothing was asked on may not have been accepted yet.
            let get = Request::get(&Resource::Watched.prefix().into());
            connection.unary(get.rpc, get.frame).await?;
            idle.push(connection);
        }
        let connected = settled(process).await?;
        let mut streams = Vec::new();
        for (_, connection) in (0..self.watchers).zip(idle.iter().cycle()) {
            streams.push(delivery::open(connection, Resource::Watched, 0).await?);
        }
        let watching = settled(process).await?;
        let at_stores = stores.watchers().await?;
        self.everybody_hears(&idle, &mut streams).await?;
        let active = settled(process).await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
        let each = |more: u64, less: u64, count: usize| {
            more.saturating_sub(less) as f64 / 1024.0 / count as f64
        };
        Ok(Figures::from([
            ("base_mib".to_owned(), each(base, 0, 1024)),
            (
                "connection_kib".to_owned(),
                each(connected, base, self.connections),
            ),
            (
                "watcher_kib".to_owned(),
                each(watching, connected, self.watchers),
            ),
            (
                "active_kib".to_owned(),
                each(active, connected, self.watchers),
            ),
            ("at_stores".to_owned(), at_stores),
        ]))
    }

    async fn mtls(&self, stores: &RunningStores) -> Result<f64> {
        let (main, log) = (stores.main()?, stores.path("keyloom-mtls.log"));
        let each = mtls::connection_kib(&self.keyloom, main, &log, self.mtls_connections).await;
        each.context("connections with certificates")
    }

    async fn everybody_hears(
        &self,
        connections: &[Connection],
        streams: &mut [Streams],
    ) -> Result<()> {
        let key = format!("{}one", Resource::Watched.prefix()).into();
        let put = Request::put(&key, &"heard".into());
        let first = connections.first().context("no connection")?;
        first.unary(put.rpc, put.frame).await?;
        for stream in streams {
            let answer = timeout(PATIENCE, stream.next())
                .await
                .context("an event is missing")??;
            let events = WatchResponse::decode(answer)?.events;
            let heard = events.iter().filter_map(|event| event.kv.as_ref());
            ensure!(
                heard.map(|kv| &kv.key).eq([&key]),
                "other events than one: {events:?}"
            );
        }
        Ok(())
    }

    fn table(&self, outcome: &Outcome) -> Table {
        let watcher = format!("KiB for each of {} watchers", self.watchers);
        let mut table = Table::new([
            "target",
            "ready ms",
            "base MiB",
            "KiB for each connection",
            "KiB for each mTLS connection",
            &watcher,
            "after an event",
            "watchers at the stores",
        ]);
        for (name, rounds) in &outcome.targets {
            let of = |name: &str| figure(median_of(rounds, name));
            table.row(vec![
                name.clone(),
                of("ready_ms"),
                of("base_mib"),
                of("connection_kib"),
                of("mtls_kib"),
                of("watcher_kib"),
                of("active_kib"),
                of("at_stores"),
            ]);
        }
        table
    }
}

/// What a process has resident once nothing moves any more.
async fn settled(process: &Process) -> Result<u64> {
    sleep(SETTLES).await;
    Ok(process.usage()?.rss_bytes)
}
