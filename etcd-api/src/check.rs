//! The checks that etcd makes on a request before it looks at any data, in etcd's order
//! (`server/etcdserver/api/v3rpc/key.go`).

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    EtcdError, KeyRange,
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        range_request::{SortOrder, SortTarget},
        request_op::Request,
    },
};

/// # Errors
/// As `checkRangeRequest` in etcd.
pub fn check_range(request: &RangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(EtcdError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(EtcdError::InvalidSortOption);
    }
    Ok(())
}

/// # Errors
/// As `checkPutRequest` in etcd.
pub fn check_put(request: &PutRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        return Err(EtcdError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(EtcdError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(EtcdError::LeaseProvided);
    }
    Ok(())
}

/// # Errors
/// As `checkDeleteRequest` in etcd.
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), EtcdError> {
    if request.key.is_empty() {
        Err(EtcdError::EmptyKey)
    } else {
        Ok(())
    }
}

/// `compacted` and `head` are the revisions that the endpoint stands at.
///
/// # Errors
/// As `compact` in etcd's `server/storage/mvcc/kvstore.go`.
pub fn check_compaction(
    request: &CompactionRequest,
    compacted: i64,
    head: i64,
) -> Result<(), EtcdError> {
    if request.revision <= compacted {
        return Err(EtcdError::Compacted);
    }
    if request.revision > head {
        return Err(EtcdError::FutureRev);
    }
    Ok(())
}

/// `max_ops` is etcd's `--max-txn-ops`, 128 by default.
///
/// # Errors
/// As `checkTxnRequest` and then `checkIntervals` in etcd.
pub fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), EtcdError> {
    check_txn_shape(request, max_ops)?;
    written_by(&request.success)?;
    written_by(&request.failure)?;
    Ok(())
}

fn check_txn_shape(request: &TxnRequest, max_ops: usize) -> Result<(), EtcdError> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = max_ops.checked_sub(ops).ok_or(EtcdError::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(EtcdError::EmptyKey);
    }
    request
        .success
        .iter()
        .chain(&request.failure)
        .try_for_each(|op| check_op(op, left))
}

fn check_op(op: &RequestOp, max_ops: usize) -> Result<(), EtcdError> {
    match &op.request {
        Some(Request::RequestRange(range)) => check_range(range),
        Some(Request::RequestPut(put)) => check_put(put),
        Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete),
        Some(Request::RequestTxn(txn)) => check_txn_shape(txn, max_ops),
        None => Err(EtcdError::KeyNotFound),
    }
}

/// The keys that one branch of a transaction writes, nested ones included.
#[derive(Default)]
struct Written {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Written {
    fn put(&mut self, key: &Bytes, allowed_twice: &BTreeSet<Bytes>) -> Result<(), EtcdError> {
        let twice = self.puts.contains(key) && !allowed_twice.contains(key);
        if twice || self.deletes.iter().any(|range| range.contains(key)) {
            return Err(EtcdError::DuplicateKey);
        }
        self.puts.insert(key.clone());
        Ok(())
    }
}

/// As `checkIntervals` in etcd: no key may be written twice by one branch. The branches of a
/// nested transaction exclude each other, so they may write the same keys.
fn written_by(ops: &[RequestOp]) -> Result<Written, EtcdError> {
    let none = BTreeSet::new();
    let mut written = Written::default();
    for op in ops {
        // To etcd's interval tree the `"\0"` of a range without an end is a key like any other, so
        // such a range is empty there and meets no put.
        if let Some(Request::RequestDeleteRange(delete)) = &op.request
            && delete.range_end[..] != *b"\0"
        {
            written
                .deletes
                .push(KeyRange::from_request(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            let then = written_by(&txn.success)?;
            let otherwise = written_by(&txn.failure)?;
            for key in &then.puts {
                written.put(key, &none)?;
            }
            for key in &otherwise.puts {
                written.put(key, &then.puts)?;
            }
            written.deletes.extend(then.deletes);
            written.deletes.extend(otherwise.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            written.put(&put.key, &none)?;
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
