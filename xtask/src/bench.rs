//! Comparisons with peers, from a clean machine: builds what is compared, and runs the load
//! generator that starts and measures it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    e2e::{BuildOf, build},
    peers::Peers,
    process::{cargo, run},
    routing,
};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Comparison {
    /// Keyloom in front of etcd, beside grpc-proxy and the floor
    Proxy,
    /// A cluster's traffic through them, with watches and progress: in front of etcd 3.6, since 3.4.23
    /// may answer a progress request ahead of events that it has not sent yet
    Cluster,
    /// Keyloom's own store on SQLite, beside kine and etcd
    Sqlite,
    /// What Keyloom and grpc-proxy take while nothing happens
    Footprint,
    /// Instructions of routing, by the number of routes
    Routing,
    /// Writes and lists over more and more stores that wait for the disk
    Stores,
    /// Keyloom's own code without sockets, on one thread and on several
    #[value(name = "inprocess")]
    InProcess,
}

/// `arguments` are the load generator's.
///
/// # Errors
/// Where something cannot be built, and where the load generator says that something is wrong.
pub(crate) fn compare(root: &Path, comparison: Comparison, arguments: &[String]) -> Result<()> {
    if comparison == Comparison::Routing {
        return routing::show(root);
    }
    if comparison == Comparison::InProcess {
        let loadtest = loadtest(root)?;
        let mut command = std::process::Command::new(&loadtest);
        return run(command.arg("inprocess").args(arguments));
    }
    let peers = Peers::all(root)?;
    let keyloom = build(root, "keyloom-proxy", BuildOf::Program("keyloom"))?;
    let loadtest = loadtest(root)?;
    let mut command = std::process::Command::new(&loadtest);
    command.env("KEYLOOM_BIN", &keyloom);
    command.env("KEYLOOM_PEERS", &peers.bin);
    match comparison {
        Comparison::Proxy => command.env("KEYLOOM_ETCD34", &peers.etcd34).arg("compare"),
        Comparison::Cluster => command.env_remove("KEYLOOM_ETCD34").args([
            "compare",
            "--workload=cluster",
            "--alone=get",
        ]),
        Comparison::Footprint | Comparison::Routing | Comparison::InProcess => {
            command.arg("footprint")
        }
        Comparison::Sqlite | Comparison::Stores => {
            // Not a temporary folder, which may be memory: the workspace is on a disk.
            let folder = root.join("target/bench");
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
            let command = match comparison {
                Comparison::Stores => command.arg("stores"),
                _ => command.arg("sqlite"),
            };
            command.arg("--folder").arg(folder)
        }
    };
    run(command.args(arguments))
}

/// The load generator. The floor's programs must lie beside it: all of them are built.
fn loadtest(root: &Path) -> Result<PathBuf> {
    run(&mut cargo(
        root,
        &[
            "build",
            "--release",
            "--locked",
            "--package",
            "keyloom-loadtest",
        ],
    ))?;
    let program = BuildOf::Program("keyloom-loadtest");
    build(root, "keyloom-loadtest", program)
}
