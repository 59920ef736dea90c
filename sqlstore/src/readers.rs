//! Readers: a few threads per lane, each with a connection of its own.
//!
//! Lanes do not share threads, so that a list of a million keys delays neither a small read nor
//! a watch. A reader's transaction begins after the call was made: whatever was acknowledged
//! before is in it, which makes every read linearizable.

use std::{sync::Arc, thread::JoinHandle};

use keyloom_store::{CallError, Lane};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{OpenError, Origin, Stop},
    session::{Session, Sql},
};

enum Task<S> {
    Read(Box<dyn FnOnce(&mut S) + Send>),
    /// For one thread: ends it.
    Stop,
}

/// How many reads of a lane may wait.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub(crate) struct Readers<S> {
    unary: mpsc::Sender<Task<S>>,
    bulk: mpsc::Sender<Task<S>>,
    watch: mpsc::Sender<Task<S>>,
    threads: Threads,
}

/// How many threads read for each lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    pub(crate) unary: usize,
    pub(crate) bulk: usize,
    pub(crate) watch: usize,
}

/// Starts the threads of all lanes; they end when the readers are dropped.
pub(crate) fn start<S: Session>(
    threads: Threads,
    origin: &Arc<Origin>,
    mut connect: impl FnMut() -> Sql<S>,
) -> Result<(Readers<S>, Vec<JoinHandle<()>>), OpenError> {
    let mut handles = Vec::new();
    let mut lane = |name: &str, count: usize| {
        let (tasks, queue) = mpsc::channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count.max(1) {
            let reader = Reader {
                session: connect()?,
                queue: queue.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("keyloom-{name}"));
            let handle = thread.spawn(move || reader.work());
            handles.push(handle.map_err(|why| OpenError::Thread {
                origin: origin.as_ref().clone(),
                why,
            })?);
        }
        Ok::<_, OpenError>(tasks)
    };
    let readers = Readers {
        unary: lane("read", threads.unary)?,
        bulk: lane("list", threads.bulk)?,
        watch: lane("catch-up", threads.watch)?,
        threads,
    };
    Ok((readers, handles))
}

impl<S: Session> Readers<S> {
    /// Ends every thread after what is queued.
    pub(crate) async fn stop(&self) {
        let Threads { unary, bulk, watch } = self.threads;
        let lanes = [
            (&self.unary, unary),
            (&self.bulk, bulk),
            (&self.watch, watch),
        ];
        for (lane, threads) in lanes {
            for _ in 0..threads.max(1) {
                // A thread that has ended needs no telling.
                drop(lane.send(Task::Stop).await);
            }
        }
    }

    /// Runs `read` in a transaction of its own.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        read: impl FnOnce(&mut S) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, CallError> {
        self.run_with(lane, || (), move |session, ()| read(session))
            .await
    }

    /// As [`Readers::run`]; `before` is called on the same thread before the transaction begins.
    pub(crate) async fn run_with<B, T: Send + 'static>(
        &self,
        lane: Lane,
        before: impl FnOnce() -> B + Send + 'static,
        read: impl FnOnce(&mut S, B) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(move |session: &mut S| {
            if !reply.is_closed() {
                let before = before();
                drop(reply.send(in_transaction(session, |session| read(session, before))));
            }
        });
        let queue = match lane {
            Lane::Unary => &self.unary,
            Lane::Bulk => &self.bulk,
            Lane::Watch => &self.watch,
        };
        let stopped = || CallError::NotSent("the store is closed".to_owned());
        queue.send(Task::Read(task)).await.map_err(|_| stopped())?;
        let answer = answer.await.map_err(|_| stopped())?;
        answer.map_err(|stop| stop.refusal())
    }
}

fn in_transaction<S: Session, T>(
    session: &mut S,
    read: impl FnOnce(&mut S) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let result = session
        .begin_read()
        .map_err(Stop::from)
        .and_then(|()| read(session));
    session.rollback();
    if let Err(Stop::Sql(fault)) = &result {
        tracing::error!(%fault, "a read failed");
    }
    result
}

struct Reader<S> {
    session: S,
    queue: Arc<Mutex<mpsc::Receiver<Task<S>>>>,
}

impl<S: Session> Reader<S> {
    fn work(mut self) {
        loop {
            // One thread of the lane waits, the others wait for it: who gets a task lets the
            // next one wait while it works.
            let task = self.queue.lock().blocking_recv();
            match task {
                Some(Task::Read(read)) => read(&mut self.session),
                Some(Task::Stop) | None => return,
            }
        }
    }
}
