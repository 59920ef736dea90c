//! A database file in the making.
//!
//! Keys come in their order, and the history wants them in the order of their revisions. So they
//! wait in a second file, from which they are read by an index once all of them are there.

use std::path::Path;

use keyloom_environment::Random;
use keyloom_etcd_api::mvccpb::KeyValue;
use rusqlite::{Connection, OpenFlags, params};

use super::{
    SqliteOptions, TimedStatements,
    connect::plain,
    schema::{self, Past},
    sql,
};
use crate::{
    error::OpenError,
    session::{LeaseRow, Sql},
    statement::Statement,
};

/// Two files that nobody else knows of: no lock, no journal and no wait for the disk until the
/// end. After a failure they are thrown away.
#[derive(Debug)]
pub(crate) struct Draft {
    connection: Connection,
    watchman: TimedStatements,
}

impl Draft {
    pub(crate) fn begin(
        path: &Path,
        rows: &Path,
        options: &SqliteOptions,
        watchman: TimedStatements,
        random: &dyn Random,
    ) -> Result<Self, OpenError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(plain(path), flags)?;
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            connection.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
            let rows = plain(rows).display().to_string();
            connection.execute("ATTACH ?1 AS import", [rows])?;
            for database in ["main", "import"] {
                let set = |_: &rusqlite::Row<'_>| Ok(());
                connection.pragma_update_and_check(Some(database), "journal_mode", "OFF", set)?;
                connection.pragma_update(Some(database), "synchronous", "OFF")?;
            }
            connection.execute_batch(sql!("import_begin"))?;
            Ok(connection)
        };
        let connection = watchman.timed(Statement::Import, open)?;
        schema::prepare(&connection, &watchman, random, &Past::default())?;
        watchman.timed(Statement::Import, || schema::begin_draft(&connection))?;
        Ok(Self {
            connection,
            watchman,
        })
    }

    pub(crate) fn add(&mut self, kvs: &[KeyValue]) -> Sql<()> {
        self.watchman.clone().timed(Statement::Import, || {
            let transaction = self.connection.transaction()?;
            {
                let mut statement = transaction.prepare_cached(sql!("import_add"))?;
                for kv in kvs {
                    statement.execute(params![
                        &kv.key[..],
                        kv.mod_revision,
                        kv.create_revision,
                        kv.version,
                        kv.lease,
                        &kv.value[..]
                    ])?;
                }
            }
            transaction.commit()
        })
    }

    /// Puts everything in its place; gives the number of keys, or fewer where one was above
    /// `newest` or was there twice.
    pub(crate) fn finish(
        mut self,
        newest: i64,
        revision: i64,
        leases: &[LeaseRow],
        ended: LeaseRow,
    ) -> Sql<i64> {
        self.watchman.clone().timed(Statement::Import, || {
            let transaction = self.connection.transaction()?;
            transaction.execute_batch(sql!("import_index"))?;
            transaction.execute(sql!("import_history"), [newest])?;
            transaction.execute_batch(sql!("import_current"))?;
            {
                let mut set = transaction.prepare_cached(sql!("set_lease"))?;
                for lease in leases {
                    set.execute([lease.id, lease.ttl, lease.expires_ms])?;
                }
            }
            transaction.execute(sql!("import_ended"), [ended.ttl, ended.expires_ms])?;
            let count = "SELECT count(*) FROM current";
            let kept: i64 = transaction.query_row(count, [], |row| row.get(0))?;
            let marks = params![revision, kept + 1, revision, kept];
            transaction.execute(sql!("set_marks"), marks)?;
            schema::end_draft(&transaction)?;
            transaction.commit()?;
            self.connection.execute_batch("DETACH import")?;
            self.connection.close().map_err(|(_, error)| error)?;
            Ok(kept)
        })
    }
}
