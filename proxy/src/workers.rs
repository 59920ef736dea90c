//! The threads that answer calls: one for each core, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, and so do its calls and the connections to
//! stores that they use. Nothing is handed from one thread to another on the way of a call. Measured
//! beside one runtime that moves tasks between its threads, this costs less CPU for each request
//! (`docs/contributing/benchmarks.md`).

use std::{
    cell::Cell,
    io,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

thread_local! {
    /// The first worker, and every thread that is none, is number 0.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// The number of the worker that runs this, from 0.
pub(crate) fn number() -> usize {
    NUMBER.get()
}

/// Gives connections to threads.
#[derive(Clone, Debug, Default)]
pub struct Workers(Arc<Threads>);

#[derive(Debug, Default)]
struct Threads {
    /// All but the first, which is the thread that listens.
    others: Vec<Handle>,
    next: AtomicUsize,
}

/// The threads besides the first. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Option<DropGuard>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended, too.
            drop(thread.join());
        }
    }
}

impl Workers {
    /// Starts workers, of which the calling thread is the first: it brings its own runtime.
    ///
    /// # Errors
    /// Where the system gives no thread or no runtime.
    pub(crate) fn start(count: NonZero<usize>) -> io::Result<(Self, Running)> {
        let stop = CancellationToken::new();
        let mut running = Running {
            stop: None,
            threads: Vec::new(),
        };
        let mut others = Vec::new();
        for number in 1..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            others.push(runtime.handle().clone());
            let stopped = stop.clone();
            let work = move || {
                NUMBER.set(number);
                runtime.block_on(stopped.cancelled());
            };
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            running.threads.push(thread.spawn(work)?);
        }
        running.stop = Some(stop.drop_guard());
        let threads = Threads {
            others,
            next: AtomicUsize::new(0),
        };
        Ok((Self(Arc::new(threads)), running))
    }

    /// How many there are: at least one.
    pub(crate) fn count(&self) -> usize {
        self.0.others.len() + 1
    }

    /// Runs a task on the next worker in turn. To be called on the first one.
    pub(crate) fn spawn(
        &self,
        tasks: &TaskTracker,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed) % self.count();
        let other = turn.checked_sub(1).and_then(|turn| self.0.others.get(turn));
        match other {
            Some(other) => drop(tasks.spawn_on(task, other)),
            None => drop(tasks.spawn(task)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn tasks_go_to_every_worker_in_turn() {
        let count = NonZero::new(3).unwrap();
        let (workers, _running) = Workers::start(count).unwrap();
        let first = Builder::new_current_thread().build().unwrap();
        let numbers = first.block_on(async {
            let tasks = TaskTracker::new();
            let (tell, mut told) = mpsc::unbounded_channel();
            for _ in 0..6 {
                let tell = tell.clone();
                workers.spawn(&tasks, async move { tell.send(number()).unwrap() });
            }
            drop(tell);
            let mut numbers = Vec::new();
            while let Some(number) = told.recv().await {
                numbers.push(number);
            }
            numbers.sort_unstable();
            numbers
        });
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2]);
    }
}
