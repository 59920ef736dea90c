//! A real etcd of one member.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use crate::{client::Client, http, metrics::Metrics, poll, port, process::Process, programs};

/// Which etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The distribution's.
    V34,
    /// The pinned peer.
    V36,
}

impl Version {
    /// An order that does not exist is refused by etcd 3.6; etcd 3.4 ends with a panic.
    #[must_use]
    pub fn survives_invalid_sorts(self) -> bool {
        self != Self::V34
    }
}

/// A running etcd, alone in its cluster, with an empty folder of its own.
#[derive(Debug)]
pub struct Etcd {
    version: Version,
    port: u16,
    peer: u16,
    /// Its cluster is another one than that of all others.
    token: String,
    process: Process,
    home: TempDir,
}

/// How often a port may be lost to somebody else.
const ATTEMPTS: usize = 10;

impl Etcd {
    /// Starts an etcd with an empty store, and waits until it answers.
    pub async fn start(version: Version) -> Self {
        Self::start_in(version, tempfile::tempdir().expect("a temporary folder")).await
    }

    /// Starts several at once.
    pub async fn start_all<const N: usize>(versions: [Version; N]) -> [Self; N] {
        let all = futures_util::future::join_all(versions.map(Self::start)).await;
        all.try_into().expect("as many as were asked for")
    }

    /// Starts an etcd on a data folder that [`Self::copy_data`] made.
    pub async fn start_on(version: Version, home: TempDir) -> Self {
        Self::start_in(version, home).await
    }

    async fn start_in(version: Version, mut home: TempDir) -> Self {
        for _ in 0..ATTEMPTS {
            let (port, peer) = (port::free(), port::free());
            let token = format!("{}-{port}-{peer}", std::process::id());
            let process = launch(version, port, peer, &token, home.path());
            let mut etcd = Self {
                version,
                port,
                peer,
                token,
                process,
                home,
            };
            if etcd.serves().await {
                return etcd;
            }
            let log = etcd.process.stderr();
            assert!(log.contains("address already in use"), "etcd ended: {log}");
            home = etcd.home;
        }
        panic!("every port was lost to somebody else")
    }

    /// Waits until it answers; `false` where it ended instead.
    async fn serves(&mut self) -> bool {
        let url = self.url();
        let this = std::cell::RefCell::new(self);
        poll::eventually("a first answer of etcd", || async {
            if this.borrow_mut().process.ended().is_some() {
                return Ok(false);
            }
            match http::get(&format!("{url}/health")).await {
                Ok((200, _)) => Ok(true),
                other => Err(other),
            }
        })
        .await
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A connection of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its counters, as they stand now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::read(&self.url()).await
    }

    /// Ends it as a crash would. Its data stay.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Stops it in its tracks; its connections stay open.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Starts it again, at the same address, on the same data.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.process = launch(
            self.version,
            self.port,
            self.peer,
            &self.token,
            self.home.path(),
        );
        assert!(
            self.serves().await,
            "etcd did not come back: {}",
            self.process.stderr()
        );
    }

    /// Starts it again, at the same address, on other data: those of a folder that
    /// [`Self::copy_data`] made, or none, which makes it another cluster.
    pub async fn restart_on(&mut self, home: Option<TempDir>) {
        self.kill().await;
        self.home = home.unwrap_or_else(|| {
            self.token.push('+');
            tempfile::tempdir().expect("a temporary folder")
        });
        self.restart().await;
    }

    /// A copy of the stopped etcd's data, as a backup of its disk would be.
    #[must_use]
    pub fn copy_data(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("cp");
        command
            .arg("-a")
            .arg(self.home.path().join("data"))
            .arg(copy.path());
        assert!(
            command.status().expect("every system has cp").success(),
            "copying the data"
        );
        copy
    }
}

fn launch(version: Version, port: u16, peer: u16, token: &str, home: &Path) -> Process {
    let program = match version {
        Version::V34 => programs::etcd34(),
        Version::V36 => programs::peer("etcd"),
    };
    let client_url = format!("http://127.0.0.1:{port}");
    let peer_url = format!("http://127.0.0.1:{peer}");
    let mut command = Command::new(program);
    command
        .arg("--name=only")
        .arg("--data-dir")
        .arg(home.join("data"));
    command.arg(format!("--listen-client-urls={client_url}"));
    command.arg(format!("--advertise-client-urls={client_url}"));
    command.arg(format!("--listen-peer-urls={peer_url}"));
    command.arg(format!("--initial-advertise-peer-urls={peer_url}"));
    command.arg(format!("--initial-cluster=only={peer_url}"));
    command.arg(format!("--initial-cluster-token={token}"));
    // Nothing here survives the machine, so no write waits for a disk.
    command.arg("--unsafe-no-fsync");
    // A member alone need not wait long before it votes for itself.
    command.args(["--heartbeat-interval=20", "--election-timeout=200"]);
    command.args(["--logger=zap", "--log-level=warn"]);
    Process::start("etcd", &mut command, home)
}
