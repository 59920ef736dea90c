//! `keyloom topology check|route|diff|strays|schema`: looks at files, at a running Keyloom, and where that
//! is asked for at the stores.

mod admin;
mod batch;
mod connect;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::{Args, Subcommand};
use keyloom_etcd_api::KeyRange;
use keyloom_topology::{
    Accepted, Cuts, ParseOptions, Part, Refused, RouteReason, Topology, diff, object_key, parse,
};

use super::{USAGE, say};
use crate::topology_file::{self, Machine};

#[derive(Debug, Subcommand)]
pub(super) enum TopologyCommand {
    /// Report every problem of a topology file
    Check {
        file: PathBuf,
        /// Also ask every store for its identity
        #[arg(long)]
        connect: bool,
    },
    /// Show on which store a key lives, or which stores a range touches
    Route(Route),
    /// Show which keys would move to another store if NEW replaced OLD
    Diff {
        old: PathBuf,
        new: PathBuf,
        /// Also count the existing keys that no client would see any more
        #[arg(long)]
        connect: bool,
    },
    /// List the keys that a store holds and that route elsewhere: no client sees them
    Strays(admin::StraysCommand),
    /// Prints the JSON schema of the topology file, for editors and for checks before a roll-out
    Schema,
}

#[derive(Debug, Args)]
pub(super) struct Route {
    /// The topology file
    #[arg(long, env = "KEYLOOM_TOPOLOGY", value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Ask the running Keyloom with this admin address, instead of reading a file
    #[arg(long, conflicts_with = "topology", value_name = "URL")]
    admin: Option<String>,
    /// A whole key, such as /registry/pods/default/web; with -n, RESOURCE/NAME
    #[arg(
        required_unless_present = "batch",
        default_value_t,
        hide_default_value = true
    )]
    key: String,
    /// The end of the range, as in etcd's API
    range_end: Option<String>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "range_end")]
    prefix: bool,
    /// KEY is RESOURCE/NAME in this namespace, such as pod/web
    #[arg(short, long)]
    namespace: Option<String>,
    /// Read ranges from standard input, one a line: key, tab, range end, with escapes such as
    /// `\\x00`; print the stores of each range on one line, with tabs between them
    #[arg(long, conflicts_with_all = ["key", "range_end", "prefix", "namespace"])]
    batch: bool,
}

impl TopologyCommand {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check { file, connect } => check(&file, connect),
            Self::Route(route) => route.run(),
            Self::Diff { old, new, connect } => differences(&old, &new, connect),
            Self::Strays(strays) => strays.run(),
            Self::Schema => {
                say(&format!("{:#}", keyloom_topology::schema()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn read(file: &Path) -> Result<std::result::Result<Accepted, Refused>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    // A file may leave the default store to `serve --endpoint`; then it names none.
    let options = ParseOptions {
        default_endpoint: None,
        source: &Machine,
    };
    Ok(parse(&text, &options))
}

fn check(file: &Path, connect: bool) -> Result<ExitCode> {
    let name = file.display().to_string();
    match read(file)? {
        Ok(accepted) => {
            for warning in &accepted.warnings {
                say(&warning.in_file(&name))?;
            }
            say(&format!(
                "{name}: no error, stores: {}",
                accepted.topology.stores().len()
            ))?;
            if connect {
                return connect::check(&accepted.topology);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => {
            for line in refused.in_file(&name) {
                say(&line)?;
            }
            Ok(ExitCode::from(USAGE))
        }
    }
}

impl Route {
    fn run(self) -> Result<ExitCode> {
        let topology = match &self.admin {
            Some(admin) => admin::topology(admin)?,
            None => topology_file::load(self.topology.as_deref(), None)?,
        };
        if self.batch {
            return batch::run(&topology);
        }
        let range = self.range(&topology);
        if range.is_single_key() {
            say(&explain(&topology, &range.start))?;
            return Ok(ExitCode::SUCCESS);
        }
        for part in topology.cover(&range) {
            say(&shown(&topology, &part))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn range(&self, topology: &Topology) -> KeyRange {
        let key = match (&self.namespace, topology.registry_prefixes().first()) {
            (Some(namespace), Some(prefix)) => {
                let below = object_key(&self.key, namespace);
                Bytes::from([&prefix[..], below.as_bytes()].concat())
            }
            _ => Bytes::from(self.key.clone().into_bytes()),
        };
        if self.prefix {
            return KeyRange::prefix(key);
        }
        let end = self.range_end.clone().unwrap_or_default();
        KeyRange::from_request(&key, &Bytes::from(end.into_bytes()))
    }
}

/// `STORE  why`.
fn explain(topology: &Topology, key: &[u8]) -> String {
    let explained = topology.explain(key);
    let store = explained.store.unwrap_or_else(|| "-".to_owned());
    let why = match explained.reason {
        RouteReason::Reserved => "keyloom's own".to_owned(),
        RouteReason::Default => "no route claims it".to_owned(),
        RouteReason::Route {
            backend,
            matcher,
            line,
        } => {
            format!("backend \"{backend}\" (line {line}): {matcher}")
        }
    };
    format!("{store}\t{why}")
}

/// `STORE  the part of the range that it can hold`.
fn shown(topology: &Topology, part: &Part) -> String {
    let name = topology
        .stores()
        .get(usize::from(part.store.0))
        .map_or_else(|| part.store.to_string(), |spec| spec.name.clone());
    let start = part.hull.start.escape_ascii();
    let end = match &part.hull.end {
        Some(end) => end.escape_ascii().to_string(),
        None => "(no end)".to_owned(),
    };
    let what = match &part.cuts {
        Cuts::Whole => "every key".to_owned(),
        Cuts::Intervals(intervals) => format!("{} intervals", intervals.len()),
        Cuts::Filter => "keys among those of other stores".to_owned(),
    };
    format!("{name}\t{start} .. {end}\t{what}")
}

fn differences(old: &Path, new: &Path, connect: bool) -> Result<ExitCode> {
    let old = topology_file::load(Some(old), None)?;
    let new = topology_file::load(Some(new), None)?;
    let moves = diff(&old, &new);
    if moves.is_empty() {
        say("no key would move")?;
    }
    for each in moves {
        say(&each.to_string())?;
    }
    if connect {
        return connect::hidden(&old, &new);
    }
    Ok(ExitCode::SUCCESS)
}
