//! A real etcd of one member.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

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
    place: Place,
    process: Process,
    home: TempDir,
}

/// Where an etcd is, and what it is told.
#[derive(Clone, Debug)]
struct Place {
    version: Version,
    port: u16,
    peer: u16,
    /// Where it says without TLS how it is.
    health: u16,
    /// Its cluster is another one than that of all others.
    token: String,
    /// The folder of `ca.crt`, `server.crt` and `server.key`, where clients need certificates.
    tls: Option<PathBuf>,
    /// Whether its writes wait for the disk.
    fsync: bool,
}

impl Etcd {
    /// Starts an etcd with an empty store, and waits until it answers.
    pub async fn start(version: Version) -> Self {
        Self::start_in(version, tempfile::tempdir().expect("a temporary folder")).await
    }

    /// Starts an etcd with an empty store whose writes wait for the disk, as a real one's do.
    pub async fn start_with_fsync(version: Version) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        port::started(home, |home| Self::launch(version, None, true, home)).await
    }

    /// Starts several at once.
    pub async fn start_all<const N: usize>(versions: [Version; N]) -> [Self; N] {
        let all = futures_util::future::join_all(versions.map(Self::start)).await;
        all.try_into().expect("as many as were asked for")
    }

    /// Starts an etcd whose clients need a certificate, with the certificates of a folder.
    pub async fn start_with_tls(version: Version, folder: &Path) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let tls = Some(folder.to_owned());
        port::started(home, |home| Self::launch(version, tls.clone(), false, home)).await
    }

    /// Starts an etcd on a data folder that [`Self::copy_data`] made.
    pub async fn start_on(version: Version, home: TempDir) -> Self {
        Self::start_in(version, home).await
    }

    async fn start_in(version: Version, home: TempDir) -> Self {
        port::started(home, |home| Self::launch(version, None, false, home)).await
    }

    fn launch(version: Version, tls: Option<PathBuf>, fsync: bool, home: TempDir) -> Self {
        let (port, peer) = (port::free(), port::free());
        let health = if tls.is_some() { port::free() } else { port };
        let token = format!("{}-{port}-{peer}", std::process::id());
        let place = Place {
            version,
            port,
            peer,
            health,
            token,
            tls,
            fsync,
        };
        let process = launch(&place, home.path());
        Self {
            place,
            process,
            home,
        }
    }

    /// Waits until it answers; `false` where it ended instead.
    async fn serves(&mut self) -> bool {
        let url = format!("http://127.0.0.1:{}/health", self.place.health);
        let this = std::cell::RefCell::new(self);
        poll::eventually("a first answer of etcd", || async {
            if this.borrow_mut().process.ended().is_some() {
                return Ok(false);
            }
            match http::get(&url).await {
                Ok((200, _)) => Ok(true),
                other => Err(other),
            }
        })
        .await
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        self.place.url()
    }

    /// A connection of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    #[must_use]
    pub fn version(&self) -> Version {
        self.place.version
    }

    /// Its counters, as they stand now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::read(&self.url()).await
    }

    /// Ends it as a crash would. Its data stay.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Ends it in good order. Its data stay.
    pub async fn end(&mut self) {
        self.process.terminate().await;
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
        self.process = launch(&self.place, self.home.path());
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
            self.place.token.push('+');
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

impl port::Started for Etcd {
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

impl Place {
    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

fn launch(place: &Place, home: &Path) -> Process {
    let program = match place.version {
        Version::V34 => programs::etcd34(),
        Version::V36 => programs::peer("etcd"),
    };
    let client_url = place.url();
    let peer_url = format!("http://127.0.0.1:{}", place.peer);
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
    command.arg(format!("--initial-cluster-token={}", place.token));
    if let Some(folder) = &place.tls {
        let file = |name: &str| folder.join(name).display().to_string();
        command.arg("--client-cert-auth");
        command.arg(format!("--trusted-ca-file={}", file("ca.crt")));
        command.arg(format!("--cert-file={}", file("server.crt")));
        command.arg(format!("--key-file={}", file("server.key")));
        command.arg(format!(
            "--listen-metrics-urls=http://127.0.0.1:{}",
            place.health
        ));
    }
    if !place.fsync {
        // Nothing here survives the machine, so no write waits for a disk.
        command.arg("--unsafe-no-fsync");
    }
    // A member alone need not wait long before it votes for itself.
    command.args(["--heartbeat-interval=20", "--election-timeout=200"]);
    command.args(["--logger=zap", "--log-level=warn"]);
    Process::start("etcd", &mut command, home)
}
