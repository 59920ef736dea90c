//! The order, the limit and the filters of a range, as `executeRange` in etcd's
//! `server/etcdserver/txn/txn.go` has them.
//!
//! Keys come in the order of keys. A limit cuts that order only where the request neither sorts
//! nor filters by revision; else etcd reads the whole range and cuts afterwards. One oddity
//! is part of the contract: a target other than `KEY` without an order sorts ascending, but only
//! what the limit, and one key more, had let through.

use std::cmp::Reverse;

use keyloom_etcd_api::etcdserverpb::{
    RangeRequest,
    range_request::{SortOrder, SortTarget},
};

use crate::{Fields, KeyAndValue};

/// What is done to the keys of a range, which come in the order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Cut at the limit.
    ByKey,
    /// Cut one behind the limit, sorted, cut at the limit.
    CutThenSorted(Sorting),
    /// Sorted, cut at the limit.
    Sorted(Sorting),
}

/// A sorting by something other than the ascending key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sorting {
    target: SortTarget,
    descending: bool,
}

impl Order {
    /// The order that a request asks for; of what etcd does not know, none.
    #[must_use]
    pub fn of(request: &RangeRequest) -> Self {
        let order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        let sorting = Sorting {
            target,
            descending: order == SortOrder::Descend,
        };
        match (target, order) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => Self::ByKey,
            (_, SortOrder::None) if !has_filters(request) => Self::CutThenSorted(sorting),
            _ => Self::Sorted(sorting),
        }
    }

    /// Whether a limit lets only the first keys, in the order of keys, into the answer.
    #[must_use]
    pub fn cuts_by_key(self) -> bool {
        match self {
            Self::ByKey | Self::CutThenSorted(_) => true,
            Self::Sorted(_) => false,
        }
    }

    /// Whether the answer can't be ordered without the values.
    #[must_use]
    pub fn reads_values(self) -> bool {
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
    pub fn sort<K: KeyAndValue>(self, kvs: &mut [K]) {
        match self.target {
            SortTarget::Key => self.sort_by(kvs, K::key),
            SortTarget::Version => self.sort_by(kvs, K::version),
            SortTarget::Create => self.sort_by(kvs, K::create_revision),
            SortTarget::Mod => self.sort_by(kvs, K::mod_revision),
            SortTarget::Value => self.sort_by(kvs, K::value),
        }
    }

    /// What is compared is read from each key-value once.
    fn sort_by<K, T: Ord>(self, kvs: &mut [K], compared: impl Fn(&K) -> T) {
        if self.descending {
            kvs.sort_by_cached_key(|kv| Reverse(compared(kv)));
        } else {
            kvs.sort_by_cached_key(compared);
        }
    }
}

/// Whether the request filters by revision. Any value but 0 does, as in etcd.
#[must_use]
pub fn has_filters(request: &RangeRequest) -> bool {
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    filters.iter().any(|revision| *revision != 0)
}

/// Whether the request's revision filters let a key-value into the answer.
#[must_use]
pub fn passes(request: &RangeRequest, kv: &impl Fields) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        kv.mod_revision(),
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        kv.create_revision(),
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// The most keys that the request lets into its answer; zero and less is no limit.
#[must_use]
pub fn limit(request: &RangeRequest) -> Option<usize> {
    usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests;
