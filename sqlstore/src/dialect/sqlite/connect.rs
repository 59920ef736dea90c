//! Opening connections.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::Path,
    sync::Arc,
};

use keyloom_environment::Random;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    Checkpointer, SqliteOptions, SqliteSession, TimedStatements,
    given_out::{self, Noted},
    schema::{self, Past},
};
use crate::{
    error::{FaultKind, OpenError, SqlFault},
    session::{Identity, Room, Sql, Survives},
    statement::Statement,
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Checkpoints,
}

/// Opens connections to one database.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) options: Arc<SqliteOptions>,
    pub(crate) watchman: TimedStatements,
}

impl Connect {
    /// Makes or migrates the database.
    pub(crate) fn prepare(
        &self,
        random: &dyn Random,
        noted: Option<Noted>,
    ) -> Result<Identity, OpenError> {
        self.look_first()?;
        let connection = self.open(Role::Writer)?;
        let past = Past {
            note: given_out::beside(&self.options.path),
            noted,
            restored: self.options.restored,
        };
        schema::prepare(&connection, &self.watchman, random, &past)
    }

    /// Refuses what this program must not touch, before anything is changed: SQLite would make a
    /// log beside it, of the same permissions, and switch its journal.
    fn look_first(&self) -> Result<(), OpenError> {
        let path = &self.options.path;
        if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
            return Ok(());
        }
        if let Err(error) = fs::File::options().write(true).open(path) {
            let kind = match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FaultKind::ReadOnly,
                _ => FaultKind::Io,
            };
            return Err(self.fault(kind, &error.to_string()).into());
        }
        let connection = self.watchman.timed(Statement::Open, || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(plain(path), flags)?;
            connection.busy_timeout(self.options.busy_timeout)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            Ok(connection)
        })?;
        schema::version(&connection, &self.watchman).map(drop)
    }

    fn fault(&self, kind: FaultKind, text: &str) -> SqlFault {
        SqlFault {
            origin: self.watchman.origin.clone(),
            kind,
            statement: Statement::Open,
            text: text.into(),
        }
    }

    pub(crate) fn session(
        &self,
        role: Role,
        file: Arc<File>,
        checkpointer: Option<Arc<Checkpointer>>,
    ) -> Sql<SqliteSession> {
        let mut connection = self.open(role)?;
        if let Some(checkpointer) = checkpointer.clone() {
            self.watchman.timed(Statement::Open, || {
                connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
                    checkpointer.wrote(pages);
                    Ok(())
                }))
            })?;
        }
        Ok(SqliteSession {
            connection,
            watchman: self.watchman.clone(),
            checkpointer,
            synchronous: self.options.synchronous,
            survives: Survives::Power,
            max_pages: self.options.max_pages,
            room: Room::Quota,
            _file: file,
        })
    }

    /// The database file itself. It must be open for as long as any connection is.
    pub(crate) fn file(&self) -> Sql<Arc<File>> {
        let opened = File::options()
            .read(true)
            .write(true)
            .open(&self.options.path);
        let fault = |why: std::io::Error| self.fault(FaultKind::Io, &why.to_string());
        opened.map(Arc::new).map_err(fault)
    }

    pub(super) fn open(&self, role: Role) -> Sql<Connection> {
        let connection = self
            .watchman
            .timed(Statement::Open, || self.connect(role))?;
        if role == Role::Writer && connection.is_readonly("main").unwrap_or(true) {
            return Err(self.fault(FaultKind::ReadOnly, "the file may not be written"));
        }
        Ok(connection)
    }

    fn connect(&self, role: Role) -> rusqlite::Result<Connection> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if role == Role::Writer && self.options.create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let connection = Connection::open_with_flags(plain(&self.options.path), flags)?;
        connection.busy_timeout(self.options.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(64);
        self.configure(&connection, role)?;
        Ok(connection)
    }

    fn configure(&self, connection: &Connection, role: Role) -> rusqlite::Result<()> {
        let options = &self.options;
        let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        if role == Role::Writer && connection.query_row("PRAGMA page_count", [], count)? == 0 {
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", options.synchronous.name())?;
        // Checkpoints are the checkpointer's: here they would be a caller's wait.
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        let kib = match role {
            Role::Writer => options.cache_kib,
            Role::Reader => options.cache_kib / 4,
            Role::Checkpoints => 64,
        };
        connection.pragma_update(None, "cache_size", -i64::from(kib))?;
        if role == Role::Reader {
            connection.pragma_update(None, "query_only", true)?;
        }
        if options.max_pages > 0 {
            let set = |_: &rusqlite::Row<'_>| Ok(());
            connection.pragma_update_and_check(None, "max_page_count", options.max_pages, set)?;
        }
        Ok(())
    }
}

/// A path that SQLite does not take for a URI or for a database in memory.
pub(super) fn plain(path: &Path) -> std::path::PathBuf {
    if path.is_absolute() {
        path.to_owned()
    } else {
        Path::new(".").join(path)
    }
}
