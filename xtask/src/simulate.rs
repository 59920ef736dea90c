//! The deterministic simulation (docs/contributing/simulation.md).

use std::path::Path;

use anyhow::Result;

use crate::{
    process::{cargo, run},
    steps::Steps,
};

const PACKAGE: [&str; 6] = [
    "--release",
    "--locked",
    "--package",
    "keyloom-simulation",
    "--features",
    "planted",
];

/// Hands the arguments to the program that simulates.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let mut program = cargo(root, &["run", "--quiet"]);
    program.args(PACKAGE).args(["--bin", "simulate", "--"]);
    run(program.args(arguments))
}

/// The short form: some hundred seeds, and every planted bug.
pub(crate) fn short(root: &Path, steps: &mut Steps) {
    let built = steps.run("simulation: build", || {
        run(cargo(root, &["test", "--no-run"]).args(PACKAGE))
    });
    if built.is_some() {
        steps.run("simulation: run", || {
            run(cargo(root, &["test"]).args(PACKAGE))
        });
    }
}
