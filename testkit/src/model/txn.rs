//! Transactions: comparisons first, over all levels, then checks, then the operations.

use std::cmp::Ordering;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
        TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use super::{Etcd, Keyspace};

/// A transaction whose comparisons are made: what it will do.
pub(super) struct Branch<'a> {
    succeeded: bool,
    ops: Vec<Op<'a>>,
}

enum Op<'a> {
    Plain(&'a Request),
    Txn(Branch<'a>),
}

/// Chooses the branches. Nested comparisons too see the state before the transaction.
pub(super) fn choose<'a>(keyspace: &Keyspace, txn: &'a TxnRequest) -> Branch<'a> {
    let succeeded = txn.compare.iter().all(|compare| holds(keyspace, compare));
    let ops = if succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    let choose_op = |op: &'a RequestOp| match op.request.as_ref()? {
        Request::RequestTxn(txn) => Some(Op::Txn(choose(keyspace, txn))),
        plain => Some(Op::Plain(plain)),
    };
    Branch {
        succeeded,
        ops: ops.iter().filter_map(choose_op).collect(),
    }
}

/// What etcd looks at in the chosen branches before it changes anything, in the order of the
/// operations.
pub(super) fn check(etcd: &Etcd, branch: &Branch<'_>) -> Result<(), EtcdError> {
    branch.ops.iter().try_for_each(|op| match op {
        Op::Plain(Request::RequestRange(range)) => check_range(etcd, range),
        Op::Plain(Request::RequestPut(put)) => check_put(etcd, put),
        Op::Plain(Request::RequestDeleteRange(_) | Request::RequestTxn(_)) => Ok(()),
        Op::Txn(branch) => check(etcd, branch),
    })
}

/// The revision is held against the state before the transaction: not even a transaction that
/// writes can read at its own revision by number.
fn check_range(etcd: &Etcd, request: &RangeRequest) -> Result<(), EtcdError> {
    match request.revision {
        0 => Ok(()),
        revision if revision > etcd.revision() => Err(EtcdError::FutureRev),
        // Unlike outside of a transaction, what is negative is not "now".
        revision if revision < etcd.compacted() => Err(EtcdError::Compacted),
        _ => Ok(()),
    }
}

fn check_put(etcd: &Etcd, request: &PutRequest) -> Result<(), EtcdError> {
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && etcd.keyspace().get(&request.key, etcd.revision()).is_none() {
        return Err(EtcdError::KeyNotFound);
    }
    etcd.check_lease(request.lease)
}

/// Does what the branch says. Inner headers hold only a revision; that of a nested transaction
/// holds nothing.
pub(super) fn execute(etcd: &mut Etcd, branch: &Branch<'_>) -> Result<TxnResponse, EtcdError> {
    let mut responses = Vec::with_capacity(branch.ops.len());
    for op in &branch.ops {
        let response = match op {
            Op::Plain(request) => execute_plain(etcd, request)?,
            Op::Txn(branch) => Response::ResponseTxn(execute(etcd, branch)?),
        };
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    Ok(TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: branch.succeeded,
        responses,
    })
}

fn execute_plain(etcd: &mut Etcd, request: &Request) -> Result<Response, EtcdError> {
    Ok(match request {
        Request::RequestRange(range) => Response::ResponseRange(etcd.do_range(range)?),
        Request::RequestPut(put) => Response::ResponsePut(etcd.do_put(put)?),
        Request::RequestDeleteRange(delete) => {
            Response::ResponseDeleteRange(etcd.do_delete_range(delete))
        }
        // Chosen as a branch of its own.
        Request::RequestTxn(_) => return Err(EtcdError::KeyNotFound),
    })
}

fn holds(keyspace: &Keyspace, compare: &Compare) -> bool {
    let range = KeyRange::from_request(&compare.key, &compare.range_end);
    let mut kvs = keyspace.range(&range, keyspace.revision()).peekable();
    if kvs.peek().is_some() {
        return kvs.all(|kv| holds_for(compare, kv));
    }
    // Absent keys compare as zeros, but have no value to compare.
    compare.target != CompareTarget::Value as i32 && holds_for(compare, &KeyValue::default())
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let found = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => kv.value.cmp(&given_value(compare)),
        Ok(CompareTarget::Version) => kv.version.cmp(&given_number(compare)),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&given_number(compare)),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&given_number(compare)),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&given_number(compare)),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => found.is_eq(),
        Ok(CompareResult::NotEqual) => found.is_ne(),
        Ok(CompareResult::Greater) => found.is_gt(),
        Ok(CompareResult::Less) => found.is_lt(),
        Err(_) => true,
    }
}

fn given_value(compare: &Compare) -> Bytes {
    match &compare.target_union {
        Some(TargetUnion::Value(value)) => value.clone(),
        _ => Bytes::new(),
    }
}

/// The number to compare with; 0 where the field given is not that of the target.
fn given_number(compare: &Compare) -> i64 {
    let target = CompareTarget::try_from(compare.target);
    match (target, &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}
