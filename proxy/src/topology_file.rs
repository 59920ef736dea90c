//! Reading a topology file with the environment and the files that it names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use keyloom_topology::{ParseOptions, Source, Topology, parse};
use tracing::warn;

/// The default store where no store is named at all.
pub(crate) const EMBEDDED: &str = "sqlite://./keyloom.db";

/// This process's environment, and the files of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine;

impl Source for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }
}

/// Reads a file, or a topology that is only a default store.
///
/// # Errors
/// Every problem of the file, one a line.
pub(crate) fn load(path: Option<&Path>, endpoint: Option<String>) -> Result<Topology> {
    let text = match path {
        Some(path) => {
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?
        }
        None => String::new(),
    };
    // With nothing named, a database of its own in the current folder.
    let endpoint = match (path, endpoint) {
        (None, None) => Some(EMBEDDED.to_owned()),
        (_, endpoint) => endpoint,
    };
    let name = path.map_or_else(|| PathBuf::from("--endpoint"), Path::to_owned);
    let name = name.display().to_string();
    let options = ParseOptions {
        default_endpoint: endpoint,
        source: &Machine,
    };
    match parse(&text, &options) {
        Ok(accepted) => {
            for warning in &accepted.warnings {
                warn!("{}", warning.in_file(&name));
            }
            Ok(accepted.topology)
        }
        Err(refused) => bail!(
            "the topology file is refused\n{}",
            refused.in_file(&name).join("\n")
        ),
    }
}
