//! Whether a comparison of a transaction holds, as `applyCompare` in etcd's
//! `server/etcdserver/txn/txn.go`.
//!
//! For transactions that only read and span stores: their comparisons are evaluated on the
//! snapshot from which they are answered, in unified revisions.

use std::cmp::Ordering;

use keyloom_etcd_api::{
    etcdserverpb::{
        Compare, RangeRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
    },
    wire::RawKv,
};

/// The read that [`holds`] needs the keys of.
#[must_use]
pub fn read_of(compare: &Compare) -> RangeRequest {
    RangeRequest {
        key: compare.key.clone(),
        range_end: compare.range_end.clone(),
        keys_only: compare.target != i32::from(CompareTarget::Value),
        ..RangeRequest::default()
    }
}

/// Whether the comparison holds for every key of its range.
///
/// Without a key, it is made with a key-value of zeros; a value, though, is never equal, smaller or
/// greater than that of no key.
#[must_use]
pub fn holds(compare: &Compare, kvs: &[RawKv]) -> bool {
    if kvs.is_empty() {
        return compare.target != i32::from(CompareTarget::Value)
            && fits(compare, numbered(compare, 0));
    }
    kvs.iter().all(|kv| fits(compare, ordering(compare, kv)))
}

/// How a key-value stands to what the comparison names.
fn ordering(compare: &Compare, kv: &RawKv) -> Ordering {
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match &compare.target_union {
            Some(TargetUnion::Value(value)) => kv.value().cmp(value),
            _ => kv.value()[..].cmp(b""),
        },
        Ok(CompareTarget::Version) => numbered(compare, kv.version()),
        Ok(CompareTarget::Create) => numbered(compare, kv.create_revision()),
        Ok(CompareTarget::Mod) => numbered(compare, kv.mod_revision()),
        Ok(CompareTarget::Lease) => numbered(compare, kv.lease()),
        Err(_) => Ordering::Equal,
    }
}

/// How a number stands to the one that the comparison names. One for another target counts as none.
fn numbered(compare: &Compare, actual: i64) -> Ordering {
    let expected = match (
        CompareTarget::try_from(compare.target),
        &compare.target_union,
    ) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        (Err(_), _) => actual,
        _ => 0,
    };
    actual.cmp(&expected)
}

/// A result that etcd does not know holds always.
fn fits(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests;
