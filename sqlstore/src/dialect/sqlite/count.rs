//! The counts that are kept.

use rusqlite::{Connection, params};

use super::{SqliteSession, bytes, sql};
use crate::{
    session::{CountChanges, Counts, Sql},
    statement::Statement,
    usage::Usage,
};

impl SqliteSession {
    pub(super) fn kept_counts(&self) -> Sql<Option<Counts>> {
        self.timed(Statement::Counts, |connection| {
            let mut kept = connection.prepare_cached(sql!("counts_kept"))?;
            if !kept.query_row([], |row| row.get(0))? {
                return Ok(None);
            }
            let mut blocks = connection.prepare_cached(sql!("blocks"))?;
            let blocks = blocks.query_map([], |row| Ok((bytes(row, 0)?, row.get(1)?)))?;
            let mut classes = connection.prepare_cached(sql!("classes"))?;
            let classes = classes.query_map([], |row| {
                let (objects, bytes_of) = (row.get(1)?, row.get(2)?);
                let usage = Usage {
                    objects,
                    bytes: bytes_of,
                };
                Ok((bytes(row, 0)?, usage))
            })?;
            Ok(Some(Counts {
                blocks: blocks.collect::<Result<_, _>>()?,
                classes: classes.collect::<Result<_, _>>()?,
            }))
        })
    }

    pub(super) fn keep_counts(&self, changes: &CountChanges, anew: bool) -> Sql<()> {
        self.timed(Statement::SetCounts, |connection| {
            if anew {
                connection.execute_batch(sql!("forget_counts"))?;
            }
            set(connection, changes)?;
            let mut keep = connection.prepare_cached(sql!("keep_counts"))?;
            keep.execute([]).map(drop)
        })
    }
}

fn set(connection: &Connection, changes: &CountChanges) -> rusqlite::Result<()> {
    for (start, keys) in &changes.blocks {
        match keys {
            Some(keys) => connection
                .prepare_cached(sql!("set_block"))?
                .execute(params![&start[..], keys])?,
            None => connection
                .prepare_cached(sql!("remove_block"))?
                .execute([&start[..]])?,
        };
    }
    for (name, usage) in &changes.classes {
        match usage {
            Some(Usage { objects, bytes }) => connection
                .prepare_cached(sql!("set_class"))?
                .execute(params![&name[..], objects, bytes])?,
            None => connection
                .prepare_cached(sql!("remove_class"))?
                .execute([&name[..]])?,
        };
    }
    Ok(())
}
