//! Keyloom inside this process, without sockets, over stores that answer at once: how many calls a
//! second its own code makes on one thread and on several.
//!
//! Everything that would be the kernel's or a store's work is left out, so that what threads wait for
//! each other in Keyloom's locks is not lost in it. Runs with one thread and with several are
//! interleaved.

mod store;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::future::BoxFuture;
use keyloom_environment::OsRandom;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{PutRequest, RangeRequest},
};
use keyloom_proxy::{Instance, OpenStores, Options, RenewOn, TopologyMetrics, WatchOptions};
use keyloom_store::Store;
use keyloom_topology::{ParseOptions, StoreSpec, Topology, parse};
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{block_on, seconds},
    compare::topology_of,
    keyspace::Resource,
    process::Process,
    report::{Table, figure},
    stats::{Figures, median_of, ratio},
};
use store::AtOnce;

/// Bytes of a value.
const VALUE: usize = 256;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct InProcess {
    /// Rounds, each with one thread and with several
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value = "2", value_parser = seconds)]
    duration: Duration,
    /// Seconds before anything is measured, in each round
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warmup: Duration,
    /// Clients, each with one call at a time
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How many threads are compared with one
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Over how many stores; several with commas
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    stores: Vec<usize>,
    /// What is called; several with commas
    #[arg(long = "call", value_delimiter = ',', default_value = "put,get")]
    calls: Vec<Called>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Called {
    Put,
    Get,
}

impl Called {
    fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
        }
    }

    /// A client's call: its keys lie on one of the stores.
    fn message(self, client: usize, stores: usize) -> (Rpc, Bytes) {
        let folder = Resource::Singles.namespace(client % stores);
        let key = Bytes::from(format!("{folder}client-{client}"));
        match self {
            Self::Put => {
                let put = PutRequest {
                    key,
                    value: vec![7; VALUE].into(),
                    ..PutRequest::default()
                };
                (Rpc::Put, put.encode_to_vec().into())
            }
            Self::Get => {
                let get = RangeRequest {
                    key,
                    ..RangeRequest::default()
                };
                (Rpc::Range, get.encode_to_vec().into())
            }
        }
    }
}

impl InProcess {
    /// # Errors
    /// Where an answer was an error.
    pub(crate) fn run(self) -> Result<()> {
        ensure!(self.rounds > 0 && self.clients > 0, "nothing to measure");
        ensure!(self.threads > 1, "--threads must be at least 2");
        ensure!(!self.stores.contains(&0), "--stores must be at least 1");
        let several = format!("{} threads", self.threads);
        let mut table = Table::new([
            "call",
            "stores",
            "calls a second, 1 thread",
            &several,
            "ratio",
            "CPU us, 1 thread",
            &several,
            "ratio",
        ]);
        for called in &self.calls {
            for stores in &self.stores {
                let (mut one, mut many) = (Vec::new(), Vec::new());
                for _ in 0..self.rounds {
                    one.push(self.round(*called, *stores, 1)?);
                    many.push(self.round(*called, *stores, self.threads)?);
                }
                let mut row = vec![called.name().to_owned(), stores.to_string()];
                for name in ["calls", "cpu_us"] {
                    row.push(figure(median_of(&one, name)));
                    row.push(figure(median_of(&many, name)));
                    row.push(figure(ratio((&many, name), (&one, name))));
                }
                table.row(row);
            }
        }
        std::io::Write::write_all(&mut std::io::stdout(), table.text().as_bytes())?;
        Ok(())
    }

    /// One round, on a runtime and with an instance of its own.
    fn round(&self, called: Called, stores: usize, threads: usize) -> Result<Figures> {
        block_on(threads, self.measure(called, stores))
    }

    async fn measure(&self, called: Called, stores: usize) -> Result<Figures> {
        let instance = Arc::new(start(stores).await?);
        let load = Callers::start(&instance, called, (self.clients, stores));
        sleep(self.warmup).await;
        let own = Process {
            name: "own".to_owned(),
            pid: std::process::id(),
        };
        let (begun, before, used) = (Instant::now(), load.answered(), own.usage()?);
        sleep(self.duration).await;
        let (took, after) = (begun.elapsed(), load.answered());
        let cpu_us = own.usage()?.cpu_us - used.cpu_us;
        load.end().await?;
        instance.stop().await;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 calls")]
        let calls = (after - before) as f64;
        Ok(Figures::from([
            ("calls".to_owned(), calls / took.as_secs_f64()),
            ("cpu_us".to_owned(), cpu_us / calls),
        ]))
    }
}

/// Clients that call until they are told to end.
struct Callers {
    stop: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicU64>>,
    clients: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Callers {
    fn start(instance: &Arc<Instance>, called: Called, (clients, stores): (usize, usize)) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            answered: Vec::new(),
            clients: Vec::new(),
        };
        for client in 0..clients {
            let answered = Arc::new(AtomicU64::new(0));
            load.answered.push(Arc::clone(&answered));
            let (stop, instance) = (Arc::clone(&load.stop), Arc::clone(instance));
            let (rpc, message) = called.message(client, stores);
            load.clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = instance.unary(rpc, message.clone(), None).await;
                    answer.with_context(|| format!("a {}", called.name()))?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        load
    }

    fn answered(&self) -> u64 {
        let each = self.answered.iter();
        each.map(|answered| answered.load(Ordering::Relaxed)).sum()
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.context("a client was lost")??;
        }
        Ok(())
    }
}

/// There are no other stores.
#[derive(Debug)]
struct NoOthers;

impl OpenStores for NoOthers {
    fn open<'a>(&'a self, spec: &'a StoreSpec) -> BoxFuture<'a, Result<Arc<dyn Store>, String>> {
        let error = format!("there is no store {}", spec.name);
        Box::pin(std::future::ready(Err(error)))
    }

    fn keep<'a>(&'a self, _: &'a [Arc<dyn Store>]) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

async fn start(stores: usize) -> Result<Instance> {
    let options = Options {
        random: Arc::new(OsRandom),
        leadership_duration: Duration::from_secs(5),
        renew_on: RenewOn::OwnThread,
        watch: WatchOptions::default(),
        open: Arc::new(NoOthers),
        metrics: TopologyMetrics::register(&mut Registry::default()),
    };
    let clusters = (1..).take(stores);
    let each = clusters.map(|cluster| Arc::new(AtOnce::new(cluster)) as Arc<dyn Store>);
    let stop = CancellationToken::new();
    let instance = Instance::start(topology(stores)?, each.collect(), options, stop);
    instance.await.context("starting Keyloom")
}

/// The default store and a namespace on each of the others. Nobody is at the addresses.
fn topology(stores: usize) -> Result<Topology> {
    let ports = (1..=u16::MAX).take(stores);
    let addresses: Vec<_> = ports.map(|port| ([127, 0, 0, 1], port).into()).collect();
    let text = topology_of(&addresses);
    match parse(&text, &ParseOptions::default()) {
        Ok(accepted) => Ok(accepted.topology),
        Err(refused) => anyhow::bail!("{}", refused.in_file("topology").join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::namespace;

    #[tokio::test]
    async fn every_call_is_answered_by_its_store() {
        for stores in [1, 4] {
            let instance = start(stores).await.unwrap();
            for called in [Called::Get, Called::Put, Called::Get] {
                for client in 0..2 * stores {
                    let (rpc, message) = called.message(client, stores);
                    instance.unary(rpc, message, None).await.unwrap();
                }
            }
            instance.stop().await;
        }
        let namespaces = (0..4).map(|client| Called::Get.message(client, 4).1);
        for (number, message) in namespaces.enumerate() {
            let get = RangeRequest::decode(message).unwrap();
            let key = String::from_utf8(get.key.to_vec()).unwrap();
            assert!(key.contains(&namespace(number)), "{key}");
        }
    }
}
