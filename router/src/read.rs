//! One store's part of a merged read.
//!
//! A [`PartRead`] names the next call to the store and takes its answer, until there is none to
//! make. What it costs: one call, and at most one ordered scan over the hull of the part. Only
//! strays, and scans longer than [`SCAN_PAGE`], need further calls.
//!
//! | part | no limit | limit | count only |
//! |---|---|---|---|
//! | whole | the hull | the hull up to the limit | the hull's count |
//! | intervals | each interval | the hull up to the limit; each interval's count | each interval's count |
//! | filter | the hull, by pages | the hull up to the limit; its keys, by pages | its keys, by pages |
//!
//! Limits are asked for with one key more than the client wants, so that `more` is known from the
//! keys alone: strays make every store's own `more` and `count` worthless.
//! Revision filters are the store's work, and do not change counts. A custom order needs every key,
//! since what comes first on one store may come last in the whole.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange, Rpc,
    etcdserverpb::RangeRequest,
    wire::{RangeAnswer, RawKv, WireError},
};
use keyloom_etcd_semantics::range::{self, Order};
use keyloom_topology::{Cuts, Part, StoreIndex};

use self::ask::{Ask, Counts, Wanted};
use crate::{ops, routes::Routes};

mod ask;

/// The most keys that one call reads of a part whose keys must be looked at one by one, so that
/// what is held of strays is bounded.
pub const SCAN_PAGE: usize = 50_000;

/// Why an answer of a store cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("unreadable answer to a range: {0}")]
    Wire(#[from] WireError),
    /// The answer to a transaction has not one response for each operation.
    #[error("{got} responses to a transaction of {asked} operations")]
    Responses { asked: usize, got: usize },
    /// Keys that repeat, go backwards, or were not asked for.
    #[error("keys are out of order or outside the requested range")]
    Disorder,
    /// `more` without a limit, or without a key behind which to go on.
    #[error("the answer says that there are more keys where none can be")]
    More,
    /// The part was finished while there were calls to make.
    #[error("the answer was taken before the part was read to its end")]
    Unfinished,
}

/// What one store has of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartAnswer {
    pub store: StoreIndex,
    /// In the order of keys, only keys that route to this store. Where a limit cuts by key, one
    /// more than the limit, if there are as many.
    pub kvs: Vec<RawKv>,
    /// The keys of this part at the revision, whatever the limit and the filters; `None` where
    /// that was not asked for and did not come by itself.
    pub count: Option<i64>,
}

/// The reading of one part.
#[derive(Clone, Debug)]
pub struct PartRead {
    part: Part,
    /// Asked for together, in one call.
    asks: Vec<Ask>,
    /// The most keys of a page: [`SCAN_PAGE`].
    page: usize,
    /// With this many keys, no more are asked for.
    enough: Option<usize>,
    kvs: Vec<RawKv>,
    count: Option<i64>,
}

impl PartRead {
    /// `query` has the revisions of this store, its `revision` is the one to read at. Its range is
    /// not looked at: `part` says what is read.
    ///
    /// With `want_count` the answer has a count, also where that costs the store a scan.
    #[must_use]
    pub fn new(part: Part, query: &RangeRequest, want_count: bool) -> Self {
        Self::by_pages(part, query, want_count, SCAN_PAGE)
    }

    fn by_pages(part: Part, query: &RangeRequest, want_count: bool, page: usize) -> Self {
        let part = simplified(part);
        let enough = range::limit(query)
            .filter(|_| Order::of(query).cuts_by_key())
            .map(|limit| limit.saturating_add(1));
        let wanted = Wanted {
            part: &part,
            query,
            count: want_count,
            enough,
            page,
        };
        let asks = wanted.asks();
        let counted = asks.is_empty() || asks.iter().any(|ask| ask.counts != Counts::Nothing);
        Self {
            part,
            asks,
            page,
            enough,
            kvs: Vec::new(),
            count: counted.then_some(0),
        }
    }

    /// The next call to make; `None` when the part is read.
    #[must_use]
    pub fn next(&self) -> Option<(Rpc, Bytes)> {
        ops::range_call(self.asks.iter().map(|ask| &ask.request))
    }

    /// Takes the answer to the call that [`PartRead::next`] named.
    ///
    /// # Errors
    /// Where the store answered nonsense; the part cannot be read on then.
    pub fn take<R: Routes + ?Sized>(
        &mut self,
        answer: &Bytes,
        routes: &R,
    ) -> Result<(), ReadError> {
        let answers = ops::range_answers(self.asks.len(), answer)?;
        if answers.len() != self.asks.len() {
            return Err(ReadError::Responses {
                asked: self.asks.len(),
                got: answers.len(),
            });
        }
        for (ask, answer) in std::mem::take(&mut self.asks).into_iter().zip(answers) {
            let next = self.absorb(ask, answer, routes)?;
            self.asks.extend(next);
        }
        Ok(())
    }

    /// What was read, once there is no call to make.
    ///
    /// # Errors
    /// [`ReadError::Unfinished`] before: half a part is never an answer.
    pub fn finish(mut self) -> Result<PartAnswer, ReadError> {
        if !self.asks.is_empty() {
            return Err(ReadError::Unfinished);
        }
        self.kvs.truncate(self.enough.unwrap_or(usize::MAX));
        Ok(PartAnswer {
            store: self.part.store,
            kvs: self.kvs,
            count: self.count,
        })
    }

    /// Takes the answer to one ask, and says what is to be asked next.
    fn absorb<R: Routes + ?Sized>(
        &mut self,
        ask: Ask,
        answer: RangeAnswer,
        routes: &R,
    ) -> Result<Option<Ask>, ReadError> {
        check_order(&ask.request, &answer.kvs)?;
        let last = answer.kvs.last().map(|kv| kv.key.clone());
        let mut kept: i64 = 0;
        for kv in answer.kvs {
            if belongs(&self.part, &kv.key, routes) {
                kept += 1;
                if ask.keep {
                    self.kvs.push(kv);
                }
            }
        }
        let counted = match ask.counts {
            Counts::Nothing => 0,
            Counts::Range => answer.count,
            Counts::Kept => kept,
        };
        self.count = self.count.map(|count| count.saturating_add(counted));
        let missing = self
            .enough
            .map(|enough| enough.saturating_sub(self.kvs.len()));
        if !answer.more || (ask.keep && missing == Some(0)) {
            return Ok(None);
        }
        let last = last
            .filter(|_| ask.request.limit > 0)
            .ok_or(ReadError::More)?;
        Ok(resume(&self.part, &last).map(|start| ask.from(start, missing, self.page)))
    }
}

/// A part with one interval is that interval.
fn simplified(part: Part) -> Part {
    match part.cuts {
        Cuts::Intervals(mut intervals) if intervals.len() == 1 => Part {
            hull: intervals.remove(0),
            cuts: Cuts::Whole,
            ..part
        },
        _ => part,
    }
}

/// Whether a key in the hull of the part is the part's.
fn belongs<R: Routes + ?Sized>(part: &Part, key: &[u8], routes: &R) -> bool {
    match &part.cuts {
        Cuts::Whole => true,
        Cuts::Intervals(intervals) => {
            interval_at(intervals, key).is_some_and(|interval| interval.contains(key))
        }
        Cuts::Filter => routes.route(key) == Some(part.store),
    }
}

/// The first of the intervals that does not end at or before `key`.
fn interval_at<'a>(intervals: &'a [KeyRange], key: &[u8]) -> Option<&'a KeyRange> {
    let ended = |interval: &KeyRange| interval.end.as_deref().is_some_and(|end| end <= key);
    intervals.get(intervals.partition_point(ended))
}

/// Where to go on behind `last`: gaps between intervals hold only strays, so they are skipped.
fn resume(part: &Part, last: &[u8]) -> Option<Bytes> {
    let start = ops::behind(last);
    match &part.cuts {
        Cuts::Whole | Cuts::Filter => Some(start),
        Cuts::Intervals(intervals) => {
            interval_at(intervals, &start).map(|interval| interval.start.clone().max(start))
        }
    }
}

/// Whether the keys ascend and were asked for. Merging relies on it.
fn check_order(request: &RangeRequest, kvs: &[RawKv]) -> Result<(), ReadError> {
    let range = KeyRange::from_request(&request.key, &request.range_end);
    let ends = [kvs.first(), kvs.last()];
    let asked_for = ends.iter().flatten().all(|kv| range.contains(&kv.key));
    if asked_for && kvs.is_sorted_by(|a, b| a.key < b.key) {
        Ok(())
    } else {
        Err(ReadError::Disorder)
    }
}

#[cfg(test)]
mod tests;
