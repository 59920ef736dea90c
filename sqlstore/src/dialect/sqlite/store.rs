//! A store on a SQLite file: opening, the port, closing.

use std::{sync::Arc, thread::JoinHandle};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_environment::{OsRandom, Random};
use keyloom_etcd_api::Rpc;
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use super::{
    Checkpointer, Connect, Role, SqliteOptions, SqliteSession, TimedStatements,
    given_out::NoteFile,
    lock::{self, Ownership},
};
use crate::{
    clock::WallClock,
    engine::Engine,
    error::{OpenError, Origin},
    feed::Feed,
    key_counts::KeyCounts,
    metrics::Metrics,
    readers::{self, Threads},
    session::{Identity, Session as _},
    shared::Shared,
    usage::{Usage, Usages},
    writer::Writer,
};

/// A whole etcd in one file. Clones are the same store.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    engine: Arc<Engine<SqliteSession>>,
    held: Arc<Mutex<Option<Held>>>,
}

/// What is to be ended and given back when the store is closed.
#[derive(Debug)]
struct Held {
    /// The readers, and the checkpoints'.
    threads: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    checkpointer: Arc<Checkpointer>,
    /// The writer has it too: a store that is dropped without being closed gives its file free
    /// only after the last write.
    _ownership: Arc<Ownership>,
}

impl SqliteStore {
    /// Opens a store, and makes it where it is not there. Begins to let leases end.
    ///
    /// # Errors
    /// [`OpenError`] names the store, the file and what is to be done.
    pub async fn open(
        options: SqliteOptions,
        clock: Arc<dyn WallClock>,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        Self::open_with(options, clock, Arc::new(OsRandom), metrics).await
    }

    /// As [`SqliteStore::open`], with a source of chance.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(
        options: SqliteOptions,
        clock: Arc<dyn WallClock>,
        random: Arc<dyn Random>,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let origin = options.origin();
        let (opening, metrics) = (origin.clone(), metrics.clone());
        let open = move || open(options, opening, clock, random, &metrics);
        // Files are read and written: not on the runtime's threads.
        match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened,
            Err(join) => Err(OpenError::Thread {
                origin,
                why: std::io::Error::other(join),
            }),
        }
    }

    /// Ends every stream, does what is queued, writes everything into the database file and
    /// gives it free.
    pub async fn close(self) {
        self.engine.stop().await;
        let Some(mut held) = self.held.lock().take() else {
            return;
        };
        held.checkpointer.stop();
        // One after the other: only a connection that finds itself the last one moves the log
        // into the file, and two that close at once each find the other.
        for thread in held.threads.drain(..) {
            join(thread).await;
        }
        self.engine.stop_writer().await;
        if let Some(writer) = held.writer.take() {
            join(writer).await;
        }
        drop(held);
    }

    /// Who the store is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.engine.shared.identity
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.engine.shared.feed.head()
    }

    /// Living keys and their bytes by class of keys, in order.
    #[must_use]
    pub fn usage(&self) -> Vec<(Bytes, Usage)> {
        self.engine.shared.usages.list()
    }
}

impl Store for SqliteStore {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(self.engine.clone().call(call))
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        Box::pin(self.engine.clone().stream(rpc, requests))
    }
}

/// Waits for a thread without keeping one of the runtime's from its work.
async fn join(thread: JoinHandle<()>) {
    // A thread that panicked has said so.
    drop(tokio::task::spawn_blocking(move || drop(thread.join())).await);
}

impl Drop for Held {
    /// The other threads end with their queues.
    fn drop(&mut self) {
        self.checkpointer.stop();
    }
}

fn open(
    options: SqliteOptions,
    origin: Origin,
    clock: Arc<dyn WallClock>,
    random: Arc<dyn Random>,
    metrics: &Metrics,
) -> Result<SqliteStore, OpenError> {
    let (options, origin) = (Arc::new(options), Arc::new(origin));
    make_folder(&options, &origin)?;
    let ownership = lock::own(&options.path, &origin)?;
    let metrics = Arc::new(metrics.of_store(&options.store.name));
    let watchman = TimedStatements {
        origin: origin.clone(),
        metrics: metrics.clone(),
        slow: options.store.slow_statement,
        #[cfg(test)]
        injected: Default::default(),
    };
    let connect = Connect {
        options: options.clone(),
        watchman,
    };
    let note = NoteFile::open(&options.path, &origin)?;
    let identity = connect.prepare(random.as_ref(), note.found())?;
    let shared = Arc::new(Shared {
        identity,
        given_out: Box::new(note.of_store(identity.cluster_id, origin.clone())),
        origin,
        clock,
        random,
        metrics,
        feed: Feed::new(options.store.feed_bytes),
        key_counts: KeyCounts::default(),
        usages: Usages::default(),
        next_end: i64::MAX.into(),
        full: false.into(),
        options: options.store.clone(),
    });
    start(&connect, shared, ownership)
}

pub(super) fn make_folder(options: &SqliteOptions, origin: &Origin) -> Result<(), OpenError> {
    let folder = options
        .path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let Some(folder) = folder.filter(|_| options.create) else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|why| OpenError::File {
        origin: origin.clone(),
        file: folder.display().to_string(),
        why,
    })
}

/// What the writer waits with for the next request where it is not to wait for long. Not the
/// program's own runtime: that may end before the writer.
fn pauses(shared: &Shared) -> Result<Runtime, OpenError> {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.map_err(|why| OpenError::Thread {
        origin: shared.origin.as_ref().clone(),
        why,
    })
}

fn start(
    connect: &Connect,
    shared: Arc<Shared>,
    ownership: Ownership,
) -> Result<SqliteStore, OpenError> {
    let checkpointer = Arc::new(Checkpointer::default());
    let file = connect.file()?;
    let mut session = connect.session(Role::Writer, file.clone(), Some(checkpointer.clone()))?;
    let marks = session.marks()?;
    let writer = Writer::new(session, shared.clone(), marks)?;
    let readers = shared.options.readers;
    let threads = Threads {
        unary: readers,
        bulk: readers,
        watch: 1,
    };
    let reader = || connect.session(Role::Reader, file.clone(), None);
    let (readers, mut handles) = readers::start(threads, &shared.origin, reader)?;
    handles.push(checkpointer.start(connect, file.clone())?);
    let (jobs, queue) = mpsc::channel(shared.options.write_queue.max(1));
    let ownership = Arc::new(ownership);
    let owner = ownership.clone();
    let pauses = pauses(&shared)?;
    let work = move || {
        writer.work(queue, &pauses);
        drop(owner);
    };
    let thread = std::thread::Builder::new()
        .name("keyloom-write".to_owned())
        .spawn(work);
    let origin = shared.origin.as_ref().clone();
    let writer = thread.map_err(|why| OpenError::Thread { origin, why })?;
    let held = Held {
        threads: handles,
        writer: Some(writer),
        checkpointer,
        _ownership: ownership,
    };
    Ok(SqliteStore {
        engine: Engine::start(shared, jobs, readers),
        held: Arc::new(Mutex::new(Some(held))),
    })
}
