//! The writer: one thread that gives out revisions.
//!
//! Requests that arrive while a commit waits for the disk are the next batch: they share one SQL
//! transaction and one wait. Each is checked and carried out by itself, in order, and sees what
//! the ones before it did; none is answered before the commit.
//!
//! ```text
//!  queue -> begin -> apply each -> commit -> publish (key counts, feed) -> answer -> queue ...
//!             |          |           |
//!             |          |           +-- error: nobody knows: all Unknown, state read anew
//!             |          +-- error of the database: nothing happened; each again by itself
//!             +-- error: nothing happened: all refused
//! ```
//!
//! Between batches, and alone when nothing waits, the writer does its chores: sweeping behind a
//! compaction, giving space back.
//!
//! Invariants:
//! 1. `marks` and `leases` are what is committed, or `sound` is false.
//! 2. What is published is committed; what is answered is published.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use keyloom_store::CallError;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    error::SqlFault,
    lease::Leases,
    session::{CountChanges, Counts, Marks, Session, Sql, Survives},
    shared::Shared,
};

mod apply;
mod batch;
mod chores;
mod request;

pub(crate) use request::Request;

use batch::Lost;
use chores::Chores;

/// The most requests that share a commit.
const LARGEST_BATCH: usize = 512;

/// The most bytes of requests that share a commit.
const LARGEST_BATCH_BYTES: usize = 8 << 20;

/// A request, and who waits for its answer.
type Asked = (Request, Reply);

pub(crate) type Reply = oneshot::Sender<Result<Bytes, CallError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Write(Request, Reply),
    Defragment(Reply),
    /// Does what is queued, and then no more.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Writer<S> {
    session: S,
    shared: Arc<Shared>,
    marks: Marks,
    leases: Leases,
    /// Whether `marks` and `leases` can be relied on.
    sound: bool,
    /// Whether the counts in the database are those of the newest change.
    keeps_counts: bool,
    chores: Chores,
    /// Taken from the queue, not yet done.
    waiting: VecDeque<Asked>,
    stopping: bool,
}

impl<S: Session> Writer<S> {
    /// Reads where the store stands, and publishes it.
    pub(crate) fn new(session: S, shared: Arc<Shared>, marks: Marks) -> Sql<Self> {
        let mut writer = Self {
            session,
            shared,
            marks,
            leases: Leases::default(),
            sound: false,
            keeps_counts: false,
            chores: Chores::default(),
            waiting: VecDeque::new(),
            stopping: false,
        };
        writer.load(true)?;
        Ok(writer)
    }

    /// Works until it is told to stop, or until nobody is left to ask.
    pub(crate) fn work(mut self, mut jobs: mpsc::Receiver<Job>, pauses: &Runtime) {
        while self.receive(&mut jobs, pauses) {
            self.run_waiting();
            self.look_after_the_log();
        }
        jobs.close();
        while let Ok(job) = jobs.try_recv() {
            self.take(job);
        }
        self.run_waiting();
    }

    fn look_after_the_log(&mut self) {
        if let Err(fault) = self.session.between_writes() {
            tracing::warn!(%fault, "the log could not be reset to its beginning; trying again later");
        }
    }

    /// Takes what waits, or waits for something; `false` when there is no more.
    fn receive(&mut self, jobs: &mut mpsc::Receiver<Job>, pauses: &Runtime) -> bool {
        if self.stopping {
            return false;
        }
        let Some(first) = self.next(jobs, pauses) else {
            return false;
        };
        let mut bytes = self.take(first);
        while self.waiting.len() < LARGEST_BATCH
            && bytes < LARGEST_BATCH_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            bytes += self.take(job);
        }
        true
    }

    /// What comes next. Until it comes there is time for chores, and for a rest after each.
    fn next(&mut self, jobs: &mut mpsc::Receiver<Job>, pauses: &Runtime) -> Option<Job> {
        loop {
            match jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let Some(rest) = self.chore() else {
                return jobs.blocking_recv();
            };
            self.look_after_the_log();
            let next = pauses.block_on(async { timeout(rest, jobs.recv()).await });
            if let Ok(next) = next {
                return next;
            }
        }
    }

    fn take(&mut self, job: Job) -> usize {
        match job {
            Job::Write(request, reply) => {
                let bytes = request.bytes();
                self.waiting.push_back((request, reply));
                bytes
            }
            Job::Defragment(reply) => {
                self.chores.defragment(reply);
                0
            }
            Job::Stop => {
                self.stopping = true;
                0
            }
        }
    }

    fn run_waiting(&mut self) {
        let asked: Vec<Asked> = std::mem::take(&mut self.waiting).into();
        if asked.is_empty() {
            return;
        }
        let mut outcome = self.run(&asked);
        if matches!(outcome, Err(Lost::Before(_))) && self.chores.spoiled_a_batch() {
            outcome = self.run(&asked);
        }
        let answers = match outcome {
            Ok(answers) => answers,
            Err(Lost::Before(fault)) if asked.len() > 1 && fault.may_be_of_one_request() => {
                self.run_alone(&asked)
            }
            Err(lost) => vec![Err(lost.error()); asked.len()],
        };
        for ((request, reply), answer) in asked.into_iter().zip(answers) {
            self.answer(&request, reply, answer);
        }
    }

    fn answer(&mut self, request: &Request, reply: Reply, answer: Result<Bytes, CallError>) {
        match answer {
            Ok(answer) if request.waits_for_sweep() => self.chores.when_swept(reply, answer),
            // Who does not wait any more does not need it.
            answer => drop(reply.send(answer)),
        }
    }

    /// Reads everything from the database, and publishes what is new to the others.
    fn load(&mut self, first: bool) -> Sql<()> {
        self.session.rollback();
        self.session.begin_read()?;
        let loaded = self.load_snapshot(first);
        self.session.rollback();
        loaded?;
        self.sound = true;
        if !self.keeps_counts
            && let Err(fault) = self.keep_counts()
        {
            tracing::warn!(%fault, "the counts of keys could not be stored; the next start counts again");
            self.session.rollback();
        }
        self.chores.begin_sweep(&mut self.session, &self.marks)?;
        self.show();
        Ok(())
    }

    fn load_snapshot(&mut self, first: bool) -> Sql<()> {
        let marks = self.session.marks()?;
        self.shared.note(marks.revision);
        self.leases = Leases::new(self.session.leases()?);
        if first || marks != self.marks {
            self.load_counts(&marks)?;
            self.shared.feed.jump(marks.revision, marks.compacted);
        }
        self.marks = marks;
        Ok(())
    }

    /// Takes over the counts that are kept, or counts.
    fn load_counts(&mut self, marks: &Marks) -> Sql<()> {
        let Shared {
            key_counts, usages, ..
        } = self.shared.as_ref();
        let kept = self.session.counts()?;
        self.keeps_counts = kept.is_some();
        if let Some(Counts { blocks, classes }) = kept {
            key_counts.restore(marks, blocks);
            usages.restore(classes);
            return Ok(());
        }
        usages.clear();
        let session = &mut self.session;
        key_counts.rebuild(marks, |visit| {
            session.sizes(&mut |key, size| {
                visit(key);
                let length = i64::try_from(key.len()).unwrap_or(i64::MAX);
                usages.add(key, length + size);
            })
        })
    }

    /// Keeps what was counted anew. A database that does not take it now is counted again when it
    /// is opened.
    fn keep_counts(&mut self) -> Sql<()> {
        let counts = CountChanges {
            blocks: self.shared.key_counts.blocks(),
            classes: self.shared.usages.all(),
        };
        self.session.begin_write(Survives::WithTheNext)?;
        self.session.set_counts(&counts, true)?;
        self.session.commit()?;
        self.keeps_counts = true;
        Ok(())
    }

    /// Shows where the store stands to timers and metrics.
    fn show(&self) {
        let shared = &self.shared;
        let next_end = self.leases.next_end().unwrap_or(i64::MAX);
        shared.next_end.store(next_end, Ordering::Relaxed);
        shared.metrics.revision.set(self.marks.revision);
        shared.metrics.compacted.set(self.marks.compacted);
        shared
            .metrics
            .leases
            .set(i64::try_from(self.leases.len()).unwrap_or(i64::MAX));
        shared.metrics.objects.set(shared.key_counts.total());
        shared.metrics.bytes.set(shared.usages.bytes());
    }

    fn note(&self, fault: &SqlFault) {
        tracing::error!(%fault, "a write failed");
        if fault.kind == crate::error::FaultKind::Full {
            self.shared.full.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
