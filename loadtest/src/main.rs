//! `keyloom-loadtest`: see `--help`, and docs/contributing/benchmarks.md for what is measured with it.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use keyloom_loadtest::cli::Arguments;

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where even that fails.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
