//! Keyloom beside its peers, on this machine, from nothing: an etcd, its grpc-proxy, the floor, and
//! Keyloom with one and with four stores.
//!
//! Everything listens on free ports of the loopback and keeps its data in a temporary folder; only
//! what was started here is ended here. Keyloom has its defaults: metrics on, logs at their default.

mod cluster;
mod verdict;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::Duration;

use crate::{
    cli::{LoadArguments, Output, block_on},
    report,
    round::Load,
    run::{self, Outcome, Plan},
    workload::Workload,
};
pub(crate) use cluster::topology_of;
use cluster::{Cluster, ClusterPrograms};

/// The names of the targets.
const ETCD: &str = "etcd";
const RAW: &str = "raw";
const TONIC: &str = "tonic";
const GRPC_PROXY: &str = "grpc-proxy";
const ONE: &str = "keyloom-1";
const FOUR: &str = "keyloom-4";
/// An earlier Keyloom, where one is given.
const BEFORE_ONE: &str = "before-1";
const BEFORE_FOUR: &str = "before-4";

/// What is compared.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The Keyloom to be measured: a release build
    #[arg(long, env = "KEYLOOM_BIN")]
    keyloom: PathBuf,
    /// An earlier Keyloom, to be measured in the same rounds
    #[arg(long, env = "KEYLOOM_BEFORE")]
    before: Option<PathBuf>,
    /// The etcd that is every store, and whose grpc-proxy is compared
    #[arg(long, env = "KEYLOOM_ETCD34")]
    etcd: Option<PathBuf>,
    /// The folder of the peers, whose etcd is taken where none is named
    #[arg(long, env = "KEYLOOM_PEERS")]
    peers: Option<PathBuf>,
    /// What is sent under load; several with commas
    #[arg(
        long = "workload",
        value_delimiter = ',',
        default_value = "put,get,update,list"
    )]
    workloads: Vec<Workload>,
    /// What is sent by a single client, for latency
    #[arg(
        long = "alone",
        value_delimiter = ',',
        default_value = "put,get,update"
    )]
    alone: Vec<Workload>,
    /// Only these targets; etcd, raw and grpc-proxy are what ratios are to
    #[arg(long = "only", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    load: LoadArguments,
    #[command(flatten)]
    output: Output,
}

impl Compare {
    pub(crate) fn run(self) -> Result<()> {
        let etcd = match (&self.etcd, &self.peers) {
            (Some(etcd), _) => etcd.clone(),
            (None, Some(peers)) => peers.join("etcd"),
            (None, None) => anyhow::bail!("which etcd? Set KEYLOOM_ETCD34 or KEYLOOM_PEERS"),
        };
        let programs = ClusterPrograms {
            etcd,
            keyloom: self.keyloom.clone(),
            before: self.before.clone(),
            floor: floor_folder()?,
        };
        let load = self.load.load()?;
        let outcomes = block_on(self.load.threads(), self.measure(&programs, load))?;
        let text = verdict::text(&outcomes) + "\n" + &report::tables(&outcomes);
        self.output.write(&text, &outcomes)
    }

    async fn measure(&self, programs: &ClusterPrograms, load: Load) -> Result<Vec<Outcome>> {
        let cluster = Cluster::start(programs, &self.only).await?;
        let plan = Plan {
            subjects: cluster.subjects(),
            workloads: self.workloads.clone(),
            rounds: self.load.rounds,
            load,
            // The data goes with its folder.
            keep: true,
        };
        let mut outcomes = run::run(&plan).await?;
        let alone = Plan {
            workloads: self.alone.clone(),
            load: Load {
                clients: 1,
                connections: 1,
                warmup: plan.load.warmup / 2,
                duration: plan.load.duration.max(Duration::from_secs(1)),
                rate: None,
                ..plan.load.clone()
            },
            ..plan
        };
        outcomes.extend(run::run(&alone).await?);
        Ok(outcomes)
    }
}

/// The floor is built with this program, and lies beside it.
fn floor_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is")?;
    Ok(own.parent().context("a program in no folder")?.to_owned())
}
