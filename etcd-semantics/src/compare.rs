//! Whether a comparison of a transaction holds, as `applyCompare` in etcd's
//! `server/etcdserver/txn/txn.go`.

use std::cmp::Ordering;

use keyloom_etcd_api::etcdserverpb::{
    Compare,
    compare::{CompareResult, CompareTarget, TargetUnion},
};

use crate::Fields;

/// Whether the comparison cannot be made without the values of its keys.
#[must_use]
pub fn reads_values(compare: &Compare) -> bool {
    compare.target == i32::from(CompareTarget::Value)
}

/// Whether the comparison holds for one key. For a range it must hold for every key in it.
#[must_use]
pub fn holds_for(compare: &Compare, kv: &impl Fields) -> bool {
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match &compare.target_union {
            Some(TargetUnion::Value(value)) => kv.cmp_value(value),
            _ => kv.cmp_value(b""),
        },
        Ok(CompareTarget::Version) => numbered(compare, kv.version()),
        Ok(CompareTarget::Create) => numbered(compare, kv.create_revision()),
        Ok(CompareTarget::Mod) => numbered(compare, kv.mod_revision()),
        Ok(CompareTarget::Lease) => numbered(compare, kv.lease()),
        Err(_) => Ordering::Equal,
    };
    fits(compare, ordering)
}

/// Whether the comparison holds where there is no key: it is made with a key-value of zeros; a
/// value, though, is never equal, smaller or greater than that of no key.
#[must_use]
pub fn holds_without_key(compare: &Compare) -> bool {
    !reads_values(compare) && fits(compare, numbered(compare, 0))
}

/// How a number compares to the one in the comparison. One for another target counts as 0.
fn numbered(compare: &Compare, actual: i64) -> Ordering {
    let target = CompareTarget::try_from(compare.target);
    let expected = match (target, &compare.target_union) {
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
