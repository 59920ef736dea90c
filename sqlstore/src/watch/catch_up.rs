//! Reading events from the history, for watches that the feed has left behind.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    mvccpb::{Event, KeyValue, event::EventType},
};

use crate::{
    error::Stop,
    feed::{Revision, event_bytes},
    session::{ChangeSeq, Row, Session, Sql, Values},
};

/// So many rows are looked at in one read, wanted or not.
const MOST_ROWS: usize = 20_000;

/// What is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) from: i64,
    /// Nothing above it.
    pub(crate) to: i64,
    pub(crate) ranges: Vec<KeyRange>,
    pub(crate) with_prev: bool,
    /// Ends with the revision that goes beyond it.
    pub(crate) bytes: usize,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum CaughtUp {
    /// Every wanted event from the start up to a revision.
    To(i64, Vec<Revision>),
    /// The start can no longer be read; here is what can.
    Compacted(i64),
}

/// Reads whole revisions.
pub(crate) fn catch_up<S: Session>(session: &mut S, ask: &Ask) -> Result<CaughtUp, Stop> {
    let marks = session.marks()?;
    if ask.from < marks.compacted {
        return Ok(CaughtUp::Compacted(marks.compacted));
    }
    let before = session.seq_at(ask.from - 1, &marks)?;
    let mut chunk = Chunk {
        ask,
        reached: ask.to.min(marks.revision),
        ..Chunk::new(ask)
    };
    session.changes(
        before,
        ChangeSeq(i64::MAX),
        Values::Read,
        &mut |place, row| chunk.take(place, row),
    )?;
    let Chunk {
        reached,
        mut revisions,
        places,
        ..
    } = chunk;
    if ask.with_prev {
        let events = revisions
            .iter_mut()
            .flat_map(|revision| &mut revision.events);
        for (event, place) in events.zip(places) {
            event.prev_kv = prev_kv(session, event, place)?;
        }
    }
    Ok(CaughtUp::To(reached, revisions))
}

/// What a key was before the revision that begins at a place; `None` where it was not there, or is swept.
fn prev_kv<S: Session>(session: &mut S, event: &Event, place: ChangeSeq) -> Sql<Option<KeyValue>> {
    let Some(kv) = event.kv.as_ref().filter(|kv| kv.version != 1) else {
        return Ok(None);
    };
    let before = session.last_change(&kv.key, ChangeSeq(place.0 - 1))?;
    Ok(before.filter(|before| before.version != 0))
}

struct Chunk<'a> {
    ask: &'a Ask,
    revisions: Vec<Revision>,
    /// Of each event: the place of its revision's first change. What was before is before that.
    places: Vec<ChangeSeq>,
    first: ChangeSeq,
    rows: usize,
    bytes: usize,
    /// Of the last row.
    revision: i64,
    reached: i64,
}

impl<'a> Chunk<'a> {
    fn new(ask: &'a Ask) -> Self {
        let (revisions, places) = (Vec::new(), Vec::new());
        let first = ChangeSeq(0);
        Self {
            ask,
            revisions,
            places,
            first,
            rows: 0,
            bytes: 0,
            revision: 0,
            reached: 0,
        }
    }

    /// Takes a row; `false` where the chunk is full, which it can be only between revisions.
    fn take(&mut self, place: ChangeSeq, row: &Row<'_>) -> bool {
        if row.mod_revision > self.reached {
            return false;
        }
        if row.mod_revision != self.revision {
            if self.bytes > self.ask.bytes || self.rows > MOST_ROWS {
                self.reached = self.revision;
                return false;
            }
            self.revision = row.mod_revision;
            self.first = place;
        }
        self.rows += 1;
        if self.ask.ranges.iter().any(|range| range.contains(row.key)) {
            let event = event(row);
            self.bytes += event_bytes(&event);
            self.places.push(self.first);
            self.push(event);
        }
        true
    }

    fn push(&mut self, event: Event) {
        match self.revisions.last_mut() {
            Some(last) if last.revision == self.revision => last.events.push(event),
            _ => self.revisions.push(Revision {
                revision: self.revision,
                events: vec![event],
                with_prev: self.ask.with_prev,
            }),
        }
    }
}

fn event(row: &Row<'_>) -> Event {
    let kind = if row.is_deletion() {
        EventType::Delete
    } else {
        EventType::Put
    };
    let kv = if row.is_deletion() {
        KeyValue {
            key: Bytes::copy_from_slice(row.key),
            mod_revision: row.mod_revision,
            ..KeyValue::default()
        }
    } else {
        row.to_key_value()
    };
    Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}
