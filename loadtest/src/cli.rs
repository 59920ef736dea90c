//! The command line.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::time::Duration;

use crate::{
    compare::Compare,
    endpoint::Target,
    footprint::Footprint,
    inprocess::InProcess,
    keyspace::Keyspace,
    plot,
    process::Process,
    report,
    round::Load,
    run::{self, Outcome, Plan, Subject},
    sqlite::Sqlite,
    stores::Stores,
    workload::{Shape, Workload},
};

/// Puts etcd endpoints under load and compares them
#[derive(Debug, Parser)]
#[command(name = "keyloom-loadtest")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts endpoints that are there under load, one after the other, round by round
    Run(Run),
    /// Starts etcd, its grpc-proxy, the floor and Keyloom, and puts them side by side
    Compare(Compare),
    /// Starts Keyloom on SQLite, kine and etcd, and puts them side by side on one disk
    Sqlite(Sqlite),
    /// How soon Keyloom and grpc-proxy are ready, and what they take while nothing happens
    Footprint(Footprint),
    /// How writes and lists do over more and more stores that wait for their disk
    Stores(Stores),
    /// Keyloom's own code without sockets: calls a second on one thread and on several
    #[command(name = "inprocess")]
    InProcess(InProcess),
}

#[derive(Debug, Args)]
struct Run {
    /// NAME=URL or URL; repeatable, and ratios are to the first
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
    /// What is sent; several with commas
    #[arg(long = "workload", value_delimiter = ',', default_value = "get")]
    workloads: Vec<Workload>,
    /// NAME=PID of a process of this machine: its CPU time per request and its memory. One that
    /// has a target's name is read with that target only
    #[arg(long = "pid")]
    pids: Vec<Process>,
    /// Targets may be on other machines
    #[arg(long)]
    any_target: bool,
    /// Leave what was written
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    load: LoadArguments,
    #[command(flatten)]
    output: Output,
}

/// How hard, how long, and on what.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArguments {
    /// Rounds of each workload and target
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// Connections that they share
    #[arg(long, default_value_t = 4)]
    pub(crate) connections: usize,
    /// Requests a second, whatever the target does: an open loop. Without it each client sends
    /// when it has its answer
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before anything is measured, in each round
    #[arg(long, default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// Seconds of a round
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// At most so many requests in a round, the warm-up's included
    #[arg(long)]
    requests: Option<u64>,
    /// Seconds that an answer may be awaited after the end of a round
    #[arg(long, default_value = "10", value_parser = seconds)]
    patience: Duration,
    /// Namespaces of the keys
    #[arg(long, default_value_t = 4)]
    namespaces: usize,
    /// Keys of each client
    #[arg(long, default_value_t = 8)]
    keys: usize,
    /// Bytes of their values
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Objects that are listed, in each namespace
    #[arg(long, default_value_t = 500)]
    objects: usize,
    /// Bytes of their values
    #[arg(long, default_value_t = 1024)]
    object_size: usize,
    /// Objects of a page; 0 for whole lists
    #[arg(long, default_value_t = 500)]
    page: usize,
    /// Watchers, in the watch workload
    #[arg(long, default_value_t = 16)]
    watchers: usize,
    /// Nodes, in the cluster workload: without --rate they say how much is sent
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Threads of this program
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Where results go besides standard output.
#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// Every figure of every round, to a file
    #[arg(long)]
    json: Option<PathBuf>,
    /// The medians as bars, to an SVG file
    #[arg(long)]
    svg: Option<PathBuf>,
}

impl Arguments {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Where something cannot be done, and where an answer was wrong or missing.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run(run) => run.run(),
            Command::Compare(compare) => compare.run(),
            Command::Sqlite(sqlite) => sqlite.run(),
            Command::Footprint(footprint) => footprint.run(),
            Command::Stores(stores) => stores.run(),
            Command::InProcess(in_process) => in_process.run(),
        }
    }
}

impl Run {
    fn run(self) -> Result<()> {
        if !self.any_target {
            self.targets.iter().try_for_each(Target::must_be_local)?;
        }
        let threads = self.load.threads;
        let plan = Plan {
            subjects: subjects(self.targets, &self.pids),
            workloads: self.workloads,
            rounds: self.load.rounds,
            load: self.load.load()?,
            keep: self.keep,
        };
        let outcomes = block_on(threads, run::run(&plan))?;
        self.output.write(&report::tables(&outcomes), &outcomes)
    }
}

/// Each target with its own process, and with those that are no target's own.
fn subjects(targets: Vec<Target>, processes: &[Process]) -> Vec<Subject> {
    let names: Vec<_> = targets.iter().map(|target| target.name.clone()).collect();
    let of = |target: Target| Subject {
        processes: processes
            .iter()
            .filter(|process| process.name == target.name || !names.contains(&process.name))
            .cloned()
            .collect(),
        target,
        lenient: false,
    };
    targets.into_iter().map(of).collect()
}

impl LoadArguments {
    /// # Errors
    /// Where something is zero that must be there.
    pub(crate) fn load(&self) -> Result<Load> {
        let counts = [
            ("--rounds", self.rounds),
            ("--clients", self.clients),
            ("--connections", self.connections),
            ("--namespaces", self.namespaces),
            ("--keys", self.keys),
            ("--value-size", self.value_size),
            ("--objects", self.objects),
            ("--object-size", self.object_size),
            ("--watchers", self.watchers),
            ("--nodes", self.nodes),
        ];
        for (name, count) in counts {
            ensure!(count > 0, "{name} must be at least 1");
        }
        if let Some(rate) = self.rate {
            ensure!(rate.is_finite() && rate > 0.0, "--rate must be above 0");
        }
        Ok(Load {
            clients: self.clients,
            connections: self.connections.min(self.clients),
            warmup: self.warmup,
            duration: self.duration,
            rate: self.rate,
            most: self.requests,
            patience: self.patience,
            shape: Shape {
                keyspace: Keyspace {
                    namespaces: self.namespaces,
                    keys: self.keys,
                    value_size: self.value_size,
                    objects: self.objects,
                    object_size: self.object_size,
                },
                page: self.page,
            },
            watchers: self.watchers,
            nodes: self.nodes,
        })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }
}

impl Output {
    /// # Errors
    /// Where a file cannot be written.
    pub(crate) fn write(&self, text: &str, outcomes: &[Outcome]) -> Result<()> {
        std::io::stdout()
            .write_all(text.as_bytes())
            .context("writing the table")?;
        if let Some(path) = &self.json {
            let json = serde_json::to_string_pretty(&report::json(outcomes))?;
            fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
        }
        if let Some(path) = &self.svg {
            let svg = plot::svg(outcomes);
            fs::write(path, svg).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// Runs on so many threads; one is this one.
///
/// # Errors
/// What the future's are, and where there is no runtime.
pub(crate) fn block_on<T>(threads: usize, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(work)
}

pub(crate) fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().context("not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).context("not a number of seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Run> {
        let all = ["keyloom-loadtest", "run"].iter().chain(arguments);
        match Arguments::try_parse_from(all)?.command {
            Command::Run(run) => Ok(run),
            _ => unreachable!("asked for `run`"),
        }
    }

    #[test]
    fn the_shortest_command_is_enough() {
        let run = parsed(&["--target", "127.0.0.1:2379"]).unwrap();
        assert_eq!(run.workloads, [Workload::Get]);
        let load = run.load.load().unwrap();
        assert_eq!((load.clients, load.rate), (64, None));
        assert_eq!(load.duration, Duration::from_secs(3));
    }

    #[test]
    fn arguments_are_checked() {
        let target = ["--target", "127.0.0.1:2379"];
        for wrong in [
            &["--clients", "0"][..],
            &["--rate", "0"],
            &["--rate", "nan"],
            &["--duration", "-1"],
            &["--workload", "nothing"],
            &["--pid", "keyloom"],
            &["--target", "https://127.0.0.1:1"],
        ] {
            let run = parsed(&[&target, wrong].concat());
            let load = run.and_then(|run| run.load.load());
            assert!(load.is_err(), "{wrong:?}");
        }
        assert!(parsed(&[]).is_err(), "no target");
    }

    #[test]
    fn other_machines_are_not_put_under_load_by_mistake() {
        let run = parsed(&["--target", "10.1.2.3:2379"]).unwrap();
        let error = run.run().unwrap_err().to_string();
        assert!(error.contains("--any-target"), "{error}");
    }

    #[test]
    fn a_target_is_measured_with_its_own_process() {
        let arguments = ["--target", "a=127.0.0.1:1", "--target", "b=127.0.0.1:2"];
        let pids = ["--pid", "a=1", "--pid", "b=2", "--pid", "store=3"];
        let run = parsed(&[&arguments[..], &pids].concat()).unwrap();
        let subjects = subjects(run.targets, &run.pids);
        let names = subjects.iter().map(|subject| {
            let names = subject
                .processes
                .iter()
                .map(|process| process.name.as_str());
            names.collect::<Vec<_>>()
        });
        assert_eq!(names.collect::<Vec<_>>(), [["a", "store"], ["b", "store"]]);
    }
}
