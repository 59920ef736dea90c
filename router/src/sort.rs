//! The order of a range's answer, as `executeRange` in etcd's `server/etcdserver/txn/txn.go` has it.
//!
//! Keys come in the order of keys. A limit cuts that order only where the request neither sorts
//! nor filters by revision; else etcd reads the whole range and cuts afterwards. One oddity
//! is part of the contract: a target other than `KEY` without an order sorts ascending, but only
//! what the limit, and one key more, had let through.

use std::cmp::Reverse;

use keyloom_etcd_api::{
    etcdserverpb::{
        RangeRequest,
        range_request::{SortOrder, SortTarget},
    },
    wire::RawKv,
};

/// What is done to the keys of a range, which come in the order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Cut at the limit.
    ByKey,
    /// Cut one behind the limit, sorted, cut at the limit.
    CutThenSorted(Sorting),
    /// Sorted, cut at the limit.
    Sorted(Sorting),
}

/// A sorting by something other than the ascending key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sorting {
    target: SortTarget,
    descending: bool,
}

impl Order {
    pub(crate) fn of(query: &RangeRequest) -> Self {
        let order = SortOrder::try_from(query.sort_order).unwrap_or(SortOrder::None);
        let target = SortTarget::try_from(query.sort_target).unwrap_or(SortTarget::Key);
        let sorting = Sorting {
            target,
            descending: order == SortOrder::Descend,
        };
        match (target, order) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => Self::ByKey,
            (_, SortOrder::None) if !has_filters(query) => Self::CutThenSorted(sorting),
            _ => Self::Sorted(sorting),
        }
    }

    /// Whether a limit lets only the first keys, in the order of keys, into the answer.
    pub(crate) fn cuts_by_key(self) -> bool {
        match self {
            Self::ByKey | Self::CutThenSorted(_) => true,
            Self::Sorted(_) => false,
        }
    }

    /// Whether the answer can't be ordered without the values.
    pub(crate) fn reads_values(self) -> bool {
        match self {
            Self::ByKey => false,
            Self::CutThenSorted(sorting) | Self::Sorted(sorting) => {
                sorting.target == SortTarget::Value
            }
        }
    }
}

impl Sorting {
    /// Sorts what stands in the order of keys; equals stay in that order, whichever the direction.
    pub(crate) fn sort(self, kvs: &mut [RawKv]) {
        match self.target {
            SortTarget::Key => self.sort_by(kvs, |kv| kv.key.clone()),
            SortTarget::Version => self.sort_by(kvs, RawKv::version),
            SortTarget::Create => self.sort_by(kvs, RawKv::create_revision),
            SortTarget::Mod => self.sort_by(kvs, RawKv::mod_revision),
            SortTarget::Value => self.sort_by(kvs, RawKv::value),
        }
    }

    /// What is compared is read from each encoded key-value once.
    fn sort_by<T: Ord>(self, kvs: &mut [RawKv], compared: impl Fn(&RawKv) -> T) {
        if self.descending {
            kvs.sort_by_cached_key(|kv| Reverse(compared(kv)));
        } else {
            kvs.sort_by_cached_key(compared);
        }
    }
}

/// Whether the request filters by revision. Any value but 0 does, as in etcd.
pub(crate) fn has_filters(query: &RangeRequest) -> bool {
    let filters = [
        query.min_mod_revision,
        query.max_mod_revision,
        query.min_create_revision,
        query.max_create_revision,
    ];
    filters.iter().any(|revision| *revision != 0)
}

/// The most keys that the request lets into its answer; zero and less is no limit.
pub(crate) fn limit(query: &RangeRequest) -> Option<usize> {
    usize::try_from(query.limit).ok().filter(|limit| *limit > 0)
}
