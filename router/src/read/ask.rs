//! The ranges that are asked of a store for one part, and where they go on.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        RangeRequest,
        range_request::{SortOrder, SortTarget},
    },
};
use keyloom_etcd_semantics::range::{self, Order};
use keyloom_topology::{Cuts, Part};

/// One range to be read.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) request: RangeRequest,
    /// Whether its keys are wanted, or only counted.
    pub(super) keep: bool,
    pub(super) counts: Counts,
}

/// What an [`Ask`] adds to the count of the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Nothing,
    /// The store's own count: every key of the range asked for is of this part.
    Range,
    /// The keys that are of this part.
    Kept,
}

/// What is wanted of a part.
pub(super) struct Wanted<'a> {
    pub(super) part: &'a Part,
    pub(super) query: &'a RangeRequest,
    pub(super) count: bool,
    /// With this many keys, no more are asked for.
    pub(super) enough: Option<usize>,
    /// The most keys in one answer of a filtered part.
    pub(super) page: usize,
}

impl Wanted<'_> {
    /// What to ask, all in one call.
    pub(super) fn asks(&self) -> Vec<Ask> {
        let hull = &self.part.hull;
        if self.query.count_only {
            return self.count();
        }
        match &self.part.cuts {
            Cuts::Whole => vec![Ask::keep(&self.scan(), hull, Counts::Range)],
            Cuts::Intervals(intervals) if self.enough.is_none() => {
                let scan = self.scan();
                let ask = |interval| Ask::keep(&scan, interval, Counts::Range);
                intervals.iter().map(ask).collect()
            }
            Cuts::Intervals(_) => self.and_count(Ask::keep(&self.scan(), hull, Counts::Nothing)),
            Cuts::Filter if self.enough.is_none() && !range::has_filters(self.query) => {
                // Every key of the part comes by, so counting costs nothing.
                vec![Ask::keep(&self.paged(self.scan()), hull, Counts::Kept)]
            }
            Cuts::Filter => {
                let scan = self.paged(self.scan());
                self.and_count(Ask::keep(&scan, hull, Counts::Nothing))
            }
        }
    }

    /// The query, in the order of keys. The range is still to be put in.
    fn scan(&self) -> RangeRequest {
        RangeRequest {
            limit: self.enough.map_or(0, wire_limit),
            keys_only: self.query.keys_only && !Order::of(self.query).reads_values(),
            sort_order: SortOrder::None.into(),
            sort_target: SortTarget::Key.into(),
            ..self.query.clone()
        }
    }

    fn and_count(&self, scan: Ask) -> Vec<Ask> {
        let mut asks = vec![scan];
        if self.count {
            asks.extend(self.count());
        }
        asks
    }

    /// What counts the part. Filters do not belong to it: the count is of all keys.
    fn count(&self) -> Vec<Ask> {
        let count = RangeRequest {
            revision: self.query.revision,
            serializable: self.query.serializable,
            count_only: true,
            ..RangeRequest::default()
        };
        match &self.part.cuts {
            Cuts::Whole => vec![Ask::count(&count, &self.part.hull, Counts::Range)],
            Cuts::Intervals(intervals) => intervals
                .iter()
                .map(|interval| Ask::count(&count, interval, Counts::Range))
                .collect(),
            Cuts::Filter => {
                let keys = self.paged(RangeRequest {
                    count_only: false,
                    keys_only: true,
                    ..count
                });
                vec![Ask::count(&keys, &self.part.hull, Counts::Kept)]
            }
        }
    }

    fn paged(&self, scan: RangeRequest) -> RangeRequest {
        let page = wire_limit(self.page);
        RangeRequest {
            limit: match scan.limit {
                0 => page,
                limit => limit.min(page),
            },
            ..scan
        }
    }
}

impl Ask {
    fn keep(scan: &RangeRequest, range: &KeyRange, counts: Counts) -> Self {
        Self {
            request: over(scan, range),
            keep: true,
            counts,
        }
    }

    fn count(request: &RangeRequest, range: &KeyRange, counts: Counts) -> Self {
        Self {
            request: over(request, range),
            keep: false,
            counts,
        }
    }

    /// The same from a later key on, for the keys that are `missing`. Pages grow, so that many
    /// strays do not mean many calls.
    pub(super) fn from(mut self, start: Bytes, missing: Option<usize>, page: usize) -> Self {
        let doubled = self.request.limit.saturating_mul(2);
        self.request.limit = wire_limit(missing.unwrap_or(0))
            .max(doubled)
            .min(wire_limit(page));
        if self.request.range_end.is_empty() {
            // A single key has nothing behind it.
            self.request.range_end = start.clone();
        }
        self.request.key = start;
        if self.counts == Counts::Range {
            // The first page counted the whole range.
            self.counts = Counts::Nothing;
        }
        self
    }
}

fn over(request: &RangeRequest, range: &KeyRange) -> RangeRequest {
    RangeRequest {
        key: range.start.clone(),
        range_end: range.range_end(),
        ..request.clone()
    }
}

fn wire_limit(keys: usize) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX)
}
