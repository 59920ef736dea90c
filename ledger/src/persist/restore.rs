//! From records to the ledger.
//!
//! The head record first, then all others in the order of their keys, in pieces as they come. They
//! must have been read at one revision of the store.
//!
//! Invariant: a ledger comes out only if the records are complete and agree with the head record.

use super::body::{TailPart, decode_chunk, decode_tail};
use super::flush::{HEAD, Mark, chunk_key, hidden_key, tail_key};
use super::head::{Head, decode};
use super::record::{Damage, FORMAT, Kind};
use crate::directory::Directory;
use crate::ledger::{HIDDEN, HOLE, VISIBLE, symbol};
use crate::sequence::{Sequence, Symbol};
use crate::{Ledger, StoreInfo, StoreRev, StoreSlot, UnifiedRev};

/// No sequence is as long: what says so is damaged, and must not overflow.
const LIMIT: i64 = i64::MAX / 4;

/// Why there is no ledger.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the ledger has no head record")]
    NoHead,
    /// Upgrade this program, or bring the newer one back: nothing is damaged.
    #[error(
        "ledger record {record} has format {found}, and this program knows formats up to {known}: use a newer Keyloom"
    )]
    Newer {
        record: String,
        found: u8,
        known: u8,
    },
    #[error("ledger record {record} is damaged: {damage}")]
    Damaged { record: String, damage: Damage },
    #[error("ledger record {record} is missing")]
    Missing { record: String },
    #[error("ledger record {record} does not follow the one before it")]
    Gap { record: String },
    #[error("{record} is not a ledger record")]
    Unknown { record: String },
    #[error("the records of the ledger do not match its head record")]
    Disagree,
}

/// A ledger as it was persisted. What happened since is for [`recover`](crate::recover).
#[derive(Clone, Debug)]
pub struct Restored {
    pub ledger: Ledger,
    /// Nothing was given out after the last flush.
    pub clean: bool,
    /// The default store came from a backup, and the ledger with it: what was given out since is
    /// not known, whatever the record says of its end. Set by the caller.
    pub lost: bool,
    /// No `u` above it was given out. May be raised, when the default store came from a backup.
    pub reserved: UnifiedRev,
    /// As in the head record: the stamp says whose the leadership is.
    pub leadership: u64,
    /// Hidden writes above the persisted frontier: those that the head record lists, and itself. Any
    /// that the caller knows of beside must be added: what is not here counts as visible.
    pub hidden: Vec<StoreRev>,
    /// To flush from.
    pub mark: Mark,
}

/// A ledger that is being read.
#[derive(Debug)]
pub struct Restoring {
    head: Head,
    head_revision: StoreRev,
    order: Sequence,
    own: Sequence,
    next_tail: u64,
}

impl Ledger {
    /// Restores from all records at once, in the order of their keys. `head_revision` is the head
    /// record's `mod_revision`.
    pub fn restore<K: AsRef<str>, V: AsRef<[u8]>>(
        records: &[(K, V)],
        head_revision: StoreRev,
    ) -> Result<Restored, RestoreError> {
        let head = records.iter().find(|(key, _)| key.as_ref() == HEAD);
        let (_, head) = head.ok_or(RestoreError::NoHead)?;
        let mut restoring = Restoring::new(head.as_ref(), head_revision)?;
        for (key, record) in records {
            restoring.add(key.as_ref(), record.as_ref())?;
        }
        restoring.finish()
    }
}

impl Restoring {
    pub fn new(head: &[u8], head_revision: StoreRev) -> Result<Self, RestoreError> {
        let head = decode(head).map_err(|damage| refuse(HEAD, damage))?;
        let next_tail = head.first_tail;
        let (order, own) = (Sequence::default(), Sequence::default());
        Ok(Self {
            head,
            head_revision,
            order,
            own,
            next_tail,
        })
    }

    /// The next record; its key is without the ledger's prefix. The head record may come again.
    pub fn add(&mut self, key: &str, record: &[u8]) -> Result<(), RestoreError> {
        let number = key.split_once('/').and_then(|(_, n)| n.parse::<u64>().ok());
        match (key.split_once('/'), number) {
            (None, _) if key == HEAD => Ok(()),
            (Some(("chunk", _)), Some(n)) => {
                let expected = chunk_key(self.order.chunks().len());
                add_chunk(
                    &mut self.order,
                    self.head.chunks,
                    n,
                    (key, &expected),
                    Kind::Chunk,
                    record,
                )
            }
            (Some(("hidden", _)), Some(n)) => {
                let expected = hidden_key(self.own.chunks().len());
                let closed = self.head.hidden_chunks;
                add_chunk(
                    &mut self.own,
                    closed,
                    n,
                    (key, &expected),
                    Kind::Hidden,
                    record,
                )
            }
            (Some(("tail", _)), Some(_)) => self.add_tail(key, record),
            _ => Err(RestoreError::Unknown {
                record: key.to_owned(),
            }),
        }
    }

    fn add_tail(&mut self, key: &str, record: &[u8]) -> Result<(), RestoreError> {
        self.check_chunks()?;
        expect(key, &tail_key(self.next_tail))?;
        let tail = decode_tail(self.next_tail, record).map_err(|damage| refuse(key, damage))?;
        let follows = append(&mut self.order, &tail.order) && append(&mut self.own, &tail.own);
        self.next_tail += 1;
        if follows {
            Ok(())
        } else {
            Err(RestoreError::Gap {
                record: key.to_owned(),
            })
        }
    }

    pub fn finish(self) -> Result<Restored, RestoreError> {
        self.check_complete()?;
        let Self {
            head,
            head_revision,
            order,
            own,
            ..
        } = self;
        let mark = Mark {
            chunks: order.chunks().len(),
            hidden_chunks: own.chunks().len(),
            order: order.len(),
            own: own.len(),
            changes: 0,
            structure: 0,
            head: Some(head),
        };
        let head = mark.head.as_ref().ok_or(RestoreError::NoHead)?;
        let ledger = Ledger {
            directory: directory(head)?,
            start: UnifiedRev::new(head.start),
            order,
            own,
            compacted: UnifiedRev::new(head.compacted),
            changes: 0,
            structure: 0,
        };
        check_agreement(&ledger, head)?;
        let listed = head.hidden_above.iter().map(|r| StoreRev::new(*r));
        let frontier = ledger.frontier(StoreSlot::DEFAULT);
        let hidden = listed
            .chain([head_revision])
            .filter(|r| *r > frontier)
            .collect();
        let (clean, reserved, leadership) =
            (head.clean, UnifiedRev::new(head.reserved), head.leadership);
        Ok(Restored {
            ledger,
            clean,
            lost: false,
            reserved,
            leadership,
            hidden,
            mark,
        })
    }

    fn check_complete(&self) -> Result<(), RestoreError> {
        self.check_chunks()?;
        if self.next_tail == self.head.next_tail {
            return Ok(());
        }
        Err(RestoreError::Missing {
            record: tail_key(self.next_tail),
        })
    }

    fn check_chunks(&self) -> Result<(), RestoreError> {
        let (order, own) = (self.order.chunks().len(), self.own.chunks().len());
        let missing = if (order as u64) < self.head.chunks {
            chunk_key(order)
        } else if (own as u64) < self.head.hidden_chunks {
            hidden_key(own)
        } else {
            return Ok(());
        };
        Err(RestoreError::Missing { record: missing })
    }
}

fn add_chunk(
    sequence: &mut Sequence,
    closed: u64,
    number: u64,
    (key, expected): (&str, &str),
    kind: Kind,
    record: &[u8],
) -> Result<(), RestoreError> {
    if number >= closed {
        // Written ahead by a flush that was not completed.
        return Ok(());
    }
    expect(key, expected)?;
    let chunk =
        decode_chunk(kind, number as usize, record).map_err(|damage| refuse(key, damage))?;
    let follows = chunk.start == sequence.len() && sequence.closed() == sequence.len();
    if !follows || chunk.len > LIMIT - sequence.len() {
        return Err(RestoreError::Gap {
            record: key.to_owned(),
        });
    }
    sequence.push_chunk(chunk);
    Ok(())
}

fn append(sequence: &mut Sequence, piece: &TailPart) -> bool {
    piece.start == sequence.len()
        && piece.runs.iter().all(|run| {
            let fits = run.len <= LIMIT - sequence.len();
            if fits {
                sequence.append(run.symbol, run.len);
            }
            fits
        })
}

fn expect(key: &str, expected: &str) -> Result<(), RestoreError> {
    if key == expected {
        return Ok(());
    }
    Err(RestoreError::Missing {
        record: expected.to_owned(),
    })
}

pub(super) fn refuse(record: &str, damage: Damage) -> RestoreError {
    let record = record.to_owned();
    match damage {
        Damage::Newer { found } => RestoreError::Newer {
            record,
            found,
            known: FORMAT,
        },
        Damage::Checksum | Damage::Kind | Damage::Content => {
            RestoreError::Damaged { record, damage }
        }
    }
}

fn directory(head: &Head) -> Result<Directory, RestoreError> {
    let mut directory = Directory::default();
    for store in &head.stores {
        let info = StoreInfo {
            name: store.name.clone(),
            cluster_id: store.cluster_id,
            identity: StoreRev::new(store.identity),
            floor: UnifiedRev::new(store.floor),
            settled: !store.unsettled,
            retired: store.retired,
        };
        directory.add(info).map_err(|_| RestoreError::Disagree)?;
    }
    Ok(directory)
}

fn check_agreement(ledger: &Ledger, head: &Head) -> Result<(), RestoreError> {
    let stores = head.stores.len() as Symbol;
    let counted: i64 = (HOLE..=stores)
        .map(|symbol| ledger.order.count(symbol))
        .sum();
    let own = ledger.own.count(VISIBLE) + ledger.own.count(HIDDEN);
    let default = ledger.order.count(symbol(StoreSlot::DEFAULT));
    let agree = ledger.head().get() == head.head
        && counted == ledger.order.len()
        && own == ledger.own.len()
        && default == ledger.own.count(VISIBLE)
        && ledger.order.chunks().len() as u64 == head.chunks
        && ledger.own.chunks().len() as u64 == head.hidden_chunks
        && ledger
            .stores()
            .zip(&head.stores)
            .all(|((slot, _), store)| ledger.frontier(slot).get() == store.frontier);
    if agree {
        Ok(())
    } else {
        Err(RestoreError::Disagree)
    }
}
