//! One address of a store, read from a URL.
//!
//! `Display` and `Debug` never show a password. No message of this module repeats the text of an
//! endpoint, as it may hold one.

mod database;
mod etcd;
mod login;
mod mysql;
mod query;
mod url;

use std::fmt;

use crate::interpolate::{Chunk, Expanded};

pub use database::{MysqlEndpoint, PostgresEndpoint, SqliteEndpoint};
pub use etcd::{EtcdEndpoint, EtcdScheme};
pub use login::Login;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP address (without brackets) and a port.
    Host(String, u16),
    /// The path of a unix socket.
    Socket(String),
}

/// One address of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Anything that speaks etcd's API.
    Etcd(EtcdEndpoint),
    /// A SQLite file.
    Sqlite(SqliteEndpoint),
    /// A PostgreSQL database.
    Postgres(PostgresEndpoint),
    /// A MySQL or MariaDB database.
    Mysql(MysqlEndpoint),
}

/// What sort of store an [`Endpoint`] leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointKind {
    /// Anything that speaks etcd's API.
    Etcd,
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
    /// A MySQL or MariaDB database.
    Mysql,
}

// === impl Endpoint ===

impl Endpoint {
    /// What sort of store it leads to.
    #[must_use]
    pub fn kind(&self) -> EndpointKind {
        match self {
            Self::Etcd(_) => EndpointKind::Etcd,
            Self::Sqlite(_) => EndpointKind::Sqlite,
            Self::Postgres(_) => EndpointKind::Postgres,
            Self::Mysql(_) => EndpointKind::Mysql,
        }
    }

    /// Reads an endpoint; gives everything that is wrong with it.
    pub(crate) fn parse(text: &Expanded) -> Result<Vec<Self>, Vec<String>> {
        let text = join(text);
        let text = text.trim();
        let text = text.strip_prefix("multi://").unwrap_or(text);
        match text.split_once("://") {
            Some(("sqlite", rest)) => one(database::sqlite(rest).map(Self::Sqlite)),
            Some(("postgres" | "postgresql", rest)) => {
                one(database::postgres(rest).map(Self::Postgres))
            }
            Some(("mysql", rest)) => one(mysql::parse(rest).map(Self::Mysql)),
            // etcd's own tools take several endpoints separated by commas.
            _ => many(text.split(',').map(|each| etcd::parse(each.trim()))),
        }
    }
}

fn one(read: Result<Endpoint, Vec<String>>) -> Result<Vec<Endpoint>, Vec<String>> {
    read.map(|endpoint| vec![endpoint])
}

fn many(
    read: impl Iterator<Item = Result<EtcdEndpoint, Vec<String>>>,
) -> Result<Vec<Endpoint>, Vec<String>> {
    let (mut endpoints, mut faults) = (Vec::new(), Vec::new());
    for each in read {
        match each {
            Ok(endpoint) => endpoints.push(Endpoint::Etcd(endpoint)),
            Err(more) => faults.extend(more),
        }
    }
    if faults.is_empty() {
        Ok(endpoints)
    } else {
        Err(faults)
    }
}

/// The whole text. A replaced value between `://` and `@` is somebody's name or password as it is,
/// so it is percent-encoded for the reader of the URL; go-sql-driver's form knows no encoding.
fn join(text: &Expanded) -> String {
    let go_form = text.chunks.iter().any(|chunk| match chunk {
        Chunk::Written(part) => mysql::is_go_form(part),
        Chunk::Replaced(_) => false,
    });
    let mut out = String::new();
    let mut written = String::new();
    for (at, chunk) in text.chunks.iter().enumerate() {
        match chunk {
            Chunk::Written(part) => {
                out.push_str(part);
                written.push_str(part);
            }
            Chunk::Replaced(value) => {
                let behind = text.chunks.iter().skip(at + 1);
                let before_host = behind.clone().any(|chunk| holds(chunk, '@'));
                if written.contains("://") && before_host && !go_form {
                    out.push_str(&url::encode(value));
                } else {
                    out.push_str(value);
                }
            }
        }
    }
    out
}

fn holds(chunk: &Chunk, wanted: char) -> bool {
    match chunk {
        Chunk::Written(part) => part.contains(wanted),
        Chunk::Replaced(_) => false,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(endpoint) => endpoint.fmt(f),
            Self::Sqlite(endpoint) => endpoint.fmt(f),
            Self::Postgres(endpoint) => endpoint.fmt(f),
            Self::Mysql(endpoint) => endpoint.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for EndpointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd => "etcd",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        })
    }
}
