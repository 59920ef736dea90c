//! Keyloom over stores of every kind, at an address that outlives it: a kube-apiserver is told once
//! where its etcd is.

use std::process::Command;

use tempfile::TempDir;

use crate::{
    client::Client,
    etcd::{Etcd, Version},
    etcdctl::Etcdctl,
    keyloom::write_topology,
    poll, port,
    process::Process,
    programs,
    topology::{Matcher, Topology},
};

/// How long a successor waits for a Keyloom that was killed.
const TERM: &str = "2s";

/// How often a port may be lost to somebody else.
const ATTEMPTS: usize = 10;

/// A program with one address, started again at it.
#[derive(Debug)]
pub struct Served {
    name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    port: u16,
    process: Process,
    home: TempDir,
}

impl Served {
    /// A Keyloom on a topology.
    pub async fn keyloom(name: &'static str, topology: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = write_topology(home.path(), topology);
        let arguments = vec![
            "serve".to_owned(),
            format!("--topology={}", file.display()),
            format!("--term={TERM}"),
            "--admin-listen=127.0.0.1:0".to_owned(),
        ];
        Self::start(name, "keyloom", arguments, home).await
    }

    async fn kine() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = home.path().join("kine.db").display().to_string();
        let arguments = vec![
            format!("--endpoint=sqlite://{file}?_journal=WAL&cache=shared&_busy_timeout=30000"),
            "--metrics-bind-address=0".to_owned(),
        ];
        Self::start("kine", "kine", arguments, home).await
    }

    async fn start(
        name: &'static str,
        program: &'static str,
        arguments: Vec<String>,
        mut home: TempDir,
    ) -> Self {
        for _ in 0..ATTEMPTS {
            let port = port::free();
            let process = launch(name, program, &arguments, port, &home);
            let mut served = Self {
                name,
                program,
                arguments: arguments.clone(),
                port,
                process,
                home,
            };
            if served.serves().await {
                return served;
            }
            let log = served.process.stderr();
            assert!(log.contains("in use"), "{name} ended: {log}");
            home = served.home;
        }
        panic!("every port was lost to somebody else")
    }

    /// Waits until it answers; `false` where it ended instead.
    async fn serves(&mut self) -> bool {
        let client = self.client();
        let this = std::cell::RefCell::new(self);
        poll::eventually("a first answer", || async {
            if this.borrow_mut().process.ended().is_some() {
                return Ok(false);
            }
            let request = keyloom_etcd_api::etcdserverpb::StatusRequest {};
            match client.maintenance().status(request).await {
                Ok(_) => Ok(true),
                Err(status) => Err(status),
            }
        })
        .await
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// Ends it as a crash would, and starts it again at the same address.
    pub async fn crash(&mut self) {
        self.process.kill().await;
        self.process = launch(
            self.name,
            self.program,
            &self.arguments,
            self.port,
            &self.home,
        );
        let name = self.name;
        assert!(
            self.serves().await,
            "{name} did not come back: {}",
            self.log()
        );
    }

    /// Ends it for good.
    pub async fn end(&mut self) {
        self.process.terminate().await;
    }

    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}

fn launch(name: &str, program: &str, arguments: &[String], port: u16, home: &TempDir) -> Process {
    let mut command = match program {
        "keyloom" => Command::new(programs::keyloom()),
        other => Command::new(programs::peer(other)),
    };
    let listen = match program {
        "keyloom" => format!("--listen=http://127.0.0.1:{port}"),
        _ => format!("--listen-address=http://127.0.0.1:{port}"),
    };
    command.args(arguments).arg(listen).current_dir(home.path());
    Process::start(name, &mut command, home.path())
}

/// Where the stores of a cluster are.
#[derive(Debug)]
pub struct Layout {
    pub keyloom: Served,
    /// Another Keyloom, which is the store of the tenant.
    pub second: Option<Served>,
    pub topology: Topology,
    /// How each store is read without Keyloom; `None` for a file of Keyloom's own.
    direct: Vec<Option<String>>,
    _etcds: Vec<Etcd>,
    _kine: Option<Served>,
}

/// The resources of RBAC, as they begin a key.
const RBAC: &[&str] = &[
    "clusterrolebindings",
    "clusterroles",
    "rolebindings",
    "roles",
    "serviceaccounts",
];

/// Which resources lie on several stores, as the apiserver's own metrics name them: by group and
/// resource.
pub const SPLIT: [(&str, &str); 2] = [("", "configmaps"), ("", "secrets")];

/// A whole resource on a store of its own.
pub const MOVED: [(&str, &str); 2] = [
    ("rbac.authorization.k8s.io", "roles"),
    ("stable.example.com", "shirts"),
];

/// Something whole, something split, and something custom.
fn routes() -> Topology {
    Topology::new(&[
        ("rbac", Matcher::Resources(RBAC)),
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("shirts", Matcher::Custom("stable.example.com", "shirts")),
    ])
}

impl Layout {
    /// RBAC by expression on etcd 3.4, a namespace on its own etcd behind a second Keyloom, custom
    /// resources on kine with SQLite, everything else on etcd 3.6.
    pub async fn of_every_kind() -> Self {
        let etcds = Etcd::start_all([Version::V36, Version::V34, Version::V36]).await;
        let behind = format!("default: {{endpoint: '{}'}}\n", etcds[2].url());
        let second = Served::keyloom("second", &behind).await;
        let kine = Served::kine().await;
        let topology = routes();
        let urls = [etcds[0].url(), etcds[1].url(), second.url(), kine.url()];
        let direct = [etcds[0].url(), etcds[1].url(), etcds[2].url(), kine.url()];
        Self {
            keyloom: Served::keyloom("keyloom", &topology.file(&urls)).await,
            second: Some(second),
            topology,
            direct: direct.map(Some).to_vec(),
            _etcds: etcds.into(),
            _kine: Some(kine),
        }
    }

    /// The same routes, each store an etcd 3.6.
    pub async fn of_etcds() -> Self {
        let etcds = Etcd::start_all([Version::V36; 4]).await;
        let topology = routes();
        let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
        Self {
            keyloom: Served::keyloom("keyloom", &topology.file(&urls)).await,
            second: None,
            topology,
            direct: urls.into_iter().map(Some).collect(),
            _etcds: etcds.into(),
            _kine: None,
        }
    }

    /// The same routes on files of Keyloom's own, RBAC and shirts on etcd.
    pub async fn embedded() -> Self {
        let etcds = Etcd::start_all([Version::V36, Version::V36]).await;
        let topology = routes();
        let urls = [
            "sqlite://./default.db".to_owned(),
            etcds[0].url(),
            "sqlite://./tenant.db".to_owned(),
            etcds[1].url(),
        ];
        Self {
            keyloom: Served::keyloom("keyloom", &topology.file(&urls)).await,
            second: None,
            topology,
            direct: vec![None, Some(etcds[0].url()), None, Some(etcds[1].url())],
            _etcds: etcds.into(),
            _kine: None,
        }
    }

    /// Keys below the registry prefix on each store, read by etcdctl without Keyloom.
    #[must_use]
    pub fn keys(&self) -> Vec<Option<Vec<String>>> {
        let read = |url: &Option<String>| {
            let etcdctl = Etcdctl::new(Version::V36, url.as_ref()?);
            let text = etcdctl.run(&["get", "--prefix", "/registry/", "--keys-only"]);
            let keys = text.lines().filter(|line| !line.is_empty());
            Some(keys.map(str::to_owned).collect())
        };
        self.direct.iter().map(read).collect()
    }

    /// A value as a store has it.
    #[must_use]
    pub fn value(&self, store: usize, key: &str) -> Option<String> {
        let etcdctl = Etcdctl::new(Version::V36, self.direct[store].as_ref()?);
        Some(etcdctl.run(&["get", key, "--print-value-only"]))
    }

    /// Waits until Keyloom answers `/readyz`-like questions again after a crash of a store.
    pub async fn settled(&self) {
        let client = self.keyloom.client();
        poll::eventually("a list over every store", || async {
            let request = keyloom_etcd_api::etcdserverpb::RangeRequest {
                key: "/registry/".into(),
                range_end: "/registry0".into(),
                count_only: true,
                ..Default::default()
            };
            client.kv().range(request).await
        })
        .await;
    }
}
