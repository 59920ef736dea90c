//! One target: a program, its folder, and whether it runs.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    connection::Connection,
    run::Subject,
    server::{Server, answers, etcd, free_address},
};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct DatabasePrograms {
    pub(super) keyloom: PathBuf,
    pub(super) peers: PathBuf,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `keyloom serve` on a SQLite file, as it comes: synchronous=FULL.
    Keyloom,
    /// kine on SQLite with synchronous=FULL, so that it promises as much.
    KineFull,
    /// kine on SQLite as it comes: synchronous=NORMAL, so that a loss of power may take what was
    /// acknowledged.
    Kine,
    /// A bare etcd, which waits for the disk as it comes.
    Etcd,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Keyloom, Self::KineFull, Self::Kine, Self::Etcd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Keyloom => "keyloom",
            Self::KineFull => "kine-full",
            Self::Kine => "kine",
            Self::Etcd => "etcd",
        }
    }

    /// Whether it keeps kine's table.
    pub(super) fn is_kine(self) -> bool {
        matches!(self, Self::KineFull | Self::Kine)
    }
}

/// A target.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) kind: Kind,
    programs: DatabasePrograms,
    folder: PathBuf,
    address: SocketAddr,
    server: Option<Server>,
}

impl Database {
    pub(super) fn new(kind: Kind, programs: &DatabasePrograms, base: &Path) -> Result<Self> {
        let folder = base.join(kind.name());
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self {
            kind,
            programs: programs.clone(),
            folder,
            address: free_address()?,
            server: None,
        })
    }

    /// Starts it, unless it runs, and waits until it answers.
    pub(super) async fn start(&mut self) -> Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        self.address = free_address()?;
        let log = self.folder.with_extension("log");
        let server = Server::start(self.kind.name(), self.command()?, self.address, &log)?;
        self.server = Some(server);
        let started = answers(self.kind.name(), self.address).await;
        started.with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }

    /// Ends it. What it acknowledged is in its file.
    pub(super) fn stop(&mut self) {
        self.server = None;
    }

    pub(super) fn subject(&self) -> Result<Subject> {
        let server = self.server.as_ref().context("not started")?;
        Ok(Subject {
            lenient: self.kind.is_kine(),
            ..server.subject()
        })
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.subject()?.target.endpoint).await
    }

    /// The file of a SQL database.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("data.db")
    }

    /// What it has on the disk, logs of its own included, in MiB.
    pub(super) fn mib(&self) -> Result<f64> {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
        Ok(bytes_below(&self.folder)? as f64 / 1_048_576.0)
    }

    fn command(&self) -> Result<Command> {
        let (address, file) = (self.address, self.file());
        let file = file.display();
        let kine = |arguments: &str| {
            let mut command = Command::new(self.programs.peers.join("kine"));
            command.arg(format!("--listen-address=http://{address}"));
            command.arg(format!("--endpoint=sqlite://{file}?{arguments}"));
            command.arg("--metrics-bind-address=0");
            command
        };
        Ok(match self.kind {
            Kind::Keyloom => {
                let mut command = Command::new(&self.programs.keyloom);
                command.args(["serve", "--listen", &format!("http://{address}")]);
                command.args(["--admin-listen", "127.0.0.1:0"]);
                command.args(["--endpoint", &format!("sqlite://{file}")]);
                command
            }
            Kind::KineFull => kine(&KINE.replace("NORMAL", "FULL")),
            Kind::Kine => kine(KINE),
            Kind::Etcd => {
                let program = self.programs.peers.join("etcd");
                etcd(
                    &program,
                    self.kind.name(),
                    &self.folder.join("data"),
                    address,
                )?
            }
        })
    }
}

/// kine's own arguments (`pkg/drivers/sqlite/sqlite.go`, `DefaultParams`): an endpoint that names
/// a file has none of them.
const KINE: &str = "_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate\
                    &_stmt_cache_size=20&cache=shared";

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A write-ahead log may go while we look.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_every_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [0; 3]).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/c"), [0; 4]).unwrap();
        assert_eq!(bytes_below(folder.path()).unwrap(), 7);
    }

    #[test]
    fn kine_waits_for_the_disk_where_it_is_told_to() {
        let programs = DatabasePrograms {
            keyloom: "keyloom".into(),
            peers: "peers".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let full = Database::new(Kind::KineFull, &programs, folder.path()).unwrap();
        let command = format!("{:?}", full.command().unwrap());
        assert!(command.contains("_synchronous=FULL"), "{command}");
    }
}
