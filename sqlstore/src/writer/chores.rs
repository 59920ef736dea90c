//! What the writer does besides writing: sweeping behind a compaction, and giving space back.
//!
//! In slices: alone while nobody waits, and where somebody always does, along with each batch. A
//! write that comes in the middle of one waits for its end, so a slice is kept small in two ways:
//! in the time that it takes, and in the pages that it changes, which the next write's commit
//! waits for: a slice of its own does not wait for the disk. After each the writer rests for as
//! long as the slice took, ready for who comes, so that neither the disk nor the log is filled
//! faster than they are emptied.
//!
//! ```text
//!            compact               swept                    nothing unused is left
//!  nothing ----------> sweeping ----------> giving back space ----------> nothing
//! ```

use bytes::Bytes;
use keyloom_store::CallError;
use tokio::time::{Duration, Instant};

use super::{Reply, Writer, batch::Batch};
use crate::{
    error::SqlFault,
    session::{ChangeSeq, Marks, Room, Session, Sql, Survives},
};

/// A slice that takes longer than this, its commit aside, makes the next one smaller.
const LONG: Duration = Duration::from_millis(1);

/// And so does one that changes more pages than this: 256 KiB.
const MANY_PAGES: i64 = 64;

/// The longest rest after a slice.
const REST: Duration = Duration::from_millis(20);

/// How long chores rest after a fault.
const AFTER_A_FAULT: Duration = Duration::from_secs(5);

const FEWEST_ROWS: i64 = 16;
const MOST_ROWS: i64 = 256;
const ROWS_AT_FIRST: i64 = 64;

/// How many pages are given back at once.
const FEWEST_BACK: i64 = 8;
const MOST_BACK: i64 = 256;
const BACK_AT_FIRST: i64 = 32;

/// A sweep behind a compaction.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    revision: i64,
    /// Up to here it is done.
    at: ChangeSeq,
    /// The last change at or below the compacted revision: the sweep's end.
    end: ChangeSeq,
    /// The last change below it: the next sweep begins there, to take the deletions that this
    /// one has to leave.
    next: ChangeSeq,
}

#[derive(Debug)]
pub(super) struct Chores {
    sweep: Option<Sweep>,
    rows: i64,
    pages_back: i64,
    gives_back: bool,
    /// Whether there was time for a slice since the last batch.
    had_time: bool,
    /// After a fault: not before this.
    resume: Option<Instant>,
    /// Whether a batch failed because of the chore that was done along with it.
    spoiled_a_batch: bool,
    when_swept: Vec<(Reply, Bytes)>,
    defragment: Vec<Reply>,
}

impl Default for Chores {
    fn default() -> Self {
        Self {
            sweep: None,
            rows: ROWS_AT_FIRST,
            pages_back: BACK_AT_FIRST,
            gives_back: true,
            had_time: false,
            resume: None,
            spoiled_a_batch: false,
            when_swept: Vec::new(),
            defragment: Vec::new(),
        }
    }
}

impl Chores {
    pub(super) fn defragment(&mut self, reply: Reply) {
        self.defragment.push(reply);
        self.gives_back = true;
        self.resume = None;
    }

    /// Answers once the sweep has ended.
    pub(super) fn when_swept(&mut self, reply: Reply, answer: Bytes) {
        match self.sweep {
            Some(_) => self.when_swept.push((reply, answer)),
            None => drop(reply.send(Ok(answer))),
        }
    }

    /// Whether the batch that has just failed did so because of a chore: it deserves another
    /// try without one.
    pub(super) fn spoiled_a_batch(&mut self) -> bool {
        std::mem::take(&mut self.spoiled_a_batch)
    }

    fn may_work(&self) -> bool {
        self.resume.is_none_or(|resume| Instant::now() >= resume)
    }

    /// Nobody waits for what may never come.
    fn failed(&mut self, fault: &SqlFault) {
        self.resume = Some(Instant::now() + AFTER_A_FAULT);
        let waiting = self.when_swept.drain(..).map(|(reply, _)| reply);
        for reply in waiting.chain(self.defragment.drain(..)) {
            drop(reply.send(Err(CallError::Unknown(fault.to_string()))));
        }
    }

    pub(super) fn committed(&mut self) {
        self.swept();
    }

    /// Begins the sweep that the marks ask for, if there is one left.
    pub(super) fn begin_sweep<S: Session>(&mut self, session: &mut S, marks: &Marks) -> Sql<()> {
        let end = session.seq_at(marks.compacted, marks)?;
        let next = session.seq_at(marks.compacted - 1, marks)?;
        let left = marks.compacted > 0 && marks.swept < end;
        let begin = || Sweep {
            revision: marks.compacted,
            at: marks.swept,
            end,
            next,
        };
        self.sweep = left.then(begin);
        Ok(())
    }

    /// A slice as part of a batch, where there was no time for one before it. However small slices
    /// have become, it sweeps more than `writes` changes: who writes without a pause must not stay
    /// ahead of the sweep for ever.
    pub(super) fn sweep_along<S: Session>(
        &mut self,
        session: &mut S,
        marks: &mut Marks,
        writes: usize,
    ) -> Sql<()> {
        if std::mem::take(&mut self.had_time) {
            return Ok(());
        }
        let least = i64::try_from(2 * writes).unwrap_or(MOST_ROWS);
        self.sweep_some(session, marks, self.rows.max(least))
    }

    /// A slice of the sweep, in the transaction that is under way.
    fn sweep_some<S: Session>(&mut self, session: &mut S, marks: &mut Marks, rows: i64) -> Sql<()> {
        let Some(sweep) = self.sweep.filter(|_| self.may_work()) else {
            return Ok(());
        };
        let began = Instant::now();
        let to = ChangeSeq((sweep.at.0 + rows).min(sweep.end.0));
        if let Err(fault) = session.sweep(sweep.at, to, sweep.revision) {
            self.failed(&fault);
            self.spoiled_a_batch = true;
            return Err(fault);
        }
        marks.swept = to.min(sweep.next).max(marks.swept);
        if began.elapsed() > LONG {
            self.rows = (self.rows / 2).max(FEWEST_ROWS);
        }
        // Should the transaction fail, the sweep starts again from the marks.
        self.sweep = (to < sweep.end).then_some(Sweep { at: to, ..sweep });
        self.gives_back |= self.sweep.is_none();
        Ok(())
    }

    /// A slice was alone in its transaction, which took so long without its commit and wrote so
    /// many pages: what does that say for the next one?
    fn swept_alone(&mut self, took: Duration, pages: i64) {
        if pages > MANY_PAGES {
            self.rows = (self.rows / 2).max(FEWEST_ROWS);
        } else if took < LONG / 2 && pages < MANY_PAGES / 2 {
            self.rows = (self.rows * 2).min(MOST_ROWS);
        }
    }

    /// The same of pages that were given back.
    fn gave_back(&mut self, pages: i64) {
        if pages > MANY_PAGES {
            self.pages_back = (self.pages_back / 2).max(FEWEST_BACK);
        } else if pages < MANY_PAGES / 2 {
            self.pages_back = (self.pages_back * 2).min(MOST_BACK);
        }
    }

    fn swept(&mut self) {
        if self.sweep.is_none() {
            for (reply, answer) in self.when_swept.drain(..) {
                drop(reply.send(Ok(answer)));
            }
        }
    }
}

impl<S: Session> Writer<S> {
    /// Does one slice of what is left to do, and says how long it should rest; `None` where nothing
    /// is left.
    pub(super) fn chore(&mut self) -> Option<Duration> {
        let began = Instant::now();
        self.do_chore().then(|| began.elapsed().min(REST))
    }

    /// Does one slice of what is left to do; `false` where nothing is.
    pub(super) fn do_chore(&mut self) -> bool {
        self.chores.swept();
        if !self.chores.may_work() || !self.sound {
            return false;
        }
        let done = if self.chores.sweep.is_some() {
            self.sweep_alone()
        } else if self.chores.gives_back {
            self.give_back_space()
        } else {
            return false;
        };
        if let Err(fault) = done {
            self.chores.failed(&fault);
            self.chores.spoiled_a_batch = false;
            self.recover(&fault);
        }
        true
    }

    fn sweep_alone(&mut self) -> Sql<()> {
        self.session.allow(Room::Reserve)?;
        self.session.begin_write(Survives::WithTheNext)?;
        let mut batch = Batch::new(self.marks);
        let (began, rows) = (Instant::now(), self.chores.rows);
        self.chores
            .sweep_some(&mut self.session, &mut batch.marks, rows)?;
        self.chores.had_time = true;
        let took = began.elapsed();
        self.session.set_marks(&batch.marks)?;
        self.session.commit()?;
        self.marks = batch.marks;
        self.chores
            .swept_alone(took, self.session.pages_of_last_commit());
        Ok(())
    }

    fn give_back_space(&mut self) -> Sql<()> {
        self.session.allow(Room::Reserve)?;
        let all = !self.chores.defragment.is_empty();
        let most = self.chores.pages_back;
        self.chores.gives_back = self.session.give_back_space(all, most)?;
        self.chores.gave_back(self.session.pages_of_last_commit());
        if !self.chores.gives_back {
            for reply in self.chores.defragment.drain(..) {
                drop(reply.send(Ok(Bytes::new())));
            }
        }
        Ok(())
    }
}
