//! Keyloom's own store on SQLite beside kine and etcd, each with its data on the same disk.
//!
//! | phase | what is measured |
//! |---|---|
//! | writes | kube-apiserver's updates a second and their latencies, by number of clients |
//! | watch | from a write to every watcher, at a rate that all of them bear |
//! | lists | pages and counts of large tables, at the newest revision and at an old one |
//! | compaction | what writers at a rate notice of a compaction, and what it gives back |
//!
//! Everything is started here, with its defaults but for what is said in [`database`]. Targets take
//! turns in every round. A wrong or missing answer of Keyloom or etcd fails the run; kine's are
//! counted.

mod compaction;
mod database;
mod fill;
mod lists;
mod summary;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tempfile::TempDir;

use crate::{
    cli::{LoadArguments, Output, block_on},
    report,
    round::Load,
    run::{self, Outcome, Plan},
    workload::Workload,
};
use database::{Database, DatabasePrograms, Kind};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Phase {
    Writes,
    Watch,
    Lists,
    Compaction,
}

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Sqlite {
    /// The Keyloom to be measured: a release build
    #[arg(long, env = "KEYLOOM_BIN")]
    keyloom: PathBuf,
    /// The folder of etcd and kine
    #[arg(long, env = "KEYLOOM_PEERS")]
    peers: PathBuf,
    /// Where the databases lie while they are measured: on the disk that is to be compared
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// What is measured; all where nothing is named
    #[arg(long = "phase", value_delimiter = ',')]
    phases: Vec<Phase>,
    /// Only these targets: keyloom, kine-full, kine, etcd
    #[arg(long = "only", value_delimiter = ',')]
    only: Vec<String>,
    /// Clients of the writes, each number in turn
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    writers: Vec<usize>,
    /// Objects of the lists, each number in turn
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    sizes: Vec<usize>,
    /// Objects of a page, each number in turn
    #[arg(long, value_delimiter = ',', default_value = "500,10000")]
    pages: Vec<usize>,
    /// Objects of the compaction, each with as many superseded versions as there are rounds to sweep
    #[arg(long, default_value_t = 50_000)]
    compacted: usize,
    /// Superseded versions of each of them that one compaction sweeps
    #[arg(long, default_value_t = 4)]
    versions: usize,
    /// Writes a second while watches and compactions are measured
    #[arg(long, default_value_t = 200.0)]
    background: f64,
    #[command(flatten)]
    load: LoadArguments,
    #[command(flatten)]
    output: Output,
}

impl Sqlite {
    pub(crate) fn run(self) -> Result<()> {
        let outcomes = block_on(self.load.threads(), self.measure())?;
        let text = summary::text(&outcomes) + "\n" + &report::tables(&outcomes);
        self.output.write(&text, &outcomes)
    }

    async fn measure(&self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        if self.wants(Phase::Writes) {
            outcomes.extend(self.writes().await.context("writes")?);
        }
        if self.wants(Phase::Watch) {
            outcomes.extend(self.watches().await.context("watch")?);
        }
        if self.wants(Phase::Lists) {
            for &objects in &self.sizes {
                outcomes.extend(self.lists(objects).await.context("lists")?);
            }
        }
        if self.wants(Phase::Compaction) {
            outcomes.push(self.compaction().await.context("compaction")?);
        }
        Ok(outcomes)
    }

    fn wants(&self, phase: Phase) -> bool {
        self.phases.is_empty() || self.phases.contains(&phase)
    }

    fn base(&self) -> Result<TempDir> {
        TempDir::with_prefix_in("keyloom-sqlite-", &self.folder).context("a folder for databases")
    }

    /// The targets, none of them started, in a folder that is removed with them.
    fn databases(&self) -> Result<Databases> {
        let folder = self.base()?;
        let programs = DatabasePrograms {
            keyloom: std::path::absolute(&self.keyloom)?,
            peers: std::path::absolute(&self.peers)?,
        };
        let kinds = Kind::ALL.into_iter().filter(|kind| {
            self.only.is_empty() || self.only.iter().any(|name| name == kind.name())
        });
        let all = kinds.map(|kind| Database::new(kind, &programs, folder.path()));
        Ok(Databases {
            all: all.collect::<Result<_>>()?,
            _folder: folder,
        })
    }

    async fn writes(&self) -> Result<Vec<Outcome>> {
        let mut databases = self.databases()?;
        databases.start().await?;
        let mut outcomes = Vec::new();
        for &clients in &self.writers {
            let load = Load {
                clients,
                connections: self.load.connections.min(clients),
                rate: None,
                ..self.load.load()?
            };
            outcomes.extend(self.interleaved(&databases, Workload::Update, load).await?);
        }
        Ok(outcomes)
    }

    async fn watches(&self) -> Result<Vec<Outcome>> {
        let mut databases = self.databases()?;
        databases.start().await?;
        let load = Load {
            clients: self.load.clients.min(16),
            rate: Some(self.background),
            ..self.load.load()?
        };
        self.interleaved(&databases, Workload::Watch, load).await
    }

    async fn interleaved(
        &self,
        databases: &Databases,
        workload: Workload,
        load: Load,
    ) -> Result<Vec<Outcome>> {
        let subjects = databases.all.iter().map(Database::subject);
        let plan = Plan {
            subjects: subjects.collect::<Result<_>>()?,
            workloads: vec![workload],
            rounds: self.load.rounds,
            load,
            // The data goes with its folder.
            keep: true,
        };
        run::run(&plan).await
    }

    async fn lists(&self, objects: usize) -> Result<Vec<Outcome>> {
        let mut databases = self.databases()?;
        let load = self.load.load()?;
        let size = load.shape.keyspace.value_size;
        let questions = lists::questions(objects, size, &self.pages);
        lists::measure(&mut databases.all, &questions, self.load.rounds, &load).await
    }

    async fn compaction(&self) -> Result<Outcome> {
        let mut databases = self.databases()?;
        let load = Load {
            clients: self.load.clients.min(16),
            rate: Some(self.background),
            ..self.load.load()?
        };
        let swept = compaction::Swept {
            objects: self.compacted,
            versions: self.versions,
        };
        compaction::measure(&mut databases.all, swept, self.load.rounds, &load).await
    }
}

/// Every target of a phase; the folder of their data goes last.
#[derive(Debug)]
struct Databases {
    all: Vec<Database>,
    _folder: TempDir,
}

impl Databases {
    async fn start(&mut self) -> Result<()> {
        for database in &mut self.all {
            database.start().await?;
        }
        Ok(())
    }
}
