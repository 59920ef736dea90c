//! Batches: one SQL transaction for many requests.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    mvccpb::{Event, event::EventType},
};
use keyloom_store::CallError;

use std::sync::atomic::Ordering;

use super::{Asked, Writer};
use crate::{
    error::{FaultKind, SqlFault, Stop},
    feed::{Revision, apart},
    key_counts::Move,
    kv::Changed,
    session::{At, ChangeSeq, CountChanges, Marks, Room, Session, Sql, Survives, Values},
    usage::Delta,
};

/// What a batch has done so far, not yet committed.
#[derive(Debug)]
pub(super) struct Batch {
    /// Where the store will stand.
    pub(super) marks: Marks,
    /// Whether there is anything to commit.
    pub(super) dirty: bool,
    room: Room,
    /// What becomes of the counts.
    counts: CountChanges,
    revisions: Vec<Revision>,
    deltas: Vec<Delta>,
}

/// Why a batch has no answers.
#[derive(Debug)]
pub(super) enum Lost {
    /// The database failed before the commit: nothing happened.
    Before(SqlFault),
    /// The commit failed: what was written may or may not be there.
    Commit(SqlFault),
}

impl Lost {
    pub(super) fn error(&self) -> CallError {
        match self {
            Self::Before(fault) => fault.refusal(),
            Self::Commit(fault) => CallError::Unknown(fault.to_string()),
        }
    }

    fn fault(&self) -> &SqlFault {
        let (Self::Before(fault) | Self::Commit(fault)) = self;
        fault
    }
}

/// The answers of a batch, in the order of its requests.
pub(super) type Answers = Vec<Result<Bytes, CallError>>;

impl Batch {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            dirty: false,
            room: Room::Quota,
            counts: CountChanges::default(),
            revisions: Vec::new(),
            deltas: Vec::new(),
        }
    }

    /// Takes a finished transaction. It has a revision only if it changed something.
    pub(super) fn take(&mut self, changes: Vec<Changed>, with_prev: bool) {
        if changes.is_empty() {
            return;
        }
        self.dirty = true;
        self.marks.revision += 1;
        self.marks.next_place.0 += i64::try_from(changes.len()).unwrap_or(i64::MAX);
        self.deltas.extend(changes.iter().map(delta));
        let mut events: Vec<_> = changes.into_iter().map(event).collect();
        // They replace the changes, which are larger.
        events.shrink_to_fit();
        self.revisions.push(Revision {
            revision: self.marks.revision,
            events,
            with_prev,
        });
    }
}

impl Batch {
    /// The keys that came and went. There is a delta for each change, in the order of places.
    fn moves(&self, before: Marks) -> impl Iterator<Item = Move> {
        let places = (before.next_place.0..).map(ChangeSeq);
        let moved = places
            .zip(&self.deltas)
            .filter(|(_, delta)| delta.objects != 0);
        moved.map(|(place, delta)| Move {
            place,
            key: delta.key.clone(),
            difference: delta.objects,
        })
    }
}

fn delta(change: &Changed) -> Delta {
    let key = i64::try_from(change.kv.key.len()).unwrap_or(i64::MAX);
    let value = i64::try_from(change.kv.value.len()).unwrap_or(i64::MAX);
    let (objects, bytes) = match (&change.before, change.is_deletion()) {
        (None, true) => (0, 0),
        (None, false) => (1, key + value),
        (Some(before), false) => (0, value - before.size),
        (Some(before), true) => (-1, -key - before.size),
    };
    Delta {
        key: change.kv.key.clone(),
        objects,
        bytes,
    }
}

fn event(change: Changed) -> Event {
    let kind = if change.is_deletion() {
        EventType::Delete
    } else {
        EventType::Put
    };
    Event {
        r#type: kind.into(),
        kv: Some(apart(change.kv)),
        prev_kv: change.prev_kv.map(apart),
    }
}

fn room(asked: &[Asked]) -> Room {
    if asked.iter().all(|(request, _)| request.makes_room()) {
        Room::Reserve
    } else {
        Room::Quota
    }
}

/// The living keys of a range.
fn keys<S: Session>(session: &mut S, range: &KeyRange) -> Sql<Vec<Bytes>> {
    let mut keys = Vec::new();
    session.scan(range, At::Now, Values::Leave, &mut |row| {
        keys.push(Bytes::copy_from_slice(row.key));
        true
    })?;
    Ok(keys)
}

impl<S: Session> Writer<S> {
    /// Runs requests that share a commit.
    pub(super) fn run(&mut self, asked: &[Asked]) -> Result<Answers, Lost> {
        let before = self.marks;
        let outcome = self.try_run(asked);
        match &outcome {
            Ok(_) => self.shared.metrics.batches.observe(asked.len() as f64),
            Err(lost) => self.recover(lost.fault()),
        }
        match outcome {
            // The log had no room for all of it, the mark of the commit comes last, and a look at
            // the database has not found it: it did not happen and never will.
            Err(Lost::Commit(fault))
                if fault.kind == FaultKind::Full && self.sound && self.marks == before =>
            {
                Err(Lost::Before(fault))
            }
            outcome => outcome,
        }
    }

    /// Runs each request in a transaction of its own, so that one that the database cannot do
    /// does not take the others with it.
    pub(super) fn run_alone(&mut self, asked: &[Asked]) -> Answers {
        let one = |asked| {
            let outcome = self.run(std::slice::from_ref(asked));
            outcome.unwrap_or_else(|lost| vec![Err(lost.error())])
        };
        asked.iter().flat_map(one).collect()
    }

    fn try_run(&mut self, asked: &[Asked]) -> Result<Answers, Lost> {
        let (batch, answers) = self.before_commit(asked).map_err(Lost::Before)?;
        if batch.dirty {
            self.session.commit().map_err(Lost::Commit)?;
            self.publish(batch);
        } else {
            self.session.rollback();
        }
        Ok(answers)
    }

    fn before_commit(&mut self, asked: &[Asked]) -> Sql<(Batch, Answers)> {
        if !self.sound {
            self.load(false)?;
        }
        let room = room(asked);
        self.session.allow(room)?;
        self.session.begin_write(Survives::Power)?;
        let marks = self.session.marks()?;
        if marks != self.marks {
            tracing::error!(
                store = %self.shared.origin, ours = ?self.marks, found = ?marks,
                "another program has written to the database; its state is read again",
            );
            self.load(false)?;
            self.session.begin_write(Survives::Power)?;
        }
        let mut batch = Batch::new(self.marks);
        batch.room = room;
        let mut answers = Vec::with_capacity(asked.len());
        for (request, reply) in asked {
            if reply.is_closed() {
                // It waited for too long, perhaps just now for a lock. Nobody would know of it.
                answers.push(Err(CallError::TimedOut));
                continue;
            }
            answers.push(match self.apply(&mut batch, request) {
                Ok(answer) => Ok(answer),
                Err(Stop::Sql(fault)) => return Err(fault),
                Err(stop) => Err(stop.refusal()),
            });
        }
        if batch.dirty {
            self.chores
                .sweep_along(&mut self.session, &mut batch.marks, asked.len())?;
            self.session.set_marks(&batch.marks)?;
            self.count(&mut batch)?;
        }
        Ok((batch, answers))
    }

    /// Finds out what the batch makes of the counts, and keeps it.
    fn count(&mut self, batch: &mut Batch) -> Sql<()> {
        if batch.deltas.is_empty() {
            return Ok(());
        }
        let moved = batch.deltas.iter().filter(|delta| delta.objects != 0);
        let moves = moved.map(|delta| (&delta.key[..], delta.objects));
        let session = &mut self.session;
        let blocks = self
            .shared
            .key_counts
            .plan(moves, |range| keys(session, range))?;
        batch.counts = CountChanges {
            blocks,
            classes: self.shared.usages.plan(batch.deltas.iter()),
        };
        if self.keeps_counts {
            self.session.set_counts(&batch.counts, false)?;
        }
        Ok(())
    }

    /// Shows what was committed, first to those who must know it before anybody is answered.
    pub(super) fn publish(&mut self, mut batch: Batch) {
        let before = std::mem::replace(&mut self.marks, batch.marks);
        let compacted = before.compacted != self.marks.compacted;
        let shared = self.shared.clone();
        shared.note(self.marks.revision);
        let CountChanges { blocks, classes } = std::mem::take(&mut batch.counts);
        shared
            .key_counts
            .follow(&self.marks, blocks, batch.moves(before));
        shared.usages.follow(classes);
        shared.feed.follow(batch.revisions, self.marks.compacted);
        if batch.room == Room::Quota {
            shared.full.store(false, Ordering::Relaxed);
        }
        self.chores.committed();
        if compacted && let Err(fault) = self.chores.begin_sweep(&mut self.session, &self.marks) {
            // The next opening begins it.
            tracing::warn!(%fault, "compacted revisions could not be removed; the next start tries again");
        }
        self.show();
    }

    /// After an error: back to what is committed, as far as it can be read.
    pub(super) fn recover(&mut self, fault: &SqlFault) {
        self.note(fault);
        self.session.rollback();
        self.sound = false;
        if let Err(fault) = self.load(false) {
            tracing::error!(%fault, "the state could not be read again; the next write tries");
        }
    }
}
