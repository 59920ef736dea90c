//! `keyloom import` and `keyloom export`.

use std::{num::NonZero, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use keyloom_topology::TlsSpec;

use super::{say, work::work};
use crate::{
    environment::Environment,
    topology_file::EMBEDDED,
    transfer::{self, End},
};

/// How an etcd is reached over TLS.
#[derive(Debug, Args)]
struct Tls {
    /// The authorities (PEM) that are trusted for the etcd's certificate [default: the system's]
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The client certificate (PEM)
    #[arg(long, requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// The key of --cert-file (PEM)
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Accept any certificate of the etcd
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// What to copy: an etcd, a kine, a Keyloom or a SQLite file, as --endpoint of serve
    #[arg(long, value_name = "ENDPOINT")]
    from: String,
    /// The new database file
    #[arg(long, value_name = "sqlite://PATH", default_value = EMBEDDED)]
    to: String,
    #[command(flatten)]
    tls: Tls,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// What to copy. If a running Keyloom serves the SQLite file, give the address of that Keyloom
    #[arg(long, value_name = "ENDPOINT", default_value = EMBEDDED)]
    from: String,
    /// An empty etcd. It is written with puts, so it counts its own revisions and versions
    #[arg(long, value_name = "ENDPOINT")]
    to: String,
    /// Also write into an etcd that has keys or leases: existing keys of the same name are replaced,
    /// other keys stay
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    tls: Tls,
}

impl Import {
    pub(super) fn run(self) -> Result<ExitCode> {
        let tls = self.tls.spec();
        until_signal(async move |environment| {
            let from = End::parse(&self.from, tls).context("--from")?;
            let to = End::parse(&self.to, None).context("--to")?;
            let done = transfer::import(from, to, &environment).await?;
            say(&done.to_string()).context("standard output")
        })
    }
}

impl Export {
    pub(super) fn run(self) -> Result<ExitCode> {
        let tls = self.tls.spec();
        until_signal(async move |environment| {
            let from = End::parse(&self.from, tls.clone()).context("--from")?;
            let to = End::parse(&self.to, tls).context("--to")?;
            let done = transfer::export(from, to, self.overwrite, &environment).await?;
            say(&done.to_string()).context("standard output")
        })
    }
}

/// Runs until it is done, or until a signal ends it; what was begun is tidied up.
fn until_signal(task: impl AsyncFnOnce(Environment) -> Result<()>) -> Result<ExitCode> {
    work(NonZero::<usize>::MIN, async move |environment, stop| {
        let done = stop.run_until_cancelled(task(environment)).await;
        done.context(
            "interrupted before the end: run the command again; it starts from the beginning",
        )?
    })
}

impl Tls {
    fn spec(&self) -> Option<TlsSpec> {
        let spec = TlsSpec {
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            skip_verify: self.insecure_skip_tls_verify,
        };
        (spec != TlsSpec::default()).then_some(spec)
    }
}
