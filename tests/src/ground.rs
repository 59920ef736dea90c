//! The stores of a topology: etcds, SQLite files, or some of each.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{
    etcd::{Etcd, Version},
    keyloom::Keyloom,
};

/// What a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Etcd(Version),
    /// A SQLite file, served by Keyloom itself.
    File,
}

/// etcds as most tests have them.
pub const ETCDS: [Kind; 3] = [
    Kind::Etcd(Version::V36),
    Kind::Etcd(Version::V34),
    Kind::Etcd(Version::V36),
];

/// Only files.
pub const FILES: [Kind; 3] = [Kind::File; 3];

/// A file keeps everything that no route takes, and Keyloom's own records.
pub const FILE_FIRST: [Kind; 3] = [
    Kind::File,
    Kind::Etcd(Version::V36),
    Kind::Etcd(Version::V34),
];

/// A file among etcds.
pub const FILE_AMONG: [Kind; 3] = [
    Kind::Etcd(Version::V36),
    Kind::File,
    Kind::Etcd(Version::V36),
];

/// Stores; they and their data go with the value.
#[derive(Debug)]
pub struct Ground {
    _etcds: Vec<Etcd>,
    _home: TempDir,
    endpoints: Vec<String>,
}

impl Ground {
    /// Starts the etcds; files are made by who opens them.
    pub async fn start(kinds: &[Kind]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let versions = kinds.iter().filter_map(|kind| match kind {
            Kind::Etcd(version) => Some(*version),
            Kind::File => None,
        });
        let etcds = join_all(versions.map(Etcd::start)).await;
        let mut urls = etcds.iter().map(Etcd::url);
        let endpoint = |(number, kind): (usize, &Kind)| match kind {
            Kind::Etcd(_) => urls.next().expect("one for each"),
            Kind::File => format!("sqlite://{}/{number}.db", home.path().display()),
        };
        let endpoints = kinds.iter().enumerate().map(endpoint).collect();
        Self {
            _etcds: etcds,
            _home: home,
            endpoints,
        }
    }

    /// Where the stores are, in the order in which they were asked for.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }
}

/// A Keyloom over a topology whose term a slow machine does not end.
pub async fn serve(topology: &str) -> Keyloom {
    let mut keyloom = Keyloom::launch_with(topology, &["--term", "60s"]);
    keyloom.ready().await;
    keyloom
}
