//! The command line.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use keyloom_planted::{ALL, named, plant};
use tokio::time::Instant;

use crate::{
    drive,
    fleet::{Fleet, SeedReport, Sums, head_of},
    plan::Plan,
    trace,
};

/// Simulates Keyloom.
#[derive(Debug, Parser)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed in this process
    One {
        seed: u64,
        /// Says on standard error what happens; with RUST_LOG also what the program logs
        #[arg(long)]
        trace: bool,
        /// With this bug
        #[arg(long)]
        planted: Option<String>,
    },
    /// Runs many seeds
    Many(Many),
    /// Plants one bug after the other, and runs seeds until each is found
    Planted {
        /// How many seeds may be run for each
        #[arg(long, default_value_t = 600)]
        seeds: u64,
        /// Only these
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Many {
    /// How many
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// No seed begins later; without `--seeds` it is this that counts
    #[arg(long)]
    minutes: Option<u64>,
    /// With this bug
    #[arg(long)]
    planted: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// Where a run cannot be made.
pub fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::One {
            seed,
            trace,
            planted,
        } => one(seed, trace, planted),
        Command::Many(many) => block_on(run_many(many)),
        Command::Planted { seeds, names } => block_on(plant_each(seeds, names)),
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(work)
}

#[expect(clippy::print_stdout, reason = "a command reports to its caller")]
fn one(seed: u64, shown: bool, planted: Option<String>) -> Result<ExitCode> {
    trace::show(shown);
    if let Some(name) = planted {
        let bug = named(&name).with_context(|| format!("there is no bug \"{name}\""))?;
        ensure!(plant(bug), "this program was built without bugs to plant");
    }
    if shown && std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt()
            .without_time()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        log.init();
    }
    let folder = folder()?;
    let outcome = drive::run(&Plan::of(seed), &folder);
    std::fs::remove_dir_all(&folder).context("removing the folder of the run")?;
    let outcome = outcome?;
    let found = &outcome.findings;
    println!(
        "seed {seed} hash {:016x} simulated {} ms operations {} answered {} events {} too-hard {} broken {}",
        outcome.hash,
        outcome.simulated.as_millis(),
        found.operations,
        found.answered,
        found.events,
        found.too_hard,
        found.broken.len()
    );
    for broken in &found.broken {
        println!("{broken}");
    }
    Ok(exit(found.broken.is_empty()))
}

fn exit(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A folder of this process's own.
fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("keyloom-simulation-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[expect(clippy::print_stdout, reason = "a command reports to its caller")]
async fn run_many(many: Many) -> Result<ExitCode> {
    let begun = Instant::now();
    let minutes = many
        .minutes
        .map(|minutes| Duration::from_secs(60 * minutes));
    let fleet = Fleet {
        planted: many.planted,
        jobs: jobs(),
        until: minutes.map(|minutes| begun + minutes),
    };
    let seeds = match many.minutes {
        Some(_) => many.from..u64::MAX,
        None => many.from..many.from.saturating_add(many.seeds),
    };
    let mut sums = Sums::default();
    let look = |said: SeedReport| {
        sums.add(&said);
        if !said.ok {
            println!(
                "{}\nreplay: cargo xtask simulate one {} --trace\n",
                head_of(&said.text, 30),
                said.seed
            );
        }
        if sums.seeds.is_multiple_of(1000) {
            println!("{}", sums.line(begun.elapsed()));
        }
        true
    };
    fleet.run(seeds, look).await?;
    println!("{}", sums.line(begun.elapsed()));
    if !sums.broken.is_empty() {
        sums.broken.sort_unstable();
        println!("violations in {:?}", sums.broken);
    }
    Ok(exit(sums.broken.is_empty()))
}

#[expect(clippy::print_stdout, reason = "a command reports to its caller")]
async fn plant_each(seeds: u64, names: Vec<String>) -> Result<ExitCode> {
    let mut missed = Vec::new();
    for (_, name, what) in ALL {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let fleet = Fleet {
            planted: Some(name.to_owned()),
            jobs: jobs(),
            until: None,
        };
        let (mut tried, mut found) = (0, None);
        let look = |said: SeedReport| {
            tried += 1;
            if let Some(checker) = said.checker()
                && found.is_none()
            {
                found = Some((said.seed, checker.to_owned()));
            }
            found.is_none()
        };
        fleet.run(1..=seeds, look).await?;
        match found {
            Some((seed, checker)) => {
                println!(
                    "{name:<18} found by {checker:<14} seed {seed:>4} ({tried} tried): {what}"
                );
            }
            None => {
                println!("{name:<18} NOT FOUND in {tried} seeds: {what}");
                missed.push(name);
            }
        }
    }
    println!("{} not found", missed.len());
    Ok(exit(missed.is_empty()))
}
