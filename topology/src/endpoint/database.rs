//! Endpoints that are SQL databases.

use std::{collections::BTreeMap, fmt};

use super::{
    Address, Login,
    query::{self, Argument, Values, argument},
    url,
};

/// A SQLite file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqliteEndpoint {
    /// As given, relative or absolute.
    pub path: String,
    /// By their canonical names.
    pub arguments: BTreeMap<String, String>,
}

/// A PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PostgresEndpoint {
    /// Where it listens.
    pub address: Address,
    /// Whom to authenticate as.
    pub login: Option<Login>,
    /// The name of the database.
    pub database: Option<String>,
    /// By their canonical names.
    pub arguments: BTreeMap<String, String>,
}

/// A MySQL or MariaDB database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MysqlEndpoint {
    /// Where it listens.
    pub address: Address,
    /// Whom to authenticate as.
    pub login: Option<Login>,
    /// The name of the database.
    pub database: Option<String>,
    /// By their canonical names.
    pub arguments: BTreeMap<String, String>,
}

/// Of go-sqlite3, which kine uses, and of SQLite's own URIs.
const SQLITE: &[Argument] = &[
    Argument {
        name: "_journal_mode",
        aliases: &["_journal"],
        values: Values::OneOf(&["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "WAL", "OFF"]),
    },
    Argument {
        name: "_busy_timeout",
        aliases: &["_timeout"],
        values: Values::Number,
    },
    Argument {
        name: "_synchronous",
        aliases: &["_sync"],
        values: Values::OneOf(&["OFF", "NORMAL", "FULL", "EXTRA", "0", "1", "2", "3"]),
    },
    argument(
        "_txlock",
        Values::OneOf(&["deferred", "immediate", "exclusive"]),
    ),
    argument("_cache_size", Values::Number),
    argument("_stmt_cache_size", Values::Number),
    argument("_max_page_count", Values::Number),
    // Kine's own; given without a value.
    argument("_kine_disable_startup_vacuum", Values::Any),
    argument("_kine_disable_compact_wal_checkpoint", Values::Any),
    argument("_kine_disable_wal_autocheckpoint", Values::Any),
    argument("cache", Values::OneOf(&["shared", "private"])),
    argument("mode", Values::OneOf(&["ro", "rw", "rwc", "memory"])),
];

/// Of libpq. Passwords are not among them: they belong before the `@`, where they are hidden.
const POSTGRES: &[Argument] = &[
    argument(
        "sslmode",
        Values::OneOf(&[
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full",
        ]),
    ),
    argument("sslrootcert", Values::Any),
    argument("sslcert", Values::Any),
    argument("sslkey", Values::Any),
    argument("connect_timeout", Values::Number),
    argument("application_name", Values::Any),
    argument("search_path", Values::Any),
    argument("options", Values::Any),
    argument(
        "target_session_attrs",
        Values::OneOf(&[
            "any",
            "read-write",
            "read-only",
            "primary",
            "standby",
            "prefer-standby",
        ]),
    ),
];

pub(super) fn sqlite(rest: &str) -> Result<SqliteEndpoint, Vec<String>> {
    let (path, arguments) = match rest.split_once('?') {
        Some((path, arguments)) => (path, Some(arguments)),
        None => (rest, None),
    };
    let (arguments, mut faults) = query::read(arguments, SQLITE);
    if path.is_empty() {
        faults.push("no file; write sqlite://PATH".into());
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(SqliteEndpoint {
        path: path.to_owned(),
        arguments,
    })
}

pub(super) fn postgres(rest: &str) -> Result<PostgresEndpoint, Vec<String>> {
    let url = url::split(rest);
    let (arguments, mut faults) = query::read(url.query, POSTGRES);
    let authority = if url.authority.is_empty() {
        "localhost"
    } else {
        url.authority
    };
    match url::host(authority, Some(5432)) {
        Ok(address) if faults.is_empty() => Ok(PostgresEndpoint {
            address,
            login: url.login,
            database: database_name(url.path),
            arguments,
        }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

pub(super) fn database_name(path: Option<&str>) -> Option<String> {
    path.filter(|path| !path.is_empty()).map(url::decode)
}

impl fmt::Display for SqliteEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite://{}{}", self.path, query::show(&self.arguments))
    }
}

impl fmt::Display for PostgresEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(login) = &self.login {
            login.fmt(f)?;
        }
        let database = self.database.as_deref().unwrap_or_default();
        let arguments = query::show(&self.arguments);
        write!(f, "{}/{}{arguments}", self.address, url::encode(database))
    }
}

impl fmt::Display for MysqlEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mysql://")?;
        if let Some(login) = &self.login {
            login.fmt(f)?;
        }
        let network = match &self.address {
            Address::Host(..) => "tcp",
            Address::Socket(_) => "unix",
        };
        let database = self.database.as_deref().unwrap_or_default();
        let arguments = query::show(&self.arguments);
        write!(f, "{network}({})/{database}{arguments}", self.address)
    }
}
