//! The tests of the whole program, with real stores and real clients.
//!
//! They find the programs they need through the environment: `KEYLOOM_BIN`, `KEYLOOM_PEERS` (the
//! folder of the peers), `KEYLOOM_ETCD34`, `KEYLOOM_KUBERNETES` and `KEYLOOM_KUBERNETES_OLD`. A
//! missing one is a failure here, never a skipped test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    peers::{self, Peers},
    process::{cargo, output, run},
    steps::Steps,
};

/// Which tests, and what they are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// What cargo gets before the `--`.
    pub(crate) filter: &'a [String],
    /// What the test program gets after it.
    pub(crate) arguments: &'a [String],
}

/// All of them.
pub(crate) const ALL: Wanted<'_> = Wanted {
    filter: &[],
    arguments: &[],
};

/// What compares CPU times, and runs when nothing else of ours does.
const COST: &str = "cost::";

const MATRIX_THREADS: &str = "--test-threads=8";

const TESTS: [&str; 5] = [
    "test",
    "--release",
    "--locked",
    "--package",
    "keyloom-tests",
];

/// The tests with real etcds.
pub(crate) fn etcd(root: &Path, steps: &mut Steps, wanted: Wanted<'_>) -> Option<()> {
    let programs = Programs::stores(root, steps)?;
    let target = Target {
        name: "e2e",
        feature: None,
        build: "e2e: build tests",
        run: "e2e: run",
    };
    let skipped = ["--skip".to_owned(), COST.to_owned()];
    let arguments = [&skipped, wanted.arguments].concat();
    let others = Wanted {
        arguments: &arguments,
        ..wanted
    };
    programs.test(root, steps, &target, others)?;
    programs.cost(root, steps, wanted)?;
    // What the tests stand on has tests itself.
    let own = || {
        let mut tests = cargo(root, &TESTS);
        tests.arg("--lib").args(wanted.filter);
        run(&mut tests)
    };
    steps.run("e2e: its own tests", own)?;
    programs.matrix(root, steps, wanted)
}

/// The fault matrix. Each cell leaves its row in a file of the folder that is given back.
pub(crate) fn matrix(root: &Path, steps: &mut Steps, wanted: Wanted<'_>) -> Option<PathBuf> {
    let mut programs = Programs::stores(root, steps)?;
    let rows = root.join("target/matrix");
    let empty = || {
        // What was left there by an earlier run.
        drop(fs::remove_dir_all(&rows));
        fs::create_dir_all(&rows).with_context(|| format!("making {}", rows.display()))
    };
    steps.run("matrix: its folder", empty)?;
    programs.0.push(("KEYLOOM_MATRIX", rows.clone()));
    programs.matrix(root, steps, wanted)?;
    Some(rows)
}

/// The tests with a real Kubernetes: those of a few minutes, or those that take hours.
pub(crate) fn kubernetes(
    root: &Path,
    steps: &mut Steps,
    long: bool,
    wanted: Wanted<'_>,
) -> Option<()> {
    let mut programs = Programs::stores(root, steps)?;
    let newest = steps.run("kubernetes: build it", || peers::kubernetes(root))?;
    programs.0.push(("KEYLOOM_KUBERNETES", newest));
    let mut target = Target {
        name: "kubernetes",
        feature: None,
        build: "kubernetes: build tests",
        run: "kubernetes: run",
    };
    if long {
        let old = steps.run("kubernetes: build 1.30", || peers::kubernetes_old(root))?;
        programs.0.push(("KEYLOOM_KUBERNETES_OLD", old));
        target.name = "kubernetes-long";
        target.feature = Some("long");
    }
    programs.test(root, steps, &target, wanted)
}

/// Which part of the soak, and for how many minutes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soak {
    part: &'static str,
    minutes: u64,
}

impl Soak {
    pub(crate) fn of(part: &'static str, minutes: u64) -> Self {
        Self { part, minutes }
    }
}

/// The long form of the test that everything goes on for long. Its samples are left in a table.
pub(crate) fn soak(root: &Path, steps: &mut Steps, soak: Soak, arguments: &[String]) {
    let Some(mut programs) = Programs::stores(root, steps) else {
        return;
    };
    let minutes = soak.minutes.to_string();
    programs.0.push(("KEYLOOM_MINUTES", minutes.into()));
    let samples = root.join("target/soak.tsv");
    programs.0.push(("KEYLOOM_SAMPLES", samples));
    let target = Target {
        name: "e2e",
        feature: Some("long"),
        build: "soak: build tests",
        run: "soak: run",
    };
    let filter = [format!("soak::{}", soak.part)];
    let mut all = vec!["--nocapture".to_owned()];
    all.extend_from_slice(arguments);
    let wanted = Wanted {
        filter: &filter,
        arguments: &all,
    };
    programs.test(root, steps, &target, wanted);
}

/// The programs that the tests find through the environment.
struct Programs(Vec<(&'static str, PathBuf)>);

/// A test program of the package, and the names of its steps.
struct Target {
    name: &'static str,
    feature: Option<&'static str>,
    build: &'static str,
    run: &'static str,
}

impl Programs {
    fn stores(root: &Path, steps: &mut Steps) -> Option<Self> {
        let peers = steps.run("e2e: peers", || Peers::all(root))?;
        let keyloom = steps.run("e2e: build keyloom", || build_keyloom(root))?;
        Some(Self(vec![
            ("KEYLOOM_BIN", keyloom),
            ("KEYLOOM_PEERS", peers.bin),
            ("KEYLOOM_ETCD34", peers.etcd34),
        ]))
    }

    /// Its cells wait for most of their time, so that many run at once.
    fn matrix(&self, root: &Path, steps: &mut Steps, wanted: Wanted<'_>) -> Option<()> {
        let target = Target {
            name: "matrix",
            feature: None,
            build: "matrix: build tests",
            run: "matrix: run",
        };
        let mut arguments = vec![MATRIX_THREADS.to_owned()];
        arguments.extend_from_slice(wanted.arguments);
        let wanted = Wanted {
            arguments: &arguments,
            ..wanted
        };
        self.test(root, steps, &target, wanted)
    }

    /// Whether requests cost what they cost. Shows what it measured.
    fn cost(&self, root: &Path, steps: &mut Steps, wanted: Wanted<'_>) -> Option<()> {
        if !wanted.filter.is_empty() && !wanted.filter.iter().any(|each| COST.starts_with(each)) {
            return Some(());
        }
        let target = Target {
            name: "e2e",
            feature: None,
            build: "cost: build tests",
            run: "cost: run",
        };
        let wanted = Wanted {
            filter: &[COST.to_owned()],
            arguments: &["--nocapture".to_owned()],
        };
        self.test(root, steps, &target, wanted)
    }

    fn test(
        &self,
        root: &Path,
        steps: &mut Steps,
        target: &Target,
        wanted: Wanted<'_>,
    ) -> Option<()> {
        let command = || {
            let mut command = cargo(root, &TESTS);
            command.args(["--test", target.name]);
            command.args(
                target
                    .feature
                    .map(|feature| format!("--features={feature}")),
            );
            command
        };
        steps.run(target.build, || run(command().arg("--no-run")))?;
        steps.run(target.run, || {
            let mut tests = command();
            tests.args(wanted.filter).arg("--").args(wanted.arguments);
            tests.envs(self.0.iter().map(|(name, path)| (name, path)));
            run(&mut tests)
        })
    }
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
