//! Simulates Keyloom: `simulate --help`.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    keyloom_simulation::cli::main()
}
