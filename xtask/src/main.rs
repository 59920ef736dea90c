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
    /// Generates the Rust code of etcd's API from its .proto files
    Codegen {
        /// Only compare with what is committed
        #[arg(long)]
        check: bool,
    },
    /// Checks the house rules that no compiler checks
    Tidy,
    /// Formatting, lints, generated code and house rules
    Check,
    /// Builds the real stores and clients that the tests talk to, unless they are there
    Peers {
        /// Only these
        #[arg(value_parser = peers::NAMES)]
        names: Vec<String>,
    },
    /// Runs the tests that need real stores and real clients; without a filter those that need a
    /// Kubernetes too
    E2e {
        /// Only the tests whose name contains this
        filter: Option<String>,
        /// Handed to the test program
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Runs the tests that need a Kubernetes
    Kubernetes {
        /// Those that take hours, in the place of those that take minutes
        #[arg(long)]
        long: bool,
        /// Only the tests whose name contains this
        filter: Option<String>,
        /// Handed to the test program
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Keyloom at full load, with reloads, compactions, kills and pauses: nothing may break, and
    /// nothing may grow. `soak bare` is etcds alone that are killed under the same load
    Soak {
        /// For all of it
        #[arg(long, env = "KEYLOOM_MINUTES", default_value_t = 60)]
        minutes: u64,
        /// Which part
        #[arg(value_parser = ["bare"])]
        part: Option<String>,
        /// Handed to the test program
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// The fault matrix with real processes: runs every cell, and writes docs/contributing/fault-matrix.md
    Matrix,
    /// Starts three etcds and Keyloom in front of them
    Demo {
        /// Where clients connect
        #[arg(long, default_value = "http://127.0.0.1:2379")]
        listen: String,
    },
    /// Puts Keyloom beside its peers: builds all of them, and measures (docs/contributing/benchmarks.md)
    Bench {
        /// What is compared
        comparison: bench::Comparison,
        /// Handed to the load generator: `-- --help` lists them
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Looks for inputs that break what must hold: libFuzzer over the targets of `fuzz/`. Wants a
    /// C++ compiler
    Fuzz {
        /// For all targets together
        #[arg(long, default_value_t = 16)]
        minutes: u64,
        /// Only this one
        #[arg(value_parser = fuzz::TARGETS)]
        target: Option<String>,
    },
    /// Runs Keyloom in a simulation that one seed decides (docs/contributing/simulation.md)
    Simulate {
        /// Handed to the program: `many --seeds N --from S --minutes M`, `one SEED --trace`, `planted`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The long form of what `test` does shortly to find a counterexample: the model, planted bugs,
    /// seeds of the simulation, the fault matrix, libFuzzer and the soak. Wants a C++ compiler
    Prove {
        /// For all of it, without building: half of it is the soak's
        #[arg(long, default_value_t = 120)]
        minutes: u64,
        /// The simulation's first seed: others than the time before
        #[arg(long, default_value_t = 1_000_000)]
        from: u64,
    },
    /// Everything: check, the tests that need no server, e2e
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
