//! SQLite: connections, and the core's questions in its dialect.
//!
//! Every statement has a name and a file; every call is timed and counted under its name.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use keyloom_etcd_api::{KeyRange, mvccpb::KeyValue};
use rusqlite::{Connection, OptionalExtension as _, Params, params, types::ValueRef};
use tokio::time::{Duration, Instant};

use crate::{
    error::{FaultKind, Origin, SqlFault},
    metrics::StoreMetrics,
    session::{
        At, ChangeSeq, CountChanges, Counts, Entry, LeaseRow, Marks, Room, Row, Session, Space,
        Sql, Survives, Values, Visit, VisitChange,
    },
    statement::Statement,
};

mod checkpoint;
mod connect;
mod count;
mod draft;
mod given_out;
mod importer;
mod lock;
mod options;
mod scan;
mod schema;
mod store;

#[cfg(test)]
pub(crate) mod inject;

pub(crate) use checkpoint::Checkpointer;
pub(crate) use connect::{Connect, Role};
use draft::Draft;
pub use importer::{ImportError, Imported, ImportedLease, Importer, Snapshot};
pub use options::{ArgumentError, Restored, SqliteOptions, Synchronous};
pub use store::SqliteStore;

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/dialect/sqlite/",
            $name,
            ".sql"
        ))
    };
}
use sql;

/// How many unused pages are worth keeping for the next writes: 16 MiB.
const SPARE_PAGES: i64 = 4096;

/// How many pages beyond its quota a database may take to become smaller: an eighth, and at
/// least 1 MiB.
fn reserve(max_pages: u32) -> u32 {
    (max_pages / 8).max(256)
}

/// What watches over every statement.
#[derive(Clone, Debug)]
pub(crate) struct TimedStatements {
    pub(crate) origin: Arc<Origin>,
    pub(crate) metrics: Arc<StoreMetrics>,
    pub(crate) slow: Duration,
    #[cfg(test)]
    pub(crate) injected: inject::Injected,
}

impl TimedStatements {
    pub(crate) fn timed<T>(
        &self,
        statement: Statement,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> Sql<T> {
        let began = Instant::now();
        #[cfg(test)]
        let work = || self.injected.around(statement, work);
        let result = work();
        let took = began.elapsed();
        self.metrics.took(statement, took);
        if took >= self.slow {
            self.metrics.slow(statement);
            tracing::warn!(store = %self.origin.name, %statement, ?took, "slow statement");
        }
        result.map_err(|error| self.fault(statement, &error))
    }

    pub(crate) fn fault(&self, statement: Statement, error: &rusqlite::Error) -> SqlFault {
        let kind = kind(error);
        self.metrics.fault(kind);
        SqlFault {
            origin: self.origin.clone(),
            kind,
            statement,
            text: error.to_string().into(),
        }
    }
}

fn kind(error: &rusqlite::Error) -> FaultKind {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => FaultKind::Full,
        Some(Code::ReadOnly) => FaultKind::ReadOnly,
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => FaultKind::Locked,
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => FaultKind::Corrupt,
        Some(Code::SystemIoFailure | Code::CannotOpen | Code::FileLockingProtocolFailed) => {
            FaultKind::Io
        }
        Some(_) => FaultKind::Other,
        // A column of another type than the schema's: not written by this program.
        None => FaultKind::Corrupt,
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct SqliteSession {
    connection: Connection,
    watchman: TimedStatements,
    /// The writer's session tells it what it wrote.
    checkpointer: Option<Arc<Checkpointer>>,
    /// What commits wait for as the options say.
    synchronous: Synchronous,
    /// What the connection's commits promise.
    survives: Survives,
    /// How many pages the database may have; 0 where there is no limit.
    max_pages: u32,
    room: Room,
    /// Kept until the connection is closed: who closes a file gives up every lock of its process
    /// on it, SQLite's too.
    _file: Arc<File>,
}

impl SqliteSession {
    fn timed<T>(
        &self,
        statement: Statement,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Sql<T> {
        self.watchman.timed(statement, || work(&self.connection))
    }

    fn execute(&self, statement: Statement, sql: &str, params: impl Params) -> Sql<()> {
        self.timed(statement, |connection| {
            connection.prepare_cached(sql)?.execute(params).map(drop)
        })
    }

    fn one<T>(
        &self,
        statement: Statement,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Sql<Option<T>> {
        self.timed(statement, |connection| {
            connection
                .prepare_cached(sql)?
                .query_row(params, read)
                .optional()
        })
    }

    /// Lets SQLite wait for the disk at commits, or not. The log is read up to its first tear,
    /// so that a commit that waits keeps every one before it.
    fn promise(&mut self, survives: Survives) -> Sql<()> {
        if survives == self.survives {
            return Ok(());
        }
        let synchronous = match survives {
            Survives::Power => self.synchronous,
            Survives::WithTheNext => self.synchronous.min(Synchronous::Normal),
        };
        self.timed(Statement::Synchronous, |connection| {
            connection.pragma_update(None, "synchronous", synchronous.name())
        })?;
        self.survives = survives;
        Ok(())
    }

    /// What the connection's commits wait for, as SQLite has it.
    #[cfg(test)]
    pub(crate) fn synchronous(&self) -> i64 {
        self.pragma(Statement::Synchronous, "synchronous").unwrap()
    }

    fn pragma(&self, statement: Statement, name: &str) -> Sql<i64> {
        self.timed(statement, |connection| {
            connection.pragma_query_value(None, name, |row| row.get(0))
        })
    }
}

fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> rusqlite::Result<&'a [u8]> {
    match row.get_ref(column)? {
        ValueRef::Blob(bytes) => Ok(bytes),
        other => Err(rusqlite::Error::InvalidColumnType(
            column,
            "blob".to_owned(),
            other.data_type(),
        )),
    }
}

fn bytes(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    blob(row, column).map(Bytes::copy_from_slice)
}

/// Columns: key, mod revision, create revision, version, lease, value.
fn read_row<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
    Ok(Row {
        key: blob(row, 0)?,
        mod_revision: row.get(1)?,
        create_revision: row.get(2)?,
        version: row.get(3)?,
        lease: row.get(4)?,
        value: blob(row, 5)?,
    })
}

fn read_marks(row: &rusqlite::Row<'_>) -> rusqlite::Result<Marks> {
    Ok(Marks {
        revision: row.get(0)?,
        next_place: ChangeSeq(row.get(1)?),
        compacted: row.get(2)?,
        swept: ChangeSeq(row.get(3)?),
    })
}

fn read_lease(row: &rusqlite::Row<'_>) -> rusqlite::Result<LeaseRow> {
    Ok(LeaseRow {
        id: row.get(0)?,
        ttl: row.get(1)?,
        expires_ms: row.get(2)?,
    })
}

fn read_entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        place: ChangeSeq(row.get(0)?),
        mod_revision: row.get(1)?,
        create_revision: row.get(2)?,
        version: row.get(3)?,
        lease: row.get(4)?,
        size: row.get(5)?,
    })
}

impl Session for SqliteSession {
    fn begin_read(&mut self) -> Sql<()> {
        self.execute(Statement::Begin, "BEGIN", [])
    }

    fn begin_write(&mut self, survives: Survives) -> Sql<()> {
        self.promise(survives)?;
        self.execute(Statement::Begin, "BEGIN IMMEDIATE", [])
    }

    fn allow(&mut self, room: Room) -> Sql<()> {
        if self.max_pages == 0 || room == self.room {
            return Ok(());
        }
        let pages = match room {
            Room::Quota => self.max_pages,
            Room::Reserve => self.max_pages.saturating_add(reserve(self.max_pages)),
        };
        self.timed(Statement::Allow, |connection| {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        })?;
        self.room = room;
        Ok(())
    }

    fn commit(&mut self) -> Sql<()> {
        self.execute(Statement::Commit, "COMMIT", [])
    }

    fn pages_of_last_commit(&self) -> i64 {
        let checkpointer = self.checkpointer.as_ref();
        checkpointer.map_or(0, |checkpointer| checkpointer.pages_of_last_commit())
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // SQLite rolls back by itself on some errors; what is left cannot fail in a way
            // that another statement would mend.
            let _rolled_back = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn marks(&mut self) -> Sql<Marks> {
        self.timed(Statement::Marks, |connection| {
            connection
                .prepare_cached(sql!("marks"))?
                .query_row([], read_marks)
        })
    }

    fn set_marks(&mut self, marks: &Marks) -> Sql<()> {
        let Marks {
            revision,
            next_place,
            compacted,
            swept,
        } = *marks;
        let params = params![revision, next_place.0, compacted, swept.0];
        self.execute(Statement::SetMarks, sql!("set_marks"), params)
    }

    fn counts(&mut self) -> Sql<Option<Counts>> {
        self.kept_counts()
    }

    fn set_counts(&mut self, changes: &CountChanges, anew: bool) -> Sql<()> {
        self.keep_counts(changes, anew)
    }

    fn entry(&mut self, key: &[u8]) -> Sql<Option<Entry>> {
        self.one(Statement::Entry, sql!("entry"), [key], read_entry)
    }

    fn value(&mut self, place: ChangeSeq) -> Sql<Bytes> {
        self.timed(Statement::Value, |connection| {
            let mut statement = connection.prepare_cached(sql!("value"))?;
            statement.query_row([place.0], |row| bytes(row, 0))
        })
    }

    fn last_change(&mut self, key: &[u8], place: ChangeSeq) -> Sql<Option<KeyValue>> {
        let params = params![key, place.0];
        self.one(Statement::LastChange, sql!("last_change"), params, |row| {
            read_row(row).map(Row::to_key_value)
        })
    }

    fn scan(&mut self, range: &KeyRange, at: At, values: Values, visit: Visit<'_>) -> Sql<()> {
        self.scan_range(range, at, values, visit)
    }

    fn count(&mut self, range: &KeyRange, at: At) -> Sql<i64> {
        self.count_range(range, at)
    }

    fn sizes(&mut self, visit: &mut dyn FnMut(&[u8], i64)) -> Sql<()> {
        self.timed(Statement::Sizes, |connection| {
            let mut statement = connection.prepare_cached(sql!("sizes"))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                visit(blob(row, 0)?, row.get(1)?);
            }
            Ok(())
        })
    }

    fn changes(
        &mut self,
        from: ChangeSeq,
        to: ChangeSeq,
        values: Values,
        visit: VisitChange<'_>,
    ) -> Sql<()> {
        let sql = match values {
            Values::Read => sql!("changes_values"),
            Values::Leave => sql!("changes_keys"),
        };
        self.timed(Statement::Changes, |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([from.0, to.0])?;
            while let Some(row) = rows.next()? {
                if !visit(ChangeSeq(row.get(6)?), &read_row(row)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn seq_at(&mut self, revision: i64, marks: &Marks) -> Sql<ChangeSeq> {
        self.bisect(revision, marks)
    }

    fn append(&mut self, place: ChangeSeq, row: &Row<'_>) -> Sql<()> {
        let Row {
            key,
            mod_revision,
            create_revision,
            version,
            lease,
            value,
        } = *row;
        let params = params![
            place.0,
            mod_revision,
            key,
            create_revision,
            version,
            lease,
            value
        ];
        self.execute(Statement::Append, sql!("append"), params)
    }

    fn set_current(&mut self, key: &[u8], entry: &Entry) -> Sql<()> {
        let Entry {
            place,
            mod_revision,
            create_revision,
            version,
            lease,
            size,
        } = *entry;
        let params = params![
            key,
            place.0,
            mod_revision,
            create_revision,
            version,
            lease,
            size
        ];
        self.execute(Statement::SetCurrent, sql!("set_current"), params)
    }

    fn remove_current(&mut self, key: &[u8]) -> Sql<()> {
        self.execute(Statement::RemoveCurrent, sql!("remove_current"), [key])
    }

    fn sweep(&mut self, from: ChangeSeq, to: ChangeSeq, revision: i64) -> Sql<usize> {
        let superseded = self.timed(Statement::SweepSuperseded, |connection| {
            connection
                .prepare_cached(sql!("sweep_superseded"))?
                .execute([from.0, to.0])
        })?;
        let deletions = self.timed(Statement::SweepDeletions, |connection| {
            let mut statement = connection.prepare_cached(sql!("sweep_deletions"))?;
            statement.execute([from.0, to.0, revision])
        })?;
        Ok(superseded + deletions)
    }

    fn leases(&mut self) -> Sql<Vec<LeaseRow>> {
        self.timed(Statement::Leases, |connection| {
            connection
                .prepare_cached(sql!("leases"))?
                .query_map([], read_lease)?
                .collect()
        })
    }

    fn lease(&mut self, id: i64) -> Sql<Option<LeaseRow>> {
        self.one(Statement::Leases, sql!("lease"), [id], read_lease)
    }

    fn set_lease(&mut self, lease: &LeaseRow) -> Sql<()> {
        let params = [lease.id, lease.ttl, lease.expires_ms];
        self.execute(Statement::SetLease, sql!("set_lease"), params)
    }

    fn remove_lease(&mut self, id: i64) -> Sql<()> {
        self.execute(Statement::RemoveLease, sql!("remove_lease"), [id])
    }

    fn leased_keys(&mut self, id: i64) -> Sql<Vec<Bytes>> {
        self.timed(Statement::LeasedKeys, |connection| {
            let mut statement = connection.prepare_cached(sql!("leased_keys"))?;
            statement.query_map([id], |row| bytes(row, 0))?.collect()
        })
    }

    fn space(&mut self) -> Sql<Space> {
        let page = self.pragma(Statement::Space, "page_size")?;
        let pages = self.pragma(Statement::Space, "page_count")?;
        let unused = self.pragma(Statement::Space, "freelist_count")?;
        Ok(Space {
            total: pages * page,
            in_use: (pages - unused) * page,
            quota: i64::from(self.max_pages) * page,
        })
    }

    fn give_back_space(&mut self, all: bool, most: i64) -> Sql<bool> {
        let pages = self.pragma(Statement::Space, "page_count")?;
        let unused = self.pragma(Statement::Space, "freelist_count")?;
        let spare = if all { 0 } else { SPARE_PAGES.max(pages / 10) };
        let excess = unused.saturating_sub(spare).min(most);
        if excess <= 0 {
            return Ok(false);
        }
        self.promise(Survives::WithTheNext)?;
        self.timed(Statement::GiveBackSpace, |connection| {
            // Stepped to its end: each step gives back one page.
            let mut statement =
                connection.prepare(&format!("PRAGMA incremental_vacuum({excess})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })?;
        Ok(unused - excess > spare)
    }

    fn between_writes(&mut self) -> Sql<()> {
        match &self.checkpointer {
            Some(checkpointer) => checkpointer.close_log(&self.connection, &self.watchman),
            None => Ok(()),
        }
    }
}
