//! etcd's own proxy, which Keyloom is compared with.

use std::process::Command;

use tempfile::TempDir;

use crate::{
    client::{Client, anything},
    poll,
    port::{self, Started},
    process::Process,
    programs,
};

/// A running `etcd grpc-proxy`.
#[derive(Debug)]
pub struct GrpcProxy {
    port: u16,
    process: Process,
    home: TempDir,
}

impl GrpcProxy {
    /// Starts it in front of an etcd, and waits until it answers.
    pub async fn in_front_of(endpoint: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        port::started(home, |home| Self::launch(endpoint, home)).await
    }

    fn launch(endpoint: &str, home: TempDir) -> Self {
        let port = port::free();
        let mut command = Command::new(programs::peer("etcd"));
        command.args(["grpc-proxy", "start"]);
        command.arg(format!("--listen-addr=127.0.0.1:{port}"));
        // It connects to itself by that address, and ends where it cannot within seconds.
        command.arg(format!("--advertise-client-url=127.0.0.1:{port}"));
        command.arg(format!("--endpoints={endpoint}"));
        command.arg("--data-dir").arg(home.path());
        Self {
            port,
            process: Process::start("grpc-proxy", &mut command, home.path()),
            home,
        }
    }

    /// A connection of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.port))
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Started for GrpcProxy {
    async fn serves(&mut self) -> bool {
        let client = self.client();
        let this = std::cell::RefCell::new(self);
        poll::eventually("a first answer of grpc-proxy", || async {
            if this.borrow_mut().process.ended().is_some() {
                return Ok(false);
            }
            client.kv().range(anything()).await.map(|_| true)
        })
        .await
    }

    fn log(&self) -> String {
        self.process.stderr()
    }

    fn into_home(self) -> TempDir {
        self.home
    }
}
