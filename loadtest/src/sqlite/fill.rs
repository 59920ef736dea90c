//! Large tables: objects, and versions of them that later ones supersede.
//!
//! Over the wire in transactions of many puts; kine knows no such transaction and would take an
//! hour, so its table is filled as it would have filled it, by SQL, while it does not run.

use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keyloom_etcd_api::wire::peek_header;
use rusqlite::{Connection as Sql, params};

use super::database::Database;
use crate::{
    connection::Connection,
    keyspace::{Resource, value},
    request::Request,
};

/// Puts of a transaction: etcd takes 128.
const AT_ONCE: usize = 100;

/// Transactions under way at once.
const UNDER_WAY: usize = 8;

/// The key of the object at a place: as long for each, so that places are in the order of keys.
pub(super) fn key(place: usize) -> Bytes {
    format!("{}object-{place:08}", Resource::Lists.namespace(0)).into()
}

/// The value of a version of an object, from 0. Which one stands first, so that the shortest values
/// differ too.
pub(super) fn version(key: &[u8], number: usize, size: usize) -> Bytes {
    value(&[number.to_string().as_bytes(), b"@", key].concat(), size)
}

/// A pass over the table: one version of every object, or of every one in so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) objects: usize,
    /// Of so many objects in a row the first is written.
    pub(super) every: usize,
    pub(super) version: usize,
    pub(super) size: usize,
}

impl Pass {
    fn puts(self) -> impl Iterator<Item = (Bytes, Bytes)> {
        (0..self.objects).step_by(self.every).map(move |place| {
            let key = key(place);
            let value = version(&key, self.version, self.size);
            (key, value)
        })
    }
}

/// Writes a pass, and says at which revision the table is what it left. The database runs after it.
pub(super) async fn write(database: &mut Database, pass: Pass) -> Result<i64> {
    // kine makes its table.
    database.start().await?;
    if database.kind.is_kine() {
        database.stop();
        // Minutes: meanwhile connections to the others must answer pings.
        let file = database.file();
        let filled = tokio::task::spawn_blocking(move || by_sql(&file, pass)).await;
        let revision = filled?.context("filling kine's table")?;
        database.start().await?;
        return Ok(revision);
    }
    by_wire(&database.connect().await?, pass).await
}

async fn by_wire(connection: &Connection, pass: Pass) -> Result<i64> {
    let puts: Vec<_> = pass.puts().collect();
    let transactions = puts.chunks(AT_ONCE).map(|puts| async move {
        let request = Request::puts(puts);
        let answer = connection.unary(request.rpc, request.frame).await?;
        let header = peek_header(&answer)?.context("an answer without a header")?;
        anyhow::Ok(header.revision)
    });
    stream::iter(transactions)
        .buffer_unordered(UNDER_WAY)
        .try_fold(0, |last, revision| async move { Ok(last.max(revision)) })
        .await
}

/// As kine's own inserts (`pkg/logstructured/sqllog`): a row names the one that it supersedes, and
/// has its value beside its own.
fn by_sql(file: &Path, pass: Pass) -> Result<i64> {
    let mut sql = Sql::open(file)?;
    let transaction = sql.transaction()?;
    let mut last = "SELECT id, iif(created, id, create_revision), value FROM kine \
                    WHERE name = ?1 ORDER BY id DESC LIMIT 1";
    let creates = pass.version == 0;
    if creates {
        last = "SELECT 0, 0, NULL WHERE ?1 <> ''";
    }
    {
        let mut last = transaction.prepare(last)?;
        let mut insert = transaction.prepare(
            "INSERT INTO kine \
             (name, created, deleted, create_revision, prev_revision, lease, value, old_value) \
             VALUES (?1, ?2, 0, ?3, ?4, 0, ?5, ?6)",
        )?;
        for (key, value) in pass.puts() {
            let name = std::str::from_utf8(&key)?;
            let (before, created, old): (i64, i64, Option<Vec<u8>>) =
                last.query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            insert.execute(params![name, creates, created, before, &value[..], old])?;
        }
    }
    transaction.commit()?;
    Ok(sql.query_row("SELECT max(id) FROM kine", [], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(every: usize, version: usize) -> Pass {
        Pass {
            objects: 4,
            every,
            version,
            size: 64,
        }
    }

    #[test]
    fn kines_rows_name_what_they_supersede() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kine.db");
        Sql::open(&file)
            .unwrap()
            .execute_batch(
                "CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, \
                 created INTEGER, deleted INTEGER, create_revision INTEGER, \
                 prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB)",
            )
            .unwrap();
        assert_eq!(by_sql(&file, pass(1, 0)).unwrap(), 4);
        assert_eq!(by_sql(&file, pass(2, 1)).unwrap(), 6);
        assert_eq!(by_sql(&file, pass(2, 2)).unwrap(), 8);
        let sql = Sql::open(&file).unwrap();
        let row: (String, i64, i64, i64, Vec<u8>, Vec<u8>) = sql
            .query_row(
                "SELECT name, created, create_revision, prev_revision, value, old_value \
                 FROM kine WHERE id = 8",
                [],
                |row| {
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                    ))
                },
            )
            .unwrap();
        let key = key(2);
        assert_eq!(row.0.as_bytes(), key);
        assert_eq!((row.1, row.2, row.3), (0, 3, 6));
        assert_eq!(
            (row.4, row.5),
            (version(&key, 2, 64).to_vec(), version(&key, 1, 64).to_vec())
        );
    }

    #[test]
    fn versions_differ() {
        let key = key(7);
        assert_ne!(version(&key, 0, 8), version(&key, 1, 8));
        assert_eq!(version(&key, 1, 64).len(), 64);
    }
}
