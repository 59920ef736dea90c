//! From what a topology says of its stores to stores that can be called.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use keyloom_sqlstore::{Restored, SqliteOptions, SqliteStore, SystemClock};
use keyloom_store::{
    Store,
    environment::Address,
    etcd::{
        Credentials, EndpointState, Environment as EtcdEnvironment, EtcdEndpoint, EtcdStore,
        EtcdStoreConfig, TlsConfig, TlsPem,
    },
    kine::Detected,
    metrics::Metrics,
};
use keyloom_topology::{Endpoint, StoreSpec, TlsSpec, Topology};
use prometheus_client::registry::Registry;

use crate::app::Environment;

/// Every store of a topology, in its order.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stores: Vec<Arc<dyn Store>>,
    pub(crate) health: Health,
    files: Vec<SqliteStore>,
}

impl Opened {
    /// Writes everything into the database files and gives them free.
    pub(crate) async fn close(files: Vec<SqliteStore>) {
        for file in files {
            file.close().await;
        }
    }

    /// The stores that are files of this process.
    pub(crate) fn files(&self) -> Vec<SqliteStore> {
        self.files.clone()
    }
}

/// How the stores' endpoints do.
#[derive(Debug, Default)]
pub(crate) struct Health {
    etcds: Vec<EtcdStore>,
    files: Vec<(String, String, SqliteStore)>,
}

impl Health {
    /// A page for operators: one endpoint a line.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        for store in &self.etcds {
            for endpoint in store.health() {
                let state = match endpoint.state {
                    EndpointState::Untried => "untried",
                    EndpointState::Well => "well",
                    EndpointState::Unwell => "unwell",
                    EndpointState::Unreachable => "unreachable",
                };
                let error = endpoint.last_error.as_deref().unwrap_or("");
                let (name, address) = (store.name(), &endpoint.address);
                page.push_str(&format!("{name}\t{address}\t{state}\t{error}\n"));
            }
        }
        for (name, path, _) in &self.files {
            page.push_str(&format!("{name}\t{path}\topen\t\n"));
        }
        page
    }

    /// A page for operators: what the keys of each class take in each store that is a file; one
    /// class a line: store, class, keys, and bytes of keys and values.
    pub(crate) fn usage(&self) -> String {
        let mut page = String::new();
        for (name, _, store) in &self.files {
            for (class, usage) in store.usage() {
                let (class, objects, bytes) = (class.escape_ascii(), usage.objects, usage.bytes);
                page.push_str(&format!("{name}\t{class}\t{objects}\t{bytes}\n"));
            }
        }
        page
    }
}

/// Which stores are declared to be taken back from a backup, by name.
pub(crate) type Declared = BTreeMap<String, Restored>;

/// Opens every store. Files are opened now; nothing is dialled yet.
///
/// # Errors
/// Where a store cannot be meant as it is written, and where a file cannot be opened.
pub(crate) async fn open(
    topology: &Topology,
    environment: &Environment,
    registry: &mut Registry,
    declared: &Declared,
) -> Result<Opened> {
    check_declared(topology, declared)?;
    let metrics = Metrics::register(registry);
    let file_metrics = keyloom_sqlstore::Metrics::register(registry);
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    let (mut health, mut files) = (Health::default(), Vec::new());
    for spec in topology.stores() {
        let in_store = || format!("store \"{}\"", spec.name);
        match spec.endpoints.first() {
            Some(Endpoint::Etcd(_)) | None => {
                let store = open_etcd(spec, environment, &metrics).with_context(in_store)?;
                health.etcds.push(store.clone());
                let random = Arc::clone(&environment.random);
                stores.push(Arc::new(Detected::new(&spec.name, Arc::new(store), random)));
            }
            Some(Endpoint::Sqlite(endpoint)) => {
                let mut options = SqliteOptions::new(&spec.name, &endpoint.path)
                    .with_arguments(&endpoint.arguments)
                    .with_context(in_store)?;
                options.restored = declared.get(&spec.name).copied();
                let store =
                    SqliteStore::open(options, Arc::new(SystemClock), &file_metrics).await?;
                let shown = (spec.name.clone(), endpoint.path.clone(), store.clone());
                health.files.push(shown);
                files.push(store.clone());
                stores.push(Arc::new(store));
            }
            Some(Endpoint::Postgres(_) | Endpoint::Mysql(_)) => {
                bail!(
                    "store \"{}\": PostgreSQL and MySQL are not served yet",
                    spec.name
                );
            }
        }
    }
    Ok(Opened {
        stores,
        health,
        files,
    })
}

/// A declaration for a store that is not there, or that keeps its own revisions, would pass
/// unnoticed.
fn check_declared(topology: &Topology, declared: &Declared) -> Result<()> {
    for name in declared.keys() {
        let spec = topology.stores().iter().find(|spec| spec.name == *name);
        let spec = spec.with_context(|| format!("--restored: there is no store \"{name}\""))?;
        ensure!(
            matches!(spec.endpoints.first(), Some(Endpoint::Sqlite(_))),
            "--restored: store \"{name}\" is no SQLite file: an etcd is restored with etcdutl's \
             --bump-revision"
        );
    }
    Ok(())
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
