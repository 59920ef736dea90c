//! The programs of a control plane, each with a folder and ports of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use super::Api;
use crate::{poll, port, process::Process, programs};

/// How long a control plane may take to be there on a loaded machine.
const START: Duration = Duration::from_secs(300);

const TOKEN: &str = "the-token-of-the-test";

/// What a control plane is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its etcd is.
    pub etcd: String,
    /// What else it is told of it.
    pub etcd_flags: Vec<String>,
    /// Whether it is the older Kubernetes.
    pub old: bool,
    pub watch_cache: bool,
    /// Between two of its own comparisons of its cache with the store; `None` is its own choice.
    pub check_period: Option<Duration>,
}

impl Settings {
    /// The newest Kubernetes, whose apiserver compares its cache with the store at its own pace.
    #[must_use]
    pub fn on(etcd: &str) -> Self {
        Self {
            etcd: etcd.to_owned(),
            etcd_flags: Vec::new(),
            old: false,
            watch_cache: true,
            check_period: None,
        }
    }
}

/// A running kube-apiserver, and what goes with it.
#[derive(Debug)]
pub struct ControlPlane {
    pub api: Api,
    apiserver: Process,
    controllers: Option<Process>,
    _proxy: Process,
    home: TempDir,
    settings: Settings,
    port: u16,
}

impl ControlPlane {
    /// Starts a kube-apiserver with files of its own, and waits until it is ready.
    pub async fn start(settings: Settings) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        write_files(home.path());
        Self::start_in(settings, home).await
    }

    /// Another kube-apiserver of the same cluster: the same keys for tokens and secrets.
    pub async fn beside(&self, settings: Settings) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        for name in ["sa.key", "sa.pub", "tokens.csv", "encryption.yaml"] {
            fs::copy(self.home.path().join(name), home.path().join(name)).expect("a file");
        }
        Self::start_in(settings, home).await
    }

    async fn start_in(settings: Settings, home: TempDir) -> Self {
        let port = port::free();
        let apiserver = launch(&settings, port, home.path());
        write_kubeconfig(home.path(), port);
        let proxy_port = port::free();
        let proxy = proxy(&settings, proxy_port, home.path());
        let mut plane = Self {
            api: Api::new(&format!("http://127.0.0.1:{proxy_port}")),
            apiserver,
            controllers: None,
            _proxy: proxy,
            home,
            settings,
            port,
        };
        plane.ready().await;
        plane
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) {
        let api = self.api.clone();
        let this = std::cell::RefCell::new(&mut *self);
        let pause = Duration::from_millis(100);
        poll::every(pause, START, "a kube-apiserver that is ready", || async {
            if let Some(status) = this.borrow_mut().apiserver.ended() {
                panic!("kube-apiserver ended: {status}");
            }
            match api.text("/readyz").await {
                Ok((200, _)) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    /// Starts the controllers that collect garbage and end namespaces.
    pub fn run_controllers(&mut self) {
        let program = programs::kubernetes(self.settings.old, "kube-controller-manager");
        let home = self.home.path();
        let mut command = Command::new(program);
        command
            .arg(format!(
                "--kubeconfig={}",
                home.join("kubeconfig").display()
            ))
            .arg("--controllers=garbage-collector-controller,namespace-controller")
            .args(["--leader-elect=false", "--bind-address=127.0.0.1"])
            .arg(format!("--secure-port={}", port::free()))
            .arg(format!("--cert-dir={}", home.join("controllers").display()))
            // A new kind of object is found this often.
            .arg("--min-resync-period=1h");
        self.controllers = Some(Process::start("controllers", &mut command, home));
    }

    /// Runs kubectl, which must succeed, and gives back what it printed.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let program = programs::kubernetes(self.settings.old, "kubectl");
        let file = self.home.path().join("input.yaml");
        fs::write(&file, input).expect("the folder is the test's own");
        let mut command = Command::new(program);
        command
            .arg(format!("--kubeconfig={}", self.kubeconfig()))
            .args(arguments)
            .stdin(fs::File::open(&file).expect("it was written just now"));
        // Nothing of it is kept in the home of who runs the test.
        command.env("HOME", self.home.path());
        // It may talk to what runs in this very program.
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic").expect("kubectl starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "kubectl {arguments:?}: {complaint}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn kubeconfig(&self) -> String {
        self.home.path().join("kubeconfig").display().to_string()
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Moves it to another etcd endpoint, as an operator does: it is stopped and started again.
    pub async fn move_to(&mut self, etcd: &str) {
        // An end in good order takes a minute where its etcd is gone already.
        self.apiserver.kill().await;
        etcd.clone_into(&mut self.settings.etcd);
        self.apiserver = launch(&self.settings, self.port, self.home.path());
        self.ready().await;
    }

    /// Fails where a program ended or anything of it panicked.
    pub fn check(&mut self) {
        let controllers = self.controllers.as_mut();
        for process in std::iter::once(&mut self.apiserver).chain(controllers) {
            let log = process.stderr();
            let panic = log
                .lines()
                .find(|line| line.contains("Observed a panic") || line.starts_with("panic: "));
            assert_eq!(panic, None, "a panic");
            assert_eq!(process.ended(), None, "it ended");
        }
    }

    /// What the apiserver logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.apiserver.stderr()
    }
}

fn launch(settings: &Settings, port: u16, home: &Path) -> Process {
    let mut command = Command::new(programs::kubernetes(settings.old, "kube-apiserver"));
    let file = |name: &str| home.join(name).display().to_string();
    command
        .arg(format!("--etcd-servers={}", settings.etcd))
        .args(&settings.etcd_flags)
        .arg(format!("--secure-port={port}"))
        .args([
            "--bind-address=127.0.0.1",
            "--service-cluster-ip-range=10.0.0.0/24",
        ])
        .arg(format!("--cert-dir={}", file("certificates")))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-key-file={}", file("sa.pub")))
        .arg(format!(
            "--service-account-signing-key-file={}",
            file("sa.key")
        ))
        .arg("--authorization-mode=RBAC")
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .arg(format!(
            "--encryption-provider-config={}",
            file("encryption.yaml")
        ))
        .args([
            "--endpoint-reconciler-type=none",
            "--etcd-compaction-interval=20s",
        ])
        .args([
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ])
        .arg(format!("--watch-cache={}", settings.watch_cache));
    command.env("KUBE_WATCHCACHE_CONSISTENCY_CHECKER", "true");
    command.env("KUBE_PANIC_WATCH_DECODE_ERROR", "true");
    if let Some(period) = settings.check_period {
        let period = format!("{}ms", period.as_millis());
        command.env("KEYLOOM_CONSISTENCY_CHECK_PERIOD", period);
    }
    Process::start("apiserver", &mut command, home)
}

/// The API without TLS and tokens, for clients that need not be tested.
fn proxy(settings: &Settings, port: u16, home: &Path) -> Process {
    let mut command = Command::new(programs::kubernetes(settings.old, "kubectl"));
    command
        .arg(format!(
            "--kubeconfig={}",
            home.join("kubeconfig").display()
        ))
        .args(["proxy", "--address=127.0.0.1", "--disable-filter=true"])
        .arg(format!("--port={port}"))
        .env("HOME", home);
    Process::start("proxy", &mut command, home)
}

fn write_files(home: &Path) {
    let write = |name: &str, text: String| {
        fs::write(home.join(name), text).expect("the folder is the test's own");
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    write("sa.key", key.serialize_pem());
    write("sa.pub", key.public_key_pem());
    write(
        "tokens.csv",
        format!("{TOKEN},tester,tester,system:masters\n"),
    );
    // Nobody's secret: 32 bytes of zero.
    let secret = format!("{}=", "A".repeat(43));
    write(
        "encryption.yaml",
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets]\n  providers:\n  - aescbc: {{keys: [{{name: k, secret: \
             {secret}}}]}}\n  - identity: {{}}\n"
        ),
    );
}

fn write_kubeconfig(home: &Path, port: u16) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters:\n- name: it\n  cluster: \
         {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}\nusers:\n- name: \
         it\n  user: {{token: {TOKEN}}}\ncontexts:\n- name: it\n  context: {{cluster: it, user: \
         it}}\n"
    );
    fs::write(home.join("kubeconfig"), text).expect("the folder is the test's own");
}
