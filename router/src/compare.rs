//! Whether a comparison of a transaction holds on a snapshot.
//!
//! For transactions that only read and span stores: their comparisons are evaluated on the
//! snapshot from which they are answered, in unified revisions.

use keyloom_etcd_api::{
    etcdserverpb::{Compare, RangeRequest},
    wire::RawKv,
};
use keyloom_etcd_semantics::compare::{holds_for, holds_without_key, reads_values};

/// The read that [`holds`] needs the keys of.
#[must_use]
pub fn read_of(compare: &Compare) -> RangeRequest {
    RangeRequest {
        key: compare.key.clone(),
        range_end: compare.range_end.clone(),
        keys_only: !reads_values(compare),
        ..RangeRequest::default()
    }
}

/// Whether the comparison holds for every key of its range; where there is none, as etcd has it.
#[must_use]
pub fn holds(compare: &Compare, kvs: &[RawKv]) -> bool {
    match kvs {
        [] => holds_without_key(compare),
        kvs => kvs.iter().all(|kv| holds_for(compare, kv)),
    }
}

#[cfg(test)]
mod tests;
