//! What the writer does besides writing: sweeping behind a compaction, and giving space back.
//!
//! In slices, a few milliseconds each: one along with each batch, or alone while nobody waits.
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
    session::{Marks, Place, Session, Sql},
};

/// A slice that takes longer than this makes the next one smaller.
const LONG: Duration = Duration::from_millis(2);

/// How long chores rest after a fault.
const AFTER_A_FAULT: Duration = Duration::from_secs(5);

const FEWEST_ROWS: i64 = 32;
const MOST_ROWS: i64 = 500;
const ROWS_AT_FIRST: i64 = 256;

/// A sweep behind a compaction.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    revision: i64,
    /// Up to here it is done.
    at: Place,
    /// The last change at or below the compacted revision: the sweep's end.
    end: Place,
    /// The last change below it: the next sweep begins there, to take the deletions that this
    /// one has to leave.
    next: Place,
}

#[derive(Debug)]
pub(super) struct Chores {
    sweep: Option<Sweep>,
    rows: i64,
    gives_back: bool,
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
            gives_back: true,
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
        let end = session.place_at(marks.compacted, marks)?;
        let next = session.place_at(marks.compacted - 1, marks)?;
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

    /// A slice of the sweep, as part of a transaction that is under way anyway.
    pub(super) fn sweep_along<S: Session>(
        &mut self,
        session: &mut S,
        marks: &mut Marks,
    ) -> Sql<()> {
        let Some(sweep) = self.sweep.filter(|_| self.may_work()) else {
            return Ok(());
        };
        let began = Instant::now();
        let to = Place((sweep.at.0 + self.rows).min(sweep.end.0));
        if let Err(fault) = session.sweep(sweep.at, to, sweep.revision) {
            self.failed(&fault);
            self.spoiled_a_batch = true;
            return Err(fault);
        }
        marks.swept = to.min(sweep.next).max(marks.swept);
        let took = began.elapsed();
        if took > LONG {
            self.rows = (self.rows / 2).max(FEWEST_ROWS);
        } else if took < LONG / 2 {
            self.rows = (self.rows * 2).min(MOST_ROWS);
        }
        // Should the transaction fail, the sweep begins anew from the marks.
        self.sweep = (to < sweep.end).then_some(Sweep { at: to, ..sweep });
        self.gives_back |= self.sweep.is_none();
        Ok(())
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
        self.session.begin_write()?;
        let mut batch = Batch::new(self.marks);
        self.chores
            .sweep_along(&mut self.session, &mut batch.marks)?;
        self.session.set_marks(&batch.marks)?;
        self.session.commit()?;
        self.marks = batch.marks;
        Ok(())
    }

    fn give_back_space(&mut self) -> Sql<()> {
        let all = !self.chores.defragment.is_empty();
        self.chores.gives_back = self.session.give_back_space(all)?;
        if !self.chores.gives_back {
            for reply in self.chores.defragment.drain(..) {
                drop(reply.send(Ok(Bytes::new())));
            }
        }
        Ok(())
    }
}
