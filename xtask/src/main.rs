//! The project's chores, each one command: `cargo xtask --help` lists them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore reports to its caller"
)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{
    e2e::{Soak, Wanted},
    steps::Steps,
};

mod check;
mod e2e;
mod matrix;
mod bench;
mod routing;
mod simulate;
mod prove;
mod demo;
mod steps;

mod fuzz;

mod codegen;
mod debian;
mod peers;
mod process;
mod tidy;

#[derive(Debug, Parser)]
#[command(about = "Keyloom's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Generate the Rust code of etcd's API from its .proto files
    Codegen {
        /// Only compare with the committed code
        #[arg(long)]
        check: bool,
    },
    /// Check the house rules that no compiler checks
    Tidy,
    /// Check formatting, lints, generated code and house rules
    Check,
    /// Build the real stores and clients that the tests use, if they are missing
    Peers {
        /// Build only these
        #[arg(value_parser = peers::NAMES)]
        names: Vec<String>,
    },
    /// Run the tests that need real stores and real clients; without a filter also those that need
    /// a Kubernetes
    E2e {
        /// Run only the tests whose name contains this
        filter: Option<String>,
        /// Arguments for the test program
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the tests that need a Kubernetes
    Kubernetes {
        /// Run the tests that take hours instead of those that take minutes
        #[arg(long)]
        long: bool,
        /// Run only the tests whose name contains this
        filter: Option<String>,
        /// Arguments for the test program
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run Keyloom at full load, with reloads, compactions, kills and pauses: nothing may break, and
    /// nothing may grow. `soak bare` runs etcds alone, killed under the same load
    Soak {
        /// Minutes for the whole run
        #[arg(long, env = "KEYLOOM_MINUTES", default_value_t = 60)]
        minutes: u64,
        /// The part to run
        #[arg(value_parser = ["bare"])]
        part: Option<String>,
        /// Arguments for the test program
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run every cell of the fault matrix with real processes, and write
    /// docs/contributing/fault-matrix.md
    Matrix,
    /// Start three etcds with Keyloom in front of them, and print commands to try
    Demo {
        /// The address for clients
        #[arg(long, default_value = "http://127.0.0.1:2379")]
        listen: String,
    },
    /// Build Keyloom and its peers, and measure them (docs/contributing/benchmarks.md)
    Bench {
        /// What to compare
        comparison: bench::Comparison,
        /// Arguments for the load generator: `-- --help` lists them
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Fuzz the targets of `fuzz/` with libFuzzer. Needs a C++ compiler
    Fuzz {
        /// Minutes for all targets together
        #[arg(long, default_value_t = 16)]
        minutes: u64,
        /// Fuzz only this target
        #[arg(value_parser = fuzz::TARGETS)]
        target: Option<String>,
    },
    /// Run Keyloom in a simulation that one seed decides (docs/contributing/simulation.md)
    Simulate {
        /// Arguments for the simulation: `many --seeds N --from S --minutes M`, `one SEED --trace`, `planted`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Search for a counterexample for long: the model, planted bugs, seeds of the simulation, the
    /// fault matrix, libFuzzer and the soak. Needs a C++ compiler
    Prove {
        /// Minutes for everything without building; the soak gets half of them
        #[arg(long, default_value_t = 120)]
        minutes: u64,
        /// The first seed of the simulation; take another one than last time
        #[arg(long, default_value_t = 1_000_000)]
        from: u64,
    },
    /// Run everything: check, the tests that need no server, e2e
    Test,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    let root = workspace_root()?;
    let mut steps = Steps::default();
    match chore {
        Chore::Codegen { check: true } => return codegen::check(&root),
        Chore::Codegen { check: false } => return codegen::write(&root),
        Chore::Tidy => return tidy::check(&root),
        Chore::Peers { names } => return peers::show(&root, &names),
        Chore::Bench {
            comparison,
            arguments,
        } => return bench::compare(&root, comparison, &arguments),
        Chore::Simulate { arguments } => return simulate::command(&root, &arguments),
        Chore::Demo { listen } => return demo::run(&root, &listen),
        Chore::Check => check::lint(&root, &mut steps),
        Chore::E2e { filter, arguments } => {
            let wanted = Wanted {
                filter: filter.as_slice(),
                arguments: &arguments,
            };
            e2e::etcd(&root, &mut steps, wanted);
            if filter.is_none() {
                e2e::kubernetes(&root, &mut steps, false, wanted);
            }
        }
        Chore::Kubernetes {
            long,
            filter,
            arguments,
        } => {
            let wanted = Wanted {
                filter: filter.as_slice(),
                arguments: &arguments,
            };
            e2e::kubernetes(&root, &mut steps, long, wanted);
        }
        Chore::Fuzz { minutes, target } => {
            fuzz::fuzz(&root, &mut steps, minutes, target.as_deref());
        }
        Chore::Matrix => matrix::run(&root, &mut steps),
        Chore::Soak {
            minutes,
            part,
            arguments,
        } => {
            let part = part.map_or("nothing_breaks", |_| "bare");
            e2e::soak(&root, &mut steps, Soak::of(part, minutes), &arguments);
        }
        Chore::Prove { minutes, from } => prove::prove(&root, &mut steps, minutes, from),
        Chore::Test => {
            check::lint(&root, &mut steps);
            check::test(&root, &mut steps);
            simulate::short(&root, &mut steps);
            e2e::etcd(&root, &mut steps, e2e::ALL);
            e2e::kubernetes(&root, &mut steps, false, e2e::ALL);
        }
    }
    steps.finish()
}

fn workspace_root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here
        .parent()
        .context("xtask lies in the workspace")?
        .to_owned())
}
