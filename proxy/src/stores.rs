//! From what a topology says of its stores to stores that can be called.

mod per_worker;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{FutureExt as _, future::BoxFuture};
use keyloom_environment::Address;
use keyloom_etcd_store::{
    Credentials, EndpointState, Environment as EtcdEnvironment, EtcdEndpoint, EtcdStore,
    EtcdStoreConfig, Metrics, TlsConfig, TlsPem,
};
use keyloom_kine_store::Detected;
use keyloom_sqlstore::{Restored, SqliteOptions, SqliteStore, SystemClock};
use keyloom_store::Store;
use keyloom_topology::{Endpoint, StoreSpec, TlsSpec, Topology};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::environment::Environment;
use per_worker::PerWorker;

/// Opens the stores that a topology names.
pub trait OpenStores: std::fmt::Debug + Send + Sync {
    /// The store as it is described; the one that is open already where nothing of it changed.
    fn open<'a>(&'a self, spec: &'a StoreSpec) -> BoxFuture<'a, Result<Arc<dyn Store>, String>>;

    /// Closes what is open and not among these.
    fn keep<'a>(&'a self, used: &'a [Arc<dyn Store>]) -> BoxFuture<'a, ()>;
}

/// Which stores are declared to be taken back from a backup, by name.
pub(crate) type Declared = BTreeMap<String, Restored>;

/// The stores that are open, by whatever topology.
#[derive(Debug)]
pub(crate) struct Stores {
    environment: Environment,
    declared: Declared,
    /// Of the watches on SQL stores. An etcd has its own.
    progress_interval: Duration,
    metrics: Metrics,
    file_metrics: keyloom_sqlstore::Metrics,
    entries: Mutex<Vec<Entry>>,
}

/// One open store.
#[derive(Clone, Debug)]
struct Entry {
    /// As it was described, and what the files that it names held.
    spec: StoreSpec,
    files: Vec<Vec<u8>>,
    store: Arc<dyn Store>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// One for each worker, each with connections of its own.
    Etcd(Vec<EtcdStore>),
    File(SqliteStore),
}

impl Stores {
    pub(crate) fn new(
        environment: &Environment,
        registry: &mut Registry,
        declared: Declared,
        progress_interval: Duration,
    ) -> Self {
        Self {
            environment: environment.clone(),
            declared,
            progress_interval,
            metrics: Metrics::register(registry),
            file_metrics: keyloom_sqlstore::Metrics::register(registry),
            entries: Mutex::default(),
        }
    }

    /// Opens every store of a topology, in its order. Files are opened now; nothing is dialled yet.
    ///
    /// # Errors
    /// Where a store cannot be meant as it is written, and where a file cannot be opened.
    pub(crate) async fn open_all(&self, topology: &Topology) -> Result<Vec<Arc<dyn Store>>> {
        check_declared(topology, &self.declared)?;
        let mut stores = Vec::new();
        for spec in topology.stores() {
            let opened = self.open_one(spec).await;
            stores.push(opened.with_context(|| format!("store \"{}\"", spec.name))?);
        }
        Ok(stores)
    }

    async fn open_one(&self, spec: &StoreSpec) -> Result<Arc<dyn Store>> {
        // Where it stands in the file, and how it is labelled, is nothing to its connections.
        let spec = StoreSpec {
            line: None,
            labels: BTreeMap::new(),
            ..spec.clone()
        };
        let files = contents(&spec)?;
        let same = |entry: &&Entry| entry.spec == spec && entry.files == files;
        if let Some(entry) = self.entries.lock().iter().find(same) {
            return Ok(Arc::clone(&entry.store));
        }
        let kind = self.open_kind(&spec).await?;
        let store: Arc<dyn Store> = match &kind {
            Kind::Etcd(stores) => {
                let random = Arc::clone(&self.environment.random);
                Arc::new(Detected::new(&spec.name, of_workers(stores)?, random))
            }
            Kind::File(store) => Arc::new(store.clone()),
        };
        self.entries.lock().push(Entry {
            spec,
            files,
            store: Arc::clone(&store),
            kind,
        });
        Ok(store)
    }

    async fn open_kind(&self, spec: &StoreSpec) -> Result<Kind> {
        match spec.endpoints.first() {
            Some(Endpoint::Etcd(_)) | None => {
                let first = open_etcd(spec, &self.environment, &self.metrics)?;
                let others = (1..self.environment.workers.count()).map(|_| first.beside());
                let others: Vec<_> = others.collect();
                Ok(Kind::Etcd([vec![first], others].concat()))
            }
            Some(Endpoint::Sqlite(endpoint)) => {
                ensure!(
                    !self.has_file(&endpoint.path),
                    "{} is open already; restart Keyloom to change its arguments or the name of its \
                     store",
                    endpoint.path
                );
                let mut options = SqliteOptions::new(&spec.name, &endpoint.path)
                    .with_arguments(&endpoint.arguments)?;
                options.restored = self.declared.get(&spec.name).copied();
                options.store.progress_interval = self.progress_interval;
                let clock = Arc::new(SystemClock);
                let store = SqliteStore::open(options, clock, &self.file_metrics).await?;
                Ok(Kind::File(store))
            }
            Some(Endpoint::Postgres(_) | Endpoint::Mysql(_)) => {
                bail!("PostgreSQL and MySQL are not served yet")
            }
        }
    }

    fn has_file(&self, path: &str) -> bool {
        let entries = self.entries.lock();
        entries
            .iter()
            .any(|entry| match entry.spec.endpoints.first() {
                Some(Endpoint::Sqlite(endpoint)) => endpoint.path == path,
                _ => false,
            })
    }

    /// Writes everything into the database files and gives them free.
    pub(crate) async fn close(&self) {
        self.keep_only(&[]).await;
    }

    async fn keep_only(&self, used: &[Arc<dyn Store>]) {
        let is_used = |entry: &mut Entry| used.iter().any(|store| Arc::ptr_eq(store, &entry.store));
        let unused: Vec<_> = {
            let mut entries = self.entries.lock();
            let unused = entries.extract_if(.., |entry| !is_used(entry));
            unused.collect()
        };
        for entry in unused {
            if let Kind::File(file) = entry.kind {
                file.close().await;
            }
        }
    }

    /// For operators: the state of every endpoint, in the order of the topology.
    pub(crate) fn health(&self) -> Vec<EndpointHealth> {
        let entries = self.entries.lock();
        let health = entries.iter().flat_map(|entry| match &entry.kind {
            Kind::Etcd(stores) => health_of(stores),
            Kind::File(_) => file_health(&entry.spec),
        });
        health.collect()
    }

    /// For operators: what the keys of each class take in each store that is a file.
    pub(crate) fn usage(&self) -> Vec<ClassUsage> {
        let mut usages = Vec::new();
        for entry in self.entries.lock().iter() {
            let (Kind::File(store), name) = (&entry.kind, &entry.spec.name) else {
                continue;
            };
            let usage = store.usage().into_iter();
            usages.extend(usage.map(|(class, usage)| ClassUsage {
                store: name.clone(),
                class: class.escape_ascii().to_string(),
                keys: usage.objects,
                bytes: usage.bytes,
            }));
        }
        usages
    }
}

/// How an endpoint of a store is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointHealth {
    pub(crate) store: String,
    /// For a database file its path.
    pub(crate) address: String,
    /// `unknown` before the first call, `healthy`, `degraded` or `unreachable`; a file is `open`.
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
}

/// What one class of keys takes in a store.
#[derive(Debug, Serialize)]
pub(crate) struct ClassUsage {
    pub(crate) store: String,
    /// A resource, or the first segments of its keys, with escapes.
    pub(crate) class: String,
    pub(crate) keys: i64,
    /// Of keys and values.
    pub(crate) bytes: i64,
}

impl OpenStores for Stores {
    fn open<'a>(&'a self, spec: &'a StoreSpec) -> BoxFuture<'a, Result<Arc<dyn Store>, String>> {
        async move {
            self.open_one(spec)
                .await
                .map_err(|error| format!("{error:#}"))
        }
        .boxed()
    }

    fn keep<'a>(&'a self, used: &'a [Arc<dyn Store>]) -> BoxFuture<'a, ()> {
        self.keep_only(used).boxed()
    }
}

/// A declaration for a store that is not there, or that keeps its own revisions, would pass
/// unnoticed.
fn check_declared(topology: &Topology, declared: &Declared) -> Result<()> {
    for name in declared.keys() {
        let spec = topology.stores().iter().find(|spec| spec.name == *name);
        let spec = spec.with_context(|| format!("--restored: there is no store \"{name}\""))?;
        ensure!(
            matches!(spec.endpoints.first(), Some(Endpoint::Sqlite(_))),
            "--restored: store \"{name}\" is not a SQLite file; restore an etcd with etcdutl's \
             --bump-revision"
        );
    }
    Ok(())
}

/// One store for all workers. Each calls it on its own connections.
fn of_workers(stores: &[EtcdStore]) -> Result<Arc<dyn Store>> {
    let mut each = stores
        .iter()
        .map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
    let first = each.next().context("a store of no worker")?;
    let others: Vec<_> = each.collect();
    Ok(match others.is_empty() {
        true => first,
        false => Arc::new(PerWorker::new(first, others)),
    })
}

/// All workers know the same of an endpoint.
fn health_of(stores: &[EtcdStore]) -> Vec<EndpointHealth> {
    let Some(first) = stores.first() else {
        return Vec::new();
    };
    let health = first.health();
    let health = health.into_iter().map(|endpoint| EndpointHealth {
        store: first.name().to_owned(),
        address: endpoint.address.to_string(),
        state: match endpoint.state {
            EndpointState::Untried => "unknown",
            EndpointState::Well => "healthy",
            EndpointState::Unwell => "degraded",
            EndpointState::Unreachable => "unreachable",
        },
        last_error: endpoint.last_error.map(|error| error.to_string()),
    });
    health.collect()
}

fn file_health(spec: &StoreSpec) -> Vec<EndpointHealth> {
    let Some(Endpoint::Sqlite(endpoint)) = spec.endpoints.first() else {
        return Vec::new();
    };
    vec![EndpointHealth {
        store: spec.name.clone(),
        address: endpoint.path.clone(),
        state: "open",
        last_error: None,
    }]
}

/// What the files hold that a description names: they are replaced in their place.
fn contents(spec: &StoreSpec) -> Result<Vec<Vec<u8>>> {
    let Some(tls) = &spec.tls else {
        return Ok(Vec::new());
    };
    [&tls.ca_file, &tls.cert_file, &tls.key_file]
        .into_iter()
        .flatten()
        .map(|path| fs::read(path).with_context(|| format!("reading {}", path.display())))
        .collect()
}

pub(crate) fn open_etcd(
    spec: &StoreSpec,
    environment: &Environment,
    metrics: &Metrics,
) -> Result<EtcdStore> {
    let mut endpoints = Vec::new();
    let mut credentials = None;
    for endpoint in &spec.endpoints {
        let Endpoint::Etcd(endpoint) = endpoint else {
            bail!("the endpoints of one store must be of one kind");
        };
        let scheme = if endpoint.scheme.is_tls() { "s" } else { "" };
        let text = match &endpoint.address {
            keyloom_topology::Address::Socket(path) => format!("unix{scheme}://{path}"),
            keyloom_topology::Address::Host(host, port) => {
                format!(
                    "http{scheme}://{}",
                    Address::Tcp {
                        host: host.clone(),
                        port: *port
                    }
                )
            }
        };
        endpoints.push(EtcdEndpoint::parse(&text)?);
        if let Some(login) = &endpoint.login {
            let password = login
                .password
                .as_ref()
                .map(|password| password.expose().to_owned());
            credentials = Some(Credentials {
                user: login.user.clone(),
                password: password.unwrap_or_default(),
            });
        }
    }
    let uses_tls = endpoints
        .iter()
        .any(|endpoint| endpoint.server_name.is_some());
    let mut config = EtcdStoreConfig::new(&spec.name, endpoints);
    config.credentials = credentials;
    config.tls = match (&spec.tls, uses_tls) {
        (Some(tls), _) => Some(tls_of(tls)?),
        (None, true) => Some(tls_of(&TlsSpec::default())?),
        (None, false) => None,
    };
    if let Some(most) = spec.limits.max_in_flight {
        config.limits.max_in_flight = usize::try_from(most)?;
    }
    // The limit is the store's, and each worker has its part.
    let workers = environment.workers.count();
    config.limits.max_in_flight = config.limits.max_in_flight.div_ceil(workers);
    if let Some(timeout) = spec.limits.timeout {
        config.limits.timeout = Duration::max(timeout, Duration::from_millis(1));
    }
    let environment = EtcdEnvironment {
        dial: Arc::clone(&environment.dial),
        random: Arc::clone(&environment.random),
    };
    Ok(EtcdStore::new(config, &environment, metrics)?)
}

fn tls_of(spec: &TlsSpec) -> Result<TlsConfig> {
    let read = |path: &Option<PathBuf>| -> Result<Option<Vec<u8>>> {
        path.as_ref()
            .map(|path| fs::read(path).with_context(|| format!("reading {}", path.display())))
            .transpose()
    };
    let (ca, certificate, key) = (
        read(&spec.ca_file)?,
        read(&spec.cert_file)?,
        read(&spec.key_file)?,
    );
    let pem = TlsPem {
        ca: ca.as_deref(),
        certificate: certificate.as_deref(),
        key: key.as_deref(),
        skip_verify: spec.skip_verify,
    };
    Ok(TlsConfig::from_pem(&pem)?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use keyloom_environment::{OsRandom, TokioDial};
    use keyloom_etcd_api::{
        Rpc,
        etcdserverpb::{
            WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
        },
    };
    use keyloom_topology::{NoSource, ParseOptions, parse};
    use prost::Message as _;

    use super::*;
    use crate::TokioListen;

    #[tokio::test]
    async fn an_embedded_store_tells_progress_at_the_interval_of_the_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let text = format!("default: {{endpoint: 'sqlite://{}'}}", path.display());
        let options = ParseOptions {
            default_endpoint: None,
            source: &NoSource,
        };
        let topology = parse(&text, &options).unwrap().topology;
        let environment = Environment {
            dial: Arc::new(TokioDial),
            listen: Arc::new(TokioListen),
            random: Arc::new(OsRandom),
            changes: crate::FileChanges::Told,
            renew_on: crate::RenewOn::ThisRuntime,
            workers: crate::Workers::default(),
        };
        let stores = Stores::new(
            &environment,
            &mut Registry::default(),
            Declared::new(),
            Duration::from_millis(20),
        );
        let opened = stores.open_all(&topology).await.unwrap();
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: Bytes::from_static(b"a"),
                progress_notify: true,
                ..WatchCreateRequest::default()
            })),
        };
        let requests = stream::iter([create.encode_to_vec().into()]).chain(stream::pending());
        let answers = opened.first().unwrap().stream(Rpc::Watch, requests.boxed());
        let mut answers = answers.await.unwrap();
        let created = answers.next().await.unwrap().unwrap();
        assert!(WatchResponse::decode(created).unwrap().created);
        let progress = tokio::time::timeout(Duration::from_secs(20), answers.next());
        let progress = progress.await.unwrap().unwrap().unwrap();
        let progress = WatchResponse::decode(progress).unwrap();
        assert!(!progress.created && progress.events.is_empty());
        assert_eq!(progress.header.unwrap().revision, 1);
    }
}
