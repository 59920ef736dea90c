//! What a database takes on the disk.

use std::fs;

use rusqlite::Connection;

/// What the database and its log take on the disk, in bytes; `None` where the file cannot be asked.
pub(super) fn on_disk(connection: &Connection) -> Option<i64> {
    let path = connection.path()?;
    let file = fs::metadata(path).ok()?.len();
    // There is none until something is written.
    let log = fs::metadata(format!("{path}-wal")).map_or(0, |log| log.len());
    i64::try_from(file + log).ok()
}
