//! One store's part of a `DeleteRange` over several.
//!
//! A part is deleted by one write, atomically. Where routes cut it into intervals, that is one
//! transaction. Where each key must be asked (regular expressions), the keys are scanned first,
//! and then deleted by a transaction that is guarded: it does nothing if a key came into the range
//! after the scan, which then is repeated.
//!
//! ```text
//!             whole, intervals
//!   start ───────────────────────────────► Write ──► Done
//!     │ filter                               ▲ ▲
//!     └──► Scan ──(pages)──► no keys: Done   │ │
//!            ▲ └───────────────────────────► Guarded ──► Done
//!            └───── a key came in between ─────┘
//! ```
//!
//! No write is named twice: a guarded transaction that was refused by its guard wrote nothing, and
//! every other answer ends the part.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange, Rpc,
    etcdserverpb::{
        Compare, DeleteRangeRequest, RangeRequest, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
    },
    wire::{RangeAnswer, RawKv, WireError},
};
use keyloom_topology::{Cuts, Part, StoreIndex};
use prost::Message as _;

use crate::{
    ops::{self, MAX_TXN_OPS},
    read::SCAN_PAGE,
    routes::Routes,
    shadow,
};

/// How often a part is scanned before it is given up.
pub const MAX_SCANS: u32 = 8;

/// Why a part was not deleted. Where the fault is not in an answer to a write, nothing was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// Keys of other stores lie between the keys to delete in too many places.
    #[error(
        "etcdserver: keyloom: delete on store {store:?} needs more than {MAX_TXN_OPS} operations; \
         nothing was deleted there"
    )]
    TooScattered { store: String },
    /// New keys came into the range during each of [`MAX_SCANS`] scans.
    #[error(
        "etcdserver: keyloom: others kept writing keys into the range to delete on store {store:?}; \
         nothing was deleted there"
    )]
    Contended { store: String },
    #[error("unreadable answer to a delete: {0}")]
    Wire(#[from] WireError),
    /// Not one response for each operation, of its kind.
    #[error("the responses do not match the operations of the transaction")]
    Responses,
    #[error("keys are out of order or outside the requested range")]
    Disorder,
    /// The part was finished while there were calls to make.
    #[error("the answer was taken before the part was deleted")]
    Unfinished,
}

/// What was deleted on one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartDeleted {
    pub store: StoreIndex,
    pub deleted: i64,
    /// In the order of keys, where they were asked for.
    pub prev_kvs: Vec<RawKv>,
    /// The store revision of the write; `None` where nothing was there to delete.
    pub revision: Option<i64>,
}

/// The deletion of one part.
#[derive(Clone, Debug)]
pub struct PartDelete {
    part: Part,
    prev_kv: bool,
    scans: u32,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Deletes these ranges.
    Write(Vec<KeyRange>),
    /// Reads the keys of the hull.
    Scan(Scan),
    /// Deletes these ranges if no key was created in the hull above the revision.
    Guarded {
        ranges: Vec<KeyRange>,
        scanned: i64,
    },
    Done(PartDeleted),
}

/// A scan of the hull, by pages at one revision.
#[derive(Clone, Debug)]
struct Scan {
    from: Bytes,
    /// The revision of the first page; 0 before it.
    revision: i64,
    /// What to delete: the longest runs of keys without another store's key among them.
    runs: Vec<KeyRange>,
    /// Whether the next key of this store goes on with the last run.
    open: bool,
}

impl PartDelete {
    #[must_use]
    pub fn new(part: Part, prev_kv: bool) -> Self {
        let state = match &part.cuts {
            Cuts::Whole => State::Write(vec![part.hull.clone()]),
            Cuts::Intervals(intervals) if intervals.is_empty() => State::Done(nothing(&part)),
            Cuts::Intervals(intervals) => State::Write(intervals.clone()),
            Cuts::Filter => State::Scan(Scan::of(&part)),
        };
        Self {
            part,
            prev_kv,
            scans: 1,
            state,
        }
    }

    /// The next call to make; `None` when the part is deleted.
    ///
    /// Whether a call is a write decides what may be done when its answer does not come:
    /// [`PartDelete::is_write`].
    #[must_use]
    pub fn next(&self) -> Option<(Rpc, Bytes)> {
        match &self.state {
            State::Write(ranges) => match ranges.as_slice() {
                [only] => {
                    let delete = self.delete(only);
                    Some((Rpc::DeleteRange, delete.encode_to_vec().into()))
                }
                _ => Some(ops::txn_call(self.deletes(ranges))),
            },
            State::Scan(scan) => {
                let range = scan.request(&self.part.hull);
                Some((Rpc::Range, range.encode_to_vec().into()))
            }
            State::Guarded { ranges, scanned } => {
                let txn = TxnRequest {
                    compare: vec![created_at_most(&self.part.hull, *scanned)],
                    success: self.deletes(ranges).map(ops::op).collect(),
                    failure: Vec::new(),
                };
                Some((Rpc::Txn, txn.encode_to_vec().into()))
            }
            State::Done(_) => None,
        }
    }

    /// Whether the call that [`PartDelete::next`] names writes, and so must be sent only once.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.state, State::Write(_) | State::Guarded { .. })
    }

    /// Takes the answer to the call that [`PartDelete::next`] named.
    ///
    /// # Errors
    /// Where the part cannot be deleted, or the store answered nonsense.
    pub fn take<R: Routes + ?Sized>(
        &mut self,
        answer: &Bytes,
        routes: &R,
    ) -> Result<(), DeleteError> {
        self.state = match &mut self.state {
            State::Write(ranges) if ranges.len() == 1 => {
                let deleted = decode::<shadow::DeleteRangeResponse>(answer)?;
                State::Done(collect(&self.part, deleted.header, vec![deleted])?)
            }
            State::Write(ranges) => {
                let txn = decode::<shadow::TxnResponse>(answer)?;
                State::Done(deleted_by(&self.part, txn, ranges.len())?)
            }
            State::Scan(scan) => match scan.take(answer, &self.part, routes)? {
                Scanned::Page => return Ok(()),
                Scanned::TooScattered => {
                    let store = routes.name(self.part.store).to_owned();
                    return Err(DeleteError::TooScattered { store });
                }
                Scanned::End if scan.runs.is_empty() => State::Done(nothing(&self.part)),
                Scanned::End => State::Guarded {
                    ranges: std::mem::take(&mut scan.runs),
                    scanned: scan.revision,
                },
            },
            State::Guarded { ranges, .. } => {
                let txn = decode::<shadow::TxnResponse>(answer)?;
                if txn.succeeded {
                    State::Done(deleted_by(&self.part, txn, ranges.len())?)
                } else if self.scans < MAX_SCANS {
                    self.scans += 1;
                    State::Scan(Scan::of(&self.part))
                } else {
                    let store = routes.name(self.part.store).to_owned();
                    return Err(DeleteError::Contended { store });
                }
            }
            State::Done(_) => return Ok(()),
        };
        Ok(())
    }

    /// What was deleted, once there is no call to make.
    ///
    /// # Errors
    /// [`DeleteError::Unfinished`] before.
    pub fn finish(self) -> Result<PartDeleted, DeleteError> {
        match self.state {
            State::Done(deleted) => Ok(deleted),
            State::Write(_) | State::Scan(_) | State::Guarded { .. } => {
                Err(DeleteError::Unfinished)
            }
        }
    }

    fn delete(&self, range: &KeyRange) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: range.start.clone(),
            range_end: range.range_end(),
            prev_kv: self.prev_kv,
        }
    }

    fn deletes<'a>(&'a self, ranges: &'a [KeyRange]) -> impl Iterator<Item = Request> + 'a {
        ranges
            .iter()
            .map(|range| Request::RequestDeleteRange(self.delete(range)))
    }
}

/// How a scan stands after a page.
enum Scanned {
    Page,
    End,
    TooScattered,
}

impl Scan {
    fn of(part: &Part) -> Self {
        Self {
            from: part.hull.start.clone(),
            revision: 0,
            runs: Vec::new(),
            open: false,
        }
    }

    fn request(&self, hull: &KeyRange) -> RangeRequest {
        RangeRequest {
            key: self.from.clone(),
            range_end: hull.range_end(),
            revision: self.revision,
            keys_only: true,
            limit: i64::try_from(SCAN_PAGE).unwrap_or(i64::MAX),
            ..RangeRequest::default()
        }
    }

    fn take<R: Routes + ?Sized>(
        &mut self,
        answer: &Bytes,
        part: &Part,
        routes: &R,
    ) -> Result<Scanned, DeleteError> {
        let page = RangeAnswer::parse(answer)?;
        if self.revision == 0 {
            self.revision = page.header.revision;
        }
        for kv in &page.kvs {
            if kv.key < self.from || !part.hull.contains(&kv.key) {
                return Err(DeleteError::Disorder);
            }
            let behind = ops::behind(&kv.key);
            if routes.route(&kv.key) == Some(part.store) {
                self.extend(kv.key.clone(), behind.clone());
            } else {
                self.open = false;
            }
            self.from = behind;
        }
        Ok(match (self.runs.len() > MAX_TXN_OPS, page.more) {
            (true, _) => Scanned::TooScattered,
            (false, true) if page.kvs.is_empty() => return Err(DeleteError::Disorder),
            (false, true) => Scanned::Page,
            (false, false) => Scanned::End,
        })
    }

    /// A run ends just behind its last key; between its keys the store has no other, and the
    /// guard sees to it that none comes.
    fn extend(&mut self, key: Bytes, behind: Bytes) {
        match self.runs.last_mut() {
            Some(run) if self.open => run.end = Some(behind),
            _ => self.runs.push(KeyRange::key(key)),
        }
        self.open = true;
    }
}

/// Holds while every key of the range was created at or below the revision. A key that was only
/// changed since is still one that the scan saw.
fn created_at_most(range: &KeyRange, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Less.into(),
        target: CompareTarget::Create.into(),
        key: range.start.clone(),
        range_end: range.range_end(),
        target_union: Some(TargetUnion::CreateRevision(revision.saturating_add(1))),
    }
}

fn nothing(part: &Part) -> PartDeleted {
    PartDeleted {
        store: part.store,
        deleted: 0,
        prev_kvs: Vec::new(),
        revision: None,
    }
}

fn decode<M: prost::Message + Default>(answer: &Bytes) -> Result<M, DeleteError> {
    M::decode(answer.clone()).map_err(|_| DeleteError::Wire(WireError::Malformed))
}

fn deleted_by(
    part: &Part,
    txn: shadow::TxnResponse,
    asked: usize,
) -> Result<PartDeleted, DeleteError> {
    if txn.responses.len() != asked {
        return Err(DeleteError::Responses);
    }
    let deleted = txn
        .responses
        .into_iter()
        .map(|op| match op.response {
            Some(shadow::Response::DeleteRange(deleted)) => decode(&deleted),
            _ => Err(DeleteError::Responses),
        })
        .collect::<Result<_, _>>()?;
    collect(part, txn.header, deleted)
}

fn collect(
    part: &Part,
    header: Option<keyloom_etcd_api::etcdserverpb::ResponseHeader>,
    responses: Vec<shadow::DeleteRangeResponse>,
) -> Result<PartDeleted, DeleteError> {
    let deleted = responses
        .iter()
        .fold(0, |sum: i64, response| sum.saturating_add(response.deleted));
    let prev_kvs = responses
        .into_iter()
        .flat_map(|response| response.prev_kvs)
        .map(RawKv::parse)
        .collect::<Result<_, _>>()?;
    Ok(PartDeleted {
        store: part.store,
        deleted,
        prev_kvs,
        revision: header.filter(|_| deleted > 0).map(|header| header.revision),
    })
}

#[cfg(test)]
mod tests;
