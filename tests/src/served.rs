//! A program with one address, which it keeps when it is started again: a kube-apiserver is told
//! once where its etcd is.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{
    client::Client,
    http,
    keyloom::{topology_file, write_topology},
    poll, port,
    process::Process,
    programs,
};

/// How long a successor waits for a Keyloom that was killed. As by default: a loaded machine can make
/// one that is shorter run out.
const TERM: &str = "5s";

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

    /// A kine on SQLite.
    pub async fn kine() -> Self {
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
        home: TempDir,
    ) -> Self {
        port::started(home, |home| {
            let (port, arguments) = (port::free(), arguments.clone());
            let process = launch(name, program, &arguments, port, &home);
            Self {
                name,
                program,
                arguments,
                port,
                process,
                home,
            }
        })
        .await
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
        self.start_again().await;
    }

    async fn start_again(&mut self) {
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

    /// Gives a Keyloom another topology, and waits until it is what is served.
    pub async fn change(&self, topology: &str) {
        let before = changes(&self.admin("/topology/status").await.1);
        let fresh = self.home.path().join("topology.new");
        fs::write(&fresh, topology).expect("the folder is the test's own");
        fs::rename(fresh, self.topology_file()).expect("the folder is the test's own");
        poll::eventually("another topology that is served", || async {
            let (_, text) = self.admin("/topology/status").await;
            if changes(&text) > before {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await;
    }

    /// The topology file of a Keyloom.
    #[must_use]
    pub fn topology_file(&self) -> PathBuf {
        topology_file(self.home.path())
    }

    /// A page of a Keyloom's administrators' endpoint: status code and text.
    pub async fn admin(&self, page: &str) -> (u16, String) {
        let said = self.process.stdout();
        let last = said
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("admin on "));
        let url = last.expect("the administrators' address");
        http::get(&format!("{url}{page}")).await.expect("an answer")
    }

    /// Ends a Keyloom in good order, and starts it again at the same address on another topology.
    pub async fn restart_on(&mut self, topology: &str) {
        self.process.terminate().await;
        fs::write(self.topology_file(), topology).expect("the folder is the test's own");
        self.start_again().await;
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

impl port::Started for Served {
    async fn serves(&mut self) -> bool {
        Self::serves(self).await
    }

    fn log(&self) -> String {
        self.process.stderr()
    }

    fn into_home(self) -> TempDir {
        self.home
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

/// How many topologies were taken, by the page that says so.
fn changes(status: &str) -> u64 {
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("changes: "));
    let count = count.and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("{status}"))
}
