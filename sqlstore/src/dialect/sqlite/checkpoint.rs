//! Checkpoints: moving committed pages from the write-ahead log into the database file.
//!
//! A thread of its own does it, in SQLite's passive way, which waits for nobody and makes nobody
//! wait. Only one thing it cannot do while writes keep coming: the log begins anew only at a
//! moment in which it has nothing left to move. So where the log has grown long, the writer
//! moves the small rest itself, between two transactions, right after the thread has moved the
//! bulk.
//!
//! ```text
//!             log > SOON pages              log > LONG pages
//!  resting -------------------> thread runs -----------------> writer moves the rest
//!     ^                              |                              |
//!     +------------------------------+------------------------------+
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::time::Duration;

use super::{Connect, Role, Watchman};
use crate::{error::OpenError, session::Sql, statement::Statement};

/// From here on a checkpoint is worth its while: 8 MiB.
const SOON: i64 = 2048;

/// From here on the log should begin anew: 64 MiB.
const LONG: i64 = 16 * 1024;

/// What the writer may be left with: 4 MiB, a few milliseconds.
const REST: i64 = 1024;

/// From here on the writer moves what there is, however much: the log must end somewhere.
/// 256 MiB.
const LONGEST: i64 = 64 * 1024;

/// How often the thread looks again where it could not move everything.
const AGAIN: Duration = Duration::from_millis(250);

/// What the writer and the thread tell each other.
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    /// Pages in the log, as of the last commit.
    pages: AtomicI64,
    /// How many of them the last commit wrote.
    last_commit: AtomicI64,
    /// Pages that a checkpoint has moved since the log began.
    moved: AtomicI64,
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
        if pages - self.moved.load(Ordering::Relaxed) > SOON {
            self.wake.notify_one();
        }
    }

    pub(super) fn pages_of_last_commit(&self) -> i64 {
        self.last_commit.load(Ordering::Relaxed)
    }

    pub(super) fn wants_the_writer(&self) -> bool {
        self.wants_the_writer.load(Ordering::Relaxed)
    }

    /// One passive checkpoint.
    pub(super) fn run_on(&self, connection: &Connection, watchman: &Watchman) -> Sql<()> {
        self.wants_the_writer.store(false, Ordering::Relaxed);
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (log, moved) = watchman.timed(Statement::Checkpoint, || {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], read)
        })?;
        self.moved.store(moved, Ordering::Relaxed);
        watchman.metrics.log_pages.set(log);
        Ok(())
    }

    /// Starts the thread.
    pub(crate) fn start(self: &Arc<Self>, connect: &Connect) -> Result<JoinHandle<()>, OpenError> {
        let connection = connect.open(Role::Checkpoints)?;
        let (this, watchman) = (self.clone(), connect.watchman.clone());
        let origin = watchman.origin.as_ref().clone();
        std::thread::Builder::new()
            .name("keyloom-checkpoint".to_owned())
            .spawn(move || this.work(&connection, &watchman))
            .map_err(|why| OpenError::Thread { origin, why })
    }

    pub(crate) fn stop(&self) {
        *self.stop.lock() = true;
        self.wake.notify_all();
    }

    fn work(&self, connection: &Connection, watchman: &Watchman) {
        while self.rest() {
            if let Err(fault) = self.run_on(connection, watchman) {
                // Nothing is lost: the log keeps what could not be moved.
                tracing::warn!(%fault, "checkpoint");
            }
            let (pages, left) = self.state();
            let close = (pages > LONG && left < REST) || pages > LONGEST;
            self.wants_the_writer.store(close, Ordering::Relaxed);
        }
    }

    fn state(&self) -> (i64, i64) {
        let pages = self.pages.load(Ordering::Relaxed);
        (pages, pages - self.moved.load(Ordering::Relaxed))
    }

    /// Waits for work; `false` when there will be no more.
    fn rest(&self) -> bool {
        let mut stop = self.stop.lock();
        loop {
            if *stop {
                return false;
            }
            let (pages, left) = self.state();
            if left > SOON || (pages > LONG && left > 0 && !self.wants_the_writer()) {
                return true;
            }
            self.wake.wait_for(&mut stop, AGAIN);
        }
    }
}
