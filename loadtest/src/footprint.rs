//! What a proxy takes while nothing happens: the time until it is ready, its memory as it stands,
//! and what idle watchers and connections add.
//!
//! Every round starts each proxy anew in front of the same etcd. In the end one write must reach
//! every watcher once: a proxy that does not watch saves memory too.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use keyloom_etcd_api::{Rpc, etcdserverpb::WatchResponse};
use prost::Message as _;
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::{
    cli::{Output, block_on},
    connection::{Connection, Streams},
    keyspace::{Resource, end_of},
    process::Process,
    report::{Table, figure},
    request::{Request, watch},
    run::Outcome,
    server::{Server, answers, etcd, free_address},
    stats::{Figures, median_of},
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
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

const KEYLOOM: &str = "keyloom";
const GRPC_PROXY: &str = "grpc-proxy";

/// Memory that is allocated now and then may still be on its way.
const SETTLES: Duration = Duration::from_millis(500);

/// No event takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

impl Footprint {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            self.watchers > 0 && self.connections > 0 && self.rounds > 0,
            "at least one"
        );
        let outcome = block_on(1, self.measure())?;
        let text = self.table(&outcome).text();
        self.output.write(&text, &[outcome])
    }

    async fn measure(&self) -> Result<Outcome> {
        let folder = TempDir::with_prefix("keyloom-footprint-").context("a temporary folder")?;
        let program = self.peers.join("etcd");
        let store = free_address()?;
        let mut command = etcd(&program, "etcd", &folder.path().join("etcd"), store)?;
        // Nothing of the disk is measured here.
        command.arg("--unsafe-no-fsync");
        let log = folder.path().join("etcd.log");
        let _etcd = Server::start("etcd", command, store, &log)?;
        answers("etcd", store).await?;
        let mut outcome = Outcome {
            workload: "footprint".to_owned(),
            clients: self.watchers,
            targets: [KEYLOOM, GRPC_PROXY]
                .map(|name| (name.to_owned(), Vec::new()))
                .to_vec(),
        };
        for _ in 0..self.rounds {
            for (name, rounds) in &mut outcome.targets {
                let address = free_address()?;
                let command = if name == KEYLOOM {
                    let mut command = Command::new(&self.keyloom);
                    command.args(["serve", "--listen", &format!("http://{address}")]);
                    command.args(["--admin-listen", "127.0.0.1:0"]);
                    command.args(["--endpoint", &format!("http://{store}")]);
                    command
                } else {
                    let mut command = Command::new(&program);
                    command.args(["grpc-proxy", "start"]);
                    command.arg(format!("--listen-addr={address}"));
                    command.arg(format!("--endpoints={store}"));
                    command
                };
                let log = folder.path().join(format!("{name}.log"));
                let began = Instant::now();
                let server = Server::start(name, command, address, &log)?;
                answers(name, address).await?;
                let ready = began.elapsed();
                let mut figures = self.round(&server).await.with_context(|| name.clone())?;
                figures.insert("ready_ms".to_owned(), ready.as_secs_f64() * 1e3);
                rounds.push(figures);
            }
        }
        Ok(outcome)
    }

    async fn round(&self, server: &Server) -> Result<Figures> {
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
            streams.push(open(connection).await?);
        }
        let watching = settled(process).await?;
        self.everybody_hears(&idle, streams).await?;
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
        ]))
    }

    async fn everybody_hears(
        &self,
        connections: &[Connection],
        streams: Vec<Streams>,
    ) -> Result<()> {
        let key = format!("{}one", Resource::Watched.prefix()).into();
        let put = Request::put(&key, &"heard".into());
        let first = connections.first().context("no connection")?;
        first.unary(put.rpc, put.frame).await?;
        for mut stream in streams {
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
            &watcher,
        ]);
        for (name, rounds) in &outcome.targets {
            let of = |name: &str| figure(median_of(rounds, name));
            table.row(vec![
                name.clone(),
                of("ready_ms"),
                of("base_mib"),
                of("connection_kib"),
                of("watcher_kib"),
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

async fn open(connection: &Connection) -> Result<Streams> {
    let prefix = Resource::Watched.prefix();
    let create = watch(prefix.clone().into(), end_of(&prefix), 0);
    let mut stream = connection.stream(Rpc::Watch, create).await?;
    let created = WatchResponse::decode(stream.next().await?)?;
    ensure!(
        created.created && !created.canceled,
        "not created: {}",
        created.cancel_reason
    );
    Ok(stream)
}
