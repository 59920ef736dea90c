//! The tests of the whole program, with real stores and real clients.
//!
//! They find the programs they need through the environment: `KEYLOOM_BIN`, `KEYLOOM_PEERS` (the
//! folder of the peers) and `KEYLOOM_ETCD34`. A missing one is a failure here, never a skipped test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    peers::Peers,
    process::{cargo, output, run},
    steps::Steps,
};

const TESTS: [&str; 5] = [
    "test",
    "--release",
    "--locked",
    "--package",
    "keyloom-tests",
];

/// `filter` is what cargo gets before the `--`, `arguments` what the test program gets after it.
pub(crate) fn test(
    root: &Path,
    steps: &mut Steps,
    filter: &[String],
    arguments: &[String],
) -> Option<()> {
    let peers = steps.run("e2e: peers", || Peers::all(root))?;
    let keyloom = steps.run("e2e: build keyloom", || build_keyloom(root))?;
    steps.run("e2e: build tests", || {
        run(cargo(root, &TESTS).arg("--no-run"))
    })?;
    steps.run("e2e: run", || {
        let mut tests = cargo(root, &TESTS);
        tests.args(filter).arg("--").args(arguments);
        tests.env("KEYLOOM_BIN", &keyloom);
        tests.env("KEYLOOM_PEERS", &peers.bin);
        tests.env("KEYLOOM_ETCD34", &peers.etcd34);
        run(&mut tests)
    })
}

/// Builds the program and says where it is.
pub(crate) fn build_keyloom(root: &Path) -> Result<PathBuf> {
    build(root, "keyloom-proxy", BuildOf::Program("keyloom"))
}

/// What a package has to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BuildOf {
    Program(&'static str),
    Example(&'static str),
}

/// Builds a program for use and says where it is.
pub(crate) fn build(root: &Path, package: &str, what: BuildOf) -> Result<PathBuf> {
    let (kind, name) = match what {
        BuildOf::Program(name) => ("--bin", name),
        BuildOf::Example(name) => ("--example", name),
    };
    let mut build = cargo(root, &["build", "--release", "--locked"]);
    build.args(["--package", package, kind, name]);
    build.arg("--message-format=json-render-diagnostics");
    let messages = output(&mut build)?;
    executable(&messages, name).with_context(|| format!("cargo built {name} and did not say where"))
}

/// Where cargo put a program, from the messages of its build: one JSON object per line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let mut artifacts = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = message.get("executable")?.as_str()?;
        (message.pointer("/target/name")? == name).then(|| PathBuf::from(path))
    });
    artifacts.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"o/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"keyloom"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"keyloom"},"executable":"o/keyloom"}"#,
            "\nnot JSON\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(
            executable(messages, "keyloom"),
            Some(PathBuf::from("o/keyloom"))
        );
        assert_eq!(executable(messages, "absent"), None);
    }
}
