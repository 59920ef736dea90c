//! Copying the whole contents of one store into another: `keyloom import` and `keyloom export`.
//!
//! Both read the source at one revision, page by page, so that what is copied is one state that
//! the source was in; a source that compacts this revision meanwhile ends the copy.
//!
//! | module | what for |
//! |---|---|
//! | `source` | reading any store: pages, leases |
//! | `import` | into a new SQLite file, revisions and versions included |
//! | `export` | into a plain etcd, which can only be written by puts |
//! | `verify` | whether an etcd has what was copied into it |

mod export;
mod import;
mod source;
mod verify;

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use keyloom_etcd_store::Metrics;
use keyloom_sqlstore::{Metrics as FileMetrics, SqliteOptions, SqliteStore, SystemClock};
use keyloom_store::Store;
use keyloom_topology::{Endpoint, StoreSpec, TlsSpec};
use prometheus_client::registry::Registry;
use tokio::time::{Duration, Instant};
use tracing::info;

use crate::{environment::Environment, stores, topology_file};

pub(crate) use export::export;
pub(crate) use import::import;

/// How often a copy says how far it is.
const TELL: Duration = Duration::from_secs(1);

/// One end of a copy, not opened yet.
#[derive(Debug)]
pub(crate) struct End(StoreSpec);

impl End {
    /// Reads an endpoint as `serve` does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(endpoint: &str, tls: Option<TlsSpec>) -> Result<Self> {
        let topology = topology_file::load(None, Some(endpoint.to_owned()))?;
        let spec = topology.stores().first().context("no endpoint")?;
        Ok(Self(StoreSpec {
            tls,
            ..spec.clone()
        }))
    }

    /// How messages call it.
    fn name(&self) -> String {
        let endpoints = self.0.endpoints.iter();
        endpoints
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The file, if it is one.
    fn file(&self) -> Result<Option<SqliteOptions>> {
        match self.0.endpoints.first() {
            Some(Endpoint::Sqlite(file)) => {
                let options = SqliteOptions::new(&self.0.name, &file.path);
                Ok(Some(options.with_arguments(&file.arguments)?))
            }
            Some(Endpoint::Postgres(_) | Endpoint::Mysql(_)) => {
                bail!("PostgreSQL and MySQL are not served yet")
            }
            Some(Endpoint::Etcd(_)) | None => Ok(None),
        }
    }

    /// A store to read from. A file that is not there is not made.
    async fn open(&self, environment: &Environment) -> Result<Opened> {
        if let Some(mut options) = self.file()? {
            options.create = false;
            let metrics = FileMetrics::default();
            let file = SqliteStore::open(options, Arc::new(SystemClock), &metrics).await?;
            return Ok(Opened {
                store: Arc::new(file.clone()),
                file: Some(file),
            });
        }
        let metrics = Metrics::register(&mut Registry::default());
        let store = stores::open_etcd(&self.0, environment, &metrics)?;
        Ok(Opened {
            store: Arc::new(store),
            file: None,
        })
    }
}

/// A store that is open.
struct Opened {
    store: Arc<dyn Store>,
    file: Option<SqliteStore>,
}

impl Opened {
    async fn close(self) {
        if let Some(file) = self.file {
            file.close().await;
        }
    }
}

/// Says how far a copy is.
struct Progress {
    what: &'static str,
    keys: i64,
    bytes: u64,
    said: Instant,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            keys: 0,
            bytes: 0,
            said: Instant::now(),
        }
    }

    fn add(&mut self, page: &source::SourcePage) {
        self.keys += i64::try_from(page.kvs.len()).unwrap_or(0);
        self.bytes += page.bytes;
        if self.said.elapsed() >= TELL {
            self.said = Instant::now();
            let mib = self.bytes >> 20;
            info!(keys = self.keys, of = page.total, mib, "{}", self.what);
        }
    }
}
