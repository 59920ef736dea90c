//! Checkpoints: moving committed pages from the write-ahead log into the database file.
//!
//! A thread of its own does it, in SQLite's passive way, which waits for nobody and makes nobody
//! wait. Only one thing it cannot do while writes keep coming: the log starts again only at a
//! moment in which it has nothing left to move. So where the log has grown long, the thread moves
//! the bulk, again and again until little is left, and the writer moves that between two
//! transactions.
//!
//! SQLite waits for the database file's way to the disk only where it has moved everything, which
//! would be the writer's turn, with all that was moved before it: so the thread does it after
//! each of its own.
//!
//! ```text
//!             log > SOON pages              log > LONG pages, little left
//!  resting -------------------> thread runs -----------------------------> writer moves the rest
//!     ^                              |                                           |
//!     +------------------------------+-------------------------------------------+
//! ```

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::time::Duration;

use super::{Connect, Role, Synchronous, TimedStatements};
use crate::{error::OpenError, session::Sql, statement::Statement};

/// How long the log may become, in pages of 4 KiB.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// From here on a checkpoint is worth its while.
    soon: i64,
    /// From here on the log should start again.
    long: i64,
    /// What the writer may be left with: a few milliseconds. Doubled each time that writes were
    /// faster than the thread, so that there is an end to it.
    rest: i64,
    /// From here on the writer moves what there is, however much: the log must end somewhere.
    longest: i64,
}

/// 8 MiB, 32 MiB, 512 KiB, 256 MiB.
impl Default for Limits {
    fn default() -> Self {
        Self {
            soon: 2048,
            long: 8 * 1024,
            rest: 128,
            longest: 64 * 1024,
        }
    }
}

/// How often the thread looks again where it could not move everything.
const AGAIN: Duration = Duration::from_millis(250);

/// What the writer and the thread tell each other.
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    limits: Limits,
    /// Pages in the log, as of the last commit.
    pages: AtomicI64,
    /// How many of them the last commit wrote.
    last_commit: AtomicI64,
    /// Pages that a checkpoint has moved since the log began.
    moved: AtomicI64,
    /// How many the writer may be left with.
    rest: AtomicI64,
    wants_the_writer: AtomicBool,
    stop: Mutex<bool>,
    wake: Condvar,
}

impl Checkpointer {
    /// The writer has committed; the log has so many pages.
    pub(super) fn wrote(&self, pages: i32) {
        let pages = i64::from(pages);
        let before = self.pages.swap(pages, Ordering::Relaxed);
        if pages < before {
            self.moved.store(0, Ordering::Relaxed);
        }
        // A log that has become shorter began anew with this commit.
        let wrote = if pages < before {
            pages
        } else {
            pages - before
        };
        self.last_commit.store(wrote, Ordering::Relaxed);
        if pages - self.moved.load(Ordering::Relaxed) > self.limits.soon {
            self.wake.notify_one();
        }
    }

    pub(super) fn pages_of_last_commit(&self) -> i64 {
        self.last_commit.load(Ordering::Relaxed)
    }

    /// The writer's part, between two transactions: where the thread has asked for it, and what is
    /// left is still little.
    pub(super) fn close_log(&self, connection: &Connection, watchman: &TimedStatements) -> Sql<()> {
        if !self.wants_the_writer.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (pages, left) = self.state();
        if left <= 2 * self.may_be_left() || pages > self.limits.longest {
            self.run_on(connection, watchman)?;
        }
        // Otherwise, and where a reader was in the way, it is the thread's turn again.
        self.wants_the_writer.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// One passive checkpoint.
    fn run_on(&self, connection: &Connection, watchman: &TimedStatements) -> Sql<()> {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (log, moved) = watchman.timed(Statement::Checkpoint, || {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], read)
        })?;
        // Both are -1 where another connection is at it.
        if log >= 0 {
            self.moved.store(moved, Ordering::Relaxed);
            watchman.metrics.log_pages.set(log);
        }
        Ok(())
    }

    /// Starts the thread.
    pub(crate) fn start(
        self: &Arc<Self>,
        connect: &Connect,
        file: Arc<File>,
    ) -> Result<JoinHandle<()>, OpenError> {
        let connection = connect.open(Role::Checkpoints)?;
        let (this, watchman) = (self.clone(), connect.watchman.clone());
        let origin = watchman.origin.as_ref().clone();
        let synced = connect.options.synchronous != Synchronous::Off;
        std::thread::Builder::new()
            .name("keyloom-checkpoint".to_owned())
            .spawn(move || {
                this.work(&connection, synced.then_some(&*file), &watchman);
                // In this order: see the session's own.
                drop(connection);
                drop(file);
            })
            .map_err(|why| OpenError::Thread { origin, why })
    }

    pub(crate) fn stop(&self) {
        *self.stop.lock() = true;
        self.wake.notify_all();
    }

    /// `file` is to be brought to the disk, where that is wanted.
    fn work(&self, connection: &Connection, file: Option<&File>, watchman: &TimedStatements) {
        let mut before = -1;
        while self.rest(before) {
            before = self.moved.load(Ordering::Relaxed);
            if let Err(fault) = self.run_on(connection, watchman) {
                // Nothing is lost: the log keeps what could not be moved.
                tracing::warn!(%fault, "the log could not be moved into the database; trying again later");
            }
            if let Some(file) = file {
                self.sync(file, watchman);
            }
            self.ask_the_writer();
        }
    }

    /// What was moved goes to the disk now, and not in the writer's turn. Where it fails, SQLite
    /// is told of it when it waits for the disk itself.
    fn sync(&self, file: &File, watchman: &TimedStatements) {
        if self.state().1 == 0 {
            return;
        }
        let sync = || {
            let failed = |_| rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            let synced = file.sync_data().map_err(failed);
            synced.map_err(|error| rusqlite::Error::SqliteFailure(error, None))
        };
        if let Err(fault) = watchman.timed(Statement::SyncFile, sync) {
            tracing::warn!(%fault, "the database file could not be synced; trying again later");
        }
    }

    fn ask_the_writer(&self) {
        let (pages, left) = self.state();
        let rest = self.may_be_left();
        if pages <= self.limits.long {
            self.rest.store(self.limits.rest, Ordering::Relaxed);
        } else if left <= rest || pages > self.limits.longest {
            self.wants_the_writer.store(true, Ordering::Relaxed);
        } else {
            self.rest
                .store((rest * 2).min(self.limits.soon), Ordering::Relaxed);
        }
    }

    fn may_be_left(&self) -> i64 {
        self.rest.load(Ordering::Relaxed).max(self.limits.rest)
    }

    fn state(&self) -> (i64, i64) {
        let pages = self.pages.load(Ordering::Relaxed);
        (pages, pages - self.moved.load(Ordering::Relaxed))
    }

    /// Waits for work; `false` when there will be no more. Where the last run has moved nothing
    /// beyond `before` a reader is in the way, or the disk fails: not again at once.
    fn rest(&self, before: i64) -> bool {
        let mut stop = self.stop.lock();
        let in_vain = |stop: &mut bool| !*stop && self.moved.load(Ordering::Relaxed) == before;
        self.wake.wait_while_for(&mut stop, in_vain, AGAIN);
        loop {
            if *stop {
                return false;
            }
            let (pages, left) = self.state();
            let wants_the_writer = self.wants_the_writer.load(Ordering::Relaxed);
            if left > self.limits.soon
                || (pages > self.limits.long && left > 0 && !wants_the_writer)
            {
                return true;
            }
            self.wake.wait_for(&mut stop, AGAIN);
        }
    }
}

#[cfg(test)]
mod tests;
