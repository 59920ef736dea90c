//! From the ledger to records: what has to be written since the last flush.
//!
//! Invariant: a [`Flush`] fits into one etcd transaction (under 100 operations and 1 MiB). What does not fit is written ahead by flushes that leave the persisted state as it was.

use super::body::{Tail, TailPart, encode_chunk, encode_tail};
use super::head::{Head, Store, encode};
use super::record::Kind;
use crate::sequence::{Chunk, Sequence};
use crate::{Ledger, StoreRev, StoreSlot, UnifiedRev};

/// The head record's key under the ledger's prefix. A flush is compared with its `mod_revision`.
pub const HEAD: &str = "head";

/// Chunks in one flush. (The unit tests want to see every path soon.)
const MAX_CHUNKS: usize = if cfg!(test) { 2 } else { 60 };
/// Bytes of chunks in one flush; a tail and the directory come on top.
const MAX_BYTES: usize = 512 * 1024;
/// From so many tails on the next flush makes one of them.
const MAX_TAILS: u64 = if cfg!(test) { 4 } else { 32 };

/// What the writer of a flush says beside the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seal {
    /// Nothing is given out after this flush.
    pub clean: bool,
    /// No `u` above it will be given out before the next flush that says more.
    pub reserved: UnifiedRev,
    /// As in the head record: the stamp says whose the leadership is.
    pub leadership: u64,
}

/// What is persisted. Belongs to one ledger and its descendants.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Mark {
    /// The last head record; none before the first.
    pub(super) head: Option<Head>,
    /// Chunks that were written, also ahead.
    pub(super) chunks: usize,
    pub(super) hidden_chunks: usize,
    /// How far the persisted state goes in each sequence.
    pub(super) order: i64,
    pub(super) own: i64,
    /// [`Ledger::changes`] at the last complete flush.
    pub(super) changes: u64,
    /// [`Ledger::structure`] at the last complete flush.
    pub(super) structure: u64,
}

impl Mark {
    /// Nothing is persisted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store's frontier in the persisted state, above which nothing of it may be compacted; none if
    /// the store is not persisted.
    pub fn frontier(&self, slot: StoreSlot) -> Option<StoreRev> {
        let store = self.head.as_ref()?.stores.get(usize::from(slot.get()))?;
        Some(StoreRev::new(store.frontier))
    }

    /// The head of the persisted state.
    pub fn head(&self) -> Option<UnifiedRev> {
        self.head.as_ref().map(|head| UnifiedRev::new(head.head))
    }

    /// How many flushes there have been.
    pub fn sequence(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.sequence)
    }
}

/// One transaction's worth of writing. Keys are without the ledger's prefix.
#[derive(Clone, PartialEq, Debug)]
pub struct Flush {
    pub puts: Vec<(String, Vec<u8>)>,
    pub deletes: Vec<String>,
    /// What is persisted once this is written; the next flush starts from it.
    pub mark: Mark,
    /// False: the persisted state is still the old one, and another flush has to follow.
    pub complete: bool,
}

pub(super) fn chunk_key(number: usize) -> String {
    format!("chunk/{number:010}")
}

pub(super) fn hidden_key(number: usize) -> String {
    format!("hidden/{number:010}")
}

pub(super) fn tail_key(number: u64) -> String {
    format!("tail/{number:010}")
}

impl Ledger {
    /// Whether anything but hidden writes has come since. (Each flush is a hidden write itself: if
    /// that counted, flushing would never end.)
    pub fn needs_flush(&self, from: &Mark) -> bool {
        from.head.is_none() || from.order != self.order.len() || from.changes != self.changes
    }

    /// Whether nothing above [`Mark::head`] may be given out before a complete flush, because a
    /// recovery from `from` would take it for something else: it cannot tell from the stores that one
    /// was added, revived or has returned, that its floor was raised, or that a hole was made; and
    /// what says that the end was
    /// clean, or that there never was a second store, must not be what a crash leaves behind.
    pub fn must_flush(&self, from: &Mark) -> bool {
        let misleads = match &from.head {
            Some(head) => head.clean,
            None => self.directory.iter().nth(1).is_some(),
        };
        misleads || from.structure != self.structure
    }

    /// What has to be written to bring the persisted state from `from` to here. The revision of that
    /// write is then to be [hidden](Self::hide).
    pub fn flush(&self, from: &Mark, seal: &Seal) -> Flush {
        let mut next = Flush {
            puts: Vec::new(),
            deletes: Vec::new(),
            mark: from.clone(),
            complete: true,
        };
        let mut room = Room {
            chunks: MAX_CHUNKS,
            bytes: MAX_BYTES,
        };
        for (number, chunk) in unwritten(&self.order, from.chunks) {
            if !room.put(&mut next, chunk_key(number), || {
                encode_chunk(Kind::Chunk, number, chunk)
            }) {
                break;
            }
            next.mark.chunks += 1;
        }
        for (number, chunk) in unwritten(&self.own, from.hidden_chunks) {
            if !room.put(&mut next, hidden_key(number), || {
                encode_chunk(Kind::Hidden, number, chunk)
            }) {
                break;
            }
            next.mark.hidden_chunks += 1;
        }
        if next.complete {
            self.finish(&mut next, seal)
        } else {
            self.write_ahead(&mut next, seal)
        }
        if let Some(head) = &next.mark.head {
            next.puts.push((HEAD.to_owned(), encode(head)));
        }
        next
    }

    /// The persisted state stays, but what only makes a recovery from it more careful is written: the
    /// reservation, and the hidden writes above it that are known.
    fn write_ahead(&self, next: &mut Flush, seal: &Seal) {
        if let Some(head) = &mut next.mark.head {
            head.sequence += 1;
            head.reserved = head.reserved.max(seal.reserved.get());
            head.leadership = seal.leadership;
            head.hidden_above = self.hidden_from(next.mark.own).map(StoreRev::get).collect();
        }
    }

    fn finish(&self, next: &mut Flush, seal: &Seal) {
        let old = next.mark.head.take().unwrap_or_default();
        let mut head = self.head_record(&old, seal);
        let closed = (old.chunks, old.hidden_chunks) != (head.chunks, head.hidden_chunks);
        let together = closed || old.next_tail - old.first_tail >= MAX_TAILS;
        let tail = if together {
            next.deletes = (old.first_tail..old.next_tail).map(tail_key).collect();
            head.first_tail = old.next_tail;
            self.tail_from(self.order.closed(), self.own.closed())
        } else {
            self.tail_from(next.mark.order, next.mark.own)
        };
        if !tail.order.runs.is_empty() || !tail.own.runs.is_empty() {
            let record = encode_tail(head.next_tail, &tail);
            next.puts.push((tail_key(head.next_tail), record));
            head.next_tail += 1;
        }
        next.mark.head = Some(head);
        next.mark.order = self.order.len();
        next.mark.own = self.own.len();
        next.mark.changes = self.changes;
        next.mark.structure = self.structure;
    }

    fn tail_from(&self, order: i64, own: i64) -> Tail {
        Tail {
            order: TailPart::of(&self.order, order),
            own: TailPart::of(&self.own, own),
        }
    }

    fn head_record(&self, old: &Head, seal: &Seal) -> Head {
        Head {
            sequence: old.sequence + 1,
            start: self.start.get(),
            head: self.head().get(),
            reserved: seal.reserved.get(),
            compacted: self.compacted.get(),
            chunks: self.order.chunks().len() as u64,
            hidden_chunks: self.own.chunks().len() as u64,
            first_tail: old.first_tail,
            next_tail: old.next_tail,
            clean: seal.clean,
            leadership: seal.leadership,
            stores: self.store_records().collect(),
            hidden_above: Vec::new(),
        }
    }

    fn store_records(&self) -> impl Iterator<Item = Store> {
        self.directory.iter().map(|(slot, info)| Store {
            name: info.name.clone(),
            cluster_id: info.cluster_id,
            identity: info.identity.get(),
            floor: info.floor.get(),
            frontier: self.frontier(slot).get(),
            unsettled: !info.settled,
            retired: info.retired,
        })
    }
}

fn unwritten(sequence: &Sequence, from: usize) -> impl Iterator<Item = (usize, &Chunk)> {
    sequence.chunks().iter().enumerate().skip(from)
}

/// What still fits.
struct Room {
    chunks: usize,
    bytes: usize,
}

impl Room {
    /// Puts a chunk if it fits; once one did not, none does.
    fn put(&mut self, next: &mut Flush, key: String, record: impl FnOnce() -> Vec<u8>) -> bool {
        let record = if next.complete && self.chunks > 0 {
            record()
        } else {
            Vec::new()
        };
        if record.is_empty() || record.len() > self.bytes {
            next.complete = false;
            return false;
        }
        self.chunks -= 1;
        self.bytes -= record.len();
        next.puts.push((key, record));
        true
    }
}
