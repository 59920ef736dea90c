//! Events that have their place in the one order, shared by every watcher.

use std::sync::{Arc, OnceLock};

use keyloom_etcd_api::wire::{EncodedEvent, Header, RawEvent, RevisionField, Rewrite, WireError};
use keyloom_ledger::{StoreRev, StoreSlot, UnifiedRev};

use crate::{Group, OrderView};

/// What an allocation costs beside its bytes, roughly: the allocator's own, and what it rounds up.
const ALLOCATION: usize = 16;

/// What a group costs beside its events: in an allocation, named by the history, which may have as
/// many places again free, and its list of events.
const GROUP: usize = size_of::<PlacedGroup>()
    + 2 * size_of::<usize>()
    + 2 * size_of::<Arc<PlacedGroup>>()
    + 2 * ALLOCATION;

/// What an event costs beside its bytes, of which there are two copies: as it came and as it is
/// sent.
const EVENT: usize = size_of::<Event>() + 2 * ALLOCATION;

/// All events of one revision that clients can see, with its place. Never empty.
#[derive(Debug)]
pub(crate) struct PlacedGroup {
    pub(crate) slot: StoreSlot,
    pub(crate) revision: StoreRev,
    pub(crate) unified: UnifiedRev,
    pub(crate) events: Box<[Event]>,
    /// Whether the events carry what they replaced.
    pub(crate) with_previous: bool,
    /// What it takes in memory, roughly.
    pub(crate) bytes: usize,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) raw: RawEvent,
    /// With unified revisions: made for the first watcher, shared by all.
    encoded: OnceLock<EncodedEvent>,
}

/// Why an event cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("unreadable event: {0}")]
    Wire(#[from] WireError),
    /// No working store sends that.
    #[error("an event holds revision {0}, which the store never reached")]
    Unknown(i64),
}

impl PlacedGroup {
    pub(crate) fn new(slot: StoreSlot, unified: UnifiedRev, group: Group) -> Self {
        let Group {
            revision,
            events,
            with_previous,
        } = group;
        let sizes = events.iter().map(|event| 2 * event.len() + EVENT);
        let bytes = GROUP + sizes.sum::<usize>();
        let event = |raw| Event {
            raw,
            encoded: OnceLock::new(),
        };
        Self {
            slot,
            revision,
            unified,
            events: events.into_iter().map(event).collect(),
            with_previous,
            bytes,
        }
    }
}

impl PlacedGroup {
    /// Gives its last event a revision of its own: a bug to plant.
    pub(crate) fn tear(&self, order: &dyn OrderView) {
        let [_, .., last] = &self.events[..] else {
            return;
        };
        if let Ok(torn) = last.rewritten(self.slot, order, 1) {
            last.encoded.get_or_init(|| torn);
        }
    }
}

impl Event {
    /// The event with unified revisions.
    pub(crate) fn encoded(
        &self,
        slot: StoreSlot,
        order: &dyn OrderView,
    ) -> Result<&EncodedEvent, EncodeError> {
        if let Some(encoded) = self.encoded.get() {
            return Ok(encoded);
        }
        let encoded = self.rewritten(slot, order, 0)?;
        Ok(self.encoded.get_or_init(|| encoded))
    }

    /// With every revision so much later: by nothing, but for a bug that is planted.
    fn rewritten(
        &self,
        slot: StoreSlot,
        order: &dyn OrderView,
        later: i64,
    ) -> Result<EncodedEvent, EncodeError> {
        let mut outward = Outward {
            slot,
            order,
            later,
            unknown: None,
        };
        let encoded = self.raw.rewritten(&mut outward)?;
        match outward.unknown {
            Some(revision) => Err(EncodeError::Unknown(revision)),
            None => Ok(encoded),
        }
    }
}

struct Outward<'a> {
    slot: StoreSlot,
    order: &'a dyn OrderView,
    later: i64,
    unknown: Option<i64>,
}

impl Rewrite for Outward<'_> {
    fn header(&mut self, header: Header) -> Header {
        header
    }

    fn revision(&mut self, _: RevisionField, revision: i64) -> i64 {
        match self.order.unified(self.slot, StoreRev::new(revision)) {
            Some(unified) => unified.get() + self.later,
            None => {
                self.unknown = Some(revision);
                revision
            }
        }
    }
}

/// What of a group one range holds. Never nothing.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) group: Arc<PlacedGroup>,
    picked: Picked,
}

#[derive(Clone, Debug)]
enum Picked {
    All,
    Some(Arc<[usize]>),
}

impl Entry {
    /// What one takes in a queue, which may have as many places again free.
    pub(crate) const SIZE: usize = size_of::<Self>() * 3 / 2;

    /// Those events whose keys `holds`; `None` where there are none.
    pub(crate) fn pick(group: &Arc<PlacedGroup>, holds: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let events = group.events.iter().enumerate();
        let picked: Vec<usize> = events
            .filter(|(_, event)| holds(event.raw.key()))
            .map(|(at, _)| at)
            .collect();
        if picked.is_empty() {
            return None;
        }
        let picked = if picked.len() == group.events.len() {
            Picked::All
        } else {
            Picked::Some(picked.into())
        };
        Some(Self {
            group: Arc::clone(group),
            picked,
        })
    }

    pub(crate) fn unified(&self) -> UnifiedRev {
        self.group.unified
    }

    pub(crate) fn revision(&self) -> StoreRev {
        self.group.revision
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        let count = match &self.picked {
            Picked::All => self.group.events.len(),
            Picked::Some(picked) => picked.len(),
        };
        (0..count).filter_map(move |number| {
            let at = match &self.picked {
                Picked::All => number,
                Picked::Some(picked) => *picked.get(number)?,
            };
            self.group.events.get(at)
        })
    }

    /// How many bytes the entry takes in an answer, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.events().map(|event| event.raw.len()).sum()
    }
}
