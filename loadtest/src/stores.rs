//! What several stores give above one, from nothing: etcds that wait for the disk, with a Keyloom of
//! its own over each number of them.
//!
//! Writes: the same number of clients for each store, in closed loops; beside them, in the same round,
//! as many clients at the same etcds with nothing in between, each at its own: what the machine gives.
//! How many of its cores were busy says whether the disk or the cores were the limit.
//!
//! Lists: everything that a Keyloom's stores hold, whole and by one client, beside what each store
//! takes for its own part, one after the other. Every list is counted.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use keyloom_etcd_api::etcdserverpb::RangeResponse;
use prost::Message as _;
use tempfile::TempDir;
use tokio::time::{Duration, Instant};

use crate::{
    cli::{Output, block_on, seconds},
    compare::topology_of,
    connection::Connection,
    keyspace::{Keyspace, Resource, end_of},
    process::cores_busy_us,
    report::{Table, figure},
    request::Request,
    round::{Load, connect, round},
    run::Outcome,
    server::{Server, answers, etcd, free_address},
    stats::{Figures, Latencies, median_of, ratio},
    workload::{Shape, Workload, prepare},
};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Stores {
    /// The Keyloom to be measured: a release build
    #[arg(long, env = "KEYLOOM_BIN")]
    keyloom: PathBuf,
    /// The folder of etcd
    #[arg(long, env = "KEYLOOM_PEERS")]
    peers: PathBuf,
    /// Where the stores keep their data: on the disk that their writes wait for
    #[arg(long)]
    folder: PathBuf,
    /// Numbers of stores; ratios are to the first
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,6")]
    stores: Vec<usize>,
    /// Clients for each store, one figure after the other
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    clients: Vec<usize>,
    /// Lists in each round, of each store and of all together
    #[arg(long, default_value_t = 100)]
    lists: usize,
    /// Objects of each store, of 1 KiB
    #[arg(long, default_value_t = 500)]
    objects: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a round of writes
    #[arg(long, default_value = "2", value_parser = seconds)]
    duration: Duration,
    /// Seconds before anything of it is measured
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warmup: Duration,
    #[command(flatten)]
    output: Output,
}

/// Everything that runs, the Keylooms before the stores.
#[derive(Debug)]
struct Ground {
    settings: Vec<Setting>,
    /// Removed last.
    _folder: TempDir,
}

/// A Keyloom and its stores.
#[derive(Debug)]
struct Setting {
    keyloom: Server,
    stores: Vec<Server>,
}

impl Stores {
    pub(crate) fn run(self) -> Result<()> {
        let counts = [
            &self.stores[..],
            &self.clients,
            &[self.lists, self.objects, self.rounds],
        ];
        ensure!(
            !counts.concat().contains(&0),
            "nothing can be measured with none"
        );
        ensure!(!self.stores.is_empty(), "a number of stores");
        let (writes, lists) = block_on(1, self.measure())?;
        let text = format!(
            "Writes a second over stores that wait for the disk:\n\n{}\n\
             Whole lists, one client, p50 in ms:\n\n{}",
            self.writes_table(&writes).text(),
            self.lists_table(&lists).text()
        );
        let outcomes: Vec<_> = writes.into_iter().chain([lists]).collect();
        self.output.write(&text, &outcomes)
    }

    async fn measure(&self) -> Result<(Vec<Outcome>, Outcome)> {
        let ground = self.start().await?;
        let mut writes = Vec::new();
        for &clients in &self.clients {
            writes.push(self.writes(&ground, clients).await?);
        }
        Ok((writes, self.lists(&ground).await?))
    }

    async fn start(&self) -> Result<Ground> {
        fs::create_dir_all(&self.folder).context("the folder of the stores")?;
        let folder = TempDir::with_prefix_in("keyloom-stores-", &self.folder)?;
        let mut settings = Vec::new();
        for &count in &self.stores {
            settings.push(self.setting(count, folder.path()).await?);
        }
        Ok(Ground {
            settings,
            _folder: folder,
        })
    }

    async fn setting(&self, count: usize, folder: &Path) -> Result<Setting> {
        let program = self.peers.join("etcd");
        let (mut stores, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (name, address) = (format!("store-{count}-{number}"), free_address()?);
            let command = etcd(&program, &name, &folder.join(&name), address)?;
            let log = folder.join(format!("{name}.log"));
            stores.push(Server::start(&name, command, address, &log)?);
            answers(&name, address).await?;
            addresses.push(address);
        }
        let (name, address) = (through(count), free_address()?);
        let command = self.command(&addresses, address, &folder.join(format!("{count}.yaml")))?;
        let log = folder.join(format!("{name}.log"));
        let keyloom = Server::start(&name, command, address, &log)?;
        let started = answers(&name, address).await;
        started.with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Setting { keyloom, stores })
    }

    fn command(
        &self,
        stores: &[SocketAddr],
        address: SocketAddr,
        topology: &Path,
    ) -> Result<Command> {
        let mut command = Command::new(&self.keyloom);
        command.args(["serve", "--listen", &format!("http://{address}")]);
        command.args(["--admin-listen", "127.0.0.1:0"]);
        match stores {
            [one] => command.args(["--endpoint", &format!("http://{one}")]),
            _ => {
                fs::write(topology, topology_of(stores)).context("writing the topology")?;
                command.arg("--topology").arg(topology)
            }
        };
        Ok(command)
    }

    fn load(&self, clients: usize, namespaces: usize) -> Load {
        Load {
            clients,
            connections: clients.min(4),
            warmup: self.warmup,
            duration: self.duration,
            rate: None,
            most: None,
            patience: Duration::from_secs(30),
            shape: Shape {
                keyspace: Keyspace {
                    namespaces,
                    keys: 8,
                    value_size: 256,
                    objects: self.objects,
                    object_size: 1024,
                },
                page: 0,
            },
            watchers: 1,
            nodes: 1,
        }
    }

    async fn writes(&self, ground: &Ground, clients: usize) -> Result<Outcome> {
        let names = self
            .stores
            .iter()
            .flat_map(|&count| [direct(count), through(count)]);
        let mut targets: Vec<_> = names.map(|name| (name, Vec::new())).collect();
        for _ in 0..self.rounds {
            let mut figures = Vec::new();
            for Setting { keyloom, stores } in &ground.settings {
                let load = self.load(clients, 1);
                let subjects: Vec<_> = stores.iter().map(Server::subject).collect();
                let each = subjects
                    .iter()
                    .map(|store| round(store, Workload::Put, &load));
                figures.push(busy(try_join_all(each)).await?);
                let load = self.load(clients * stores.len(), stores.len());
                let subject = keyloom.subject();
                let all = round(&subject, Workload::Put, &load);
                figures.push(busy(async { Ok(vec![all.await?]) }).await?);
            }
            for ((_, rounds), figures) in targets.iter_mut().zip(figures) {
                rounds.push(figures);
            }
        }
        Ok(Outcome {
            workload: format!("put, {clients} clients for each store"),
            clients,
            targets,
        })
    }

    async fn lists(&self, ground: &Ground) -> Result<Outcome> {
        let mut targets = Vec::new();
        for (setting, &count) in ground.settings.iter().zip(&self.stores) {
            let mut all = connect(&setting.keyloom.subject().target, 1).await?;
            let through = all.pop().context("a connection")?;
            let load = self.load(1, count);
            prepare(Workload::MergedList, load.shape, 1, &through).await?;
            let mut own = Vec::new();
            for store in &setting.stores {
                own.extend(connect(&store.subject().target, 1).await?);
            }
            let mut rounds = Vec::new();
            for _ in 0..self.rounds {
                rounds.push(self.list_round(&through, &own).await?);
            }
            targets.push((self::through(count), rounds));
        }
        Ok(Outcome {
            workload: "whole list".to_owned(),
            clients: 1,
            targets,
        })
    }

    /// The stores in turn and all of them together, over and over.
    async fn list_round(&self, through: &Connection, own: &[Connection]) -> Result<Figures> {
        let mut each = vec![Latencies::default(); own.len()];
        let mut all = Latencies::default();
        for _ in 0..self.lists {
            for (store, latencies) in own.iter().zip(&mut each) {
                latencies.record(list(store, self.objects).await?);
            }
            all.record(list(through, self.objects * own.len()).await?);
        }
        let medians = each.iter().map(|latencies| latencies.summary().p50);
        Ok(Figures::from([
            ("slowest_us".to_owned(), medians.clone().fold(0.0, f64::max)),
            ("one_after_the_other_us".to_owned(), medians.sum()),
            ("p50_us".to_owned(), all.summary().p50),
        ]))
    }

    fn writes_table(&self, outcomes: &[Outcome]) -> Table {
        let mut table = Table::new([
            "clients for each store",
            "stores",
            "etcds",
            "x the first",
            "cores busy",
            "keyloom",
            "x the first",
            "cores busy",
            "keyloom / etcds",
        ]);
        for outcome in outcomes {
            for &count in &self.stores {
                let first = self.stores.first().copied().unwrap_or(count);
                let of = |name: &str, what| figure(median_of(outcome.rounds(name), what));
                let to = |name: &str, other: &str| {
                    let rounds = (outcome.rounds(name), "rate");
                    figure(ratio(rounds, (outcome.rounds(other), "rate")))
                };
                let (own, through) = (direct(count), through(count));
                table.row(vec![
                    outcome.clients.to_string(),
                    count.to_string(),
                    of(&own, "rate"),
                    to(&own, &direct(first)),
                    of(&own, "cores"),
                    of(&through, "rate"),
                    to(&through, &self::through(first)),
                    of(&through, "cores"),
                    to(&through, &own),
                ]);
            }
        }
        table
    }

    fn lists_table(&self, outcome: &Outcome) -> Table {
        let mut table = Table::new([
            "stores",
            "the slowest store's own",
            "all stores', one after the other",
            "merged",
            "merged / slowest",
            "merged / all",
        ]);
        for &count in &self.stores {
            let rounds = outcome.rounds(&through(count));
            let of = |what| figure(median_of(rounds, what).map(|micros| micros / 1e3));
            let to = |what| figure(ratio((rounds, "p50_us"), (rounds, what)));
            table.row(vec![
                count.to_string(),
                of("slowest_us"),
                of("one_after_the_other_us"),
                of("p50_us"),
                to("slowest_us"),
                to("one_after_the_other_us"),
            ]);
        }
        table
    }
}

fn through(stores: usize) -> String {
    format!("keyloom-{stores}")
}

fn direct(stores: usize) -> String {
    format!("etcds-{stores}")
}

/// The writes a second of rounds that run at once, and how many cores are busy meanwhile.
async fn busy(rounds: impl Future<Output = Result<Vec<Figures>>>) -> Result<Figures> {
    let (before, began) = (cores_busy_us()?, Instant::now());
    let figures = rounds.await?;
    let used = cores_busy_us()? - before;
    let rates = figures.iter().filter_map(|each| each.get("rate"));
    Ok(Figures::from([
        ("rate".to_owned(), rates.sum()),
        (
            "cores".to_owned(),
            used / 1e6 / began.elapsed().as_secs_f64(),
        ),
    ]))
}

/// How long a list of everything takes, which must have so many objects.
async fn list(connection: &Connection, objects: usize) -> Result<Duration> {
    let prefix = Resource::Lists.prefix();
    let request = Request::page(prefix.clone().into(), end_of(&prefix), 0, 0);
    let began = Instant::now();
    let answer = connection.unary(request.rpc, request.frame).await?;
    let took = began.elapsed();
    let found = RangeResponse::decode(answer)?.kvs.len();
    ensure!(found == objects, "{found} objects, not {objects}");
    Ok(took)
}
