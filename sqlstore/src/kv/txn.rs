//! Transactions: comparisons first, over all levels, then checks, then the operations
//! (`server/etcdserver/txn/txn.go`).

use std::cmp::Ordering;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
};

use super::write::Tx;
use crate::{
    error::Stop,
    session::{At, Row, Session, Sql, Values},
};

/// Whether a transaction cannot change a key, whatever it finds.
pub(crate) fn only_reads(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestRange(_)) | None => true,
        Some(Request::RequestTxn(txn)) => only_reads(txn),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
    })
}

/// A transaction whose comparisons are made: what it will do.
struct Branch<'r> {
    succeeded: bool,
    ops: Vec<Op<'r>>,
}

enum Op<'r> {
    Plain(&'r Request),
    Txn(Branch<'r>),
}

impl<S: Session> Tx<'_, S> {
    /// Carries out a request that passed its checks. The outermost header is left to the caller.
    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Stop> {
        let branch = self.choose(request)?;
        self.check(&branch)?;
        self.execute(&branch)
    }

    /// Chooses the branches. Nested comparisons too see the state before the transaction.
    fn choose<'r>(&mut self, txn: &'r TxnRequest) -> Sql<Branch<'r>> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && self.holds(compare)?;
        }
        let mut ops = Vec::new();
        for op in if succeeded {
            &txn.success
        } else {
            &txn.failure
        } {
            match &op.request {
                Some(Request::RequestTxn(txn)) => ops.push(Op::Txn(self.choose(txn)?)),
                Some(plain) => ops.push(Op::Plain(plain)),
                None => {}
            }
        }
        Ok(Branch { succeeded, ops })
    }

    fn holds(&mut self, compare: &Compare) -> Sql<bool> {
        let range = KeyRange::from_request(&compare.key, &compare.range_end);
        let by_value = compare.target == CompareTarget::Value as i32;
        let values = if by_value {
            Values::Read
        } else {
            Values::Leave
        };
        let (mut any, mut all) = (false, true);
        let single = range.is_single_key();
        self.session.scan(&range, At::Now, values, &mut |row| {
            any = true;
            all = holds_for(compare, row);
            all && !single
        })?;
        // Absent keys compare as zeros, but have no value to compare.
        Ok(if any {
            all
        } else {
            !by_value && holds_for(compare, &ABSENT)
        })
    }

    /// What etcd looks at in the chosen branches before it changes anything, in the order of
    /// the operations.
    fn check(&mut self, branch: &Branch<'_>) -> Result<(), Stop> {
        for op in &branch.ops {
            match op {
                Op::Plain(Request::RequestRange(range)) => self.check_range(range)?,
                Op::Plain(Request::RequestPut(put)) => self.check_put(put)?,
                Op::Plain(Request::RequestDeleteRange(_) | Request::RequestTxn(_)) => {}
                Op::Txn(branch) => self.check(branch)?,
            }
        }
        Ok(())
    }

    /// The revision is held against the state before the transaction: not even a transaction
    /// that writes can read at its own revision by number.
    fn check_range(&self, request: &RangeRequest) -> Result<(), EtcdError> {
        match request.revision {
            0 => Ok(()),
            revision if revision > self.marks.revision => Err(EtcdError::FutureRev),
            // Unlike outside of a transaction, what is negative is not "now".
            revision if revision < self.marks.compacted => Err(EtcdError::Compacted),
            _ => Ok(()),
        }
    }

    fn check_put(&mut self, request: &PutRequest) -> Result<(), Stop> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.session.entry(&request.key)?.is_none() {
            return Err(EtcdError::KeyNotFound.into());
        }
        Ok(self.check_lease(request.lease)?)
    }

    /// Does what the branch says. Inner headers hold only a revision; that of a nested
    /// transaction holds nothing.
    fn execute(&mut self, branch: &Branch<'_>) -> Result<TxnResponse, Stop> {
        let mut responses = Vec::with_capacity(branch.ops.len());
        for op in &branch.ops {
            let response = match op {
                Op::Plain(request) => self.execute_plain(request)?,
                Op::Txn(branch) => Response::ResponseTxn(self.execute(branch)?),
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

    fn execute_plain(&mut self, request: &Request) -> Result<Response, Stop> {
        Ok(match request {
            Request::RequestRange(range) => Response::ResponseRange(self.range(range)?),
            Request::RequestPut(put) => Response::ResponsePut(self.do_put(put)?),
            Request::RequestDeleteRange(delete) => {
                Response::ResponseDeleteRange(self.delete_range(delete)?)
            }
            // Chosen as a branch of its own.
            Request::RequestTxn(_) => return Err(EtcdError::KeyNotFound.into()),
        })
    }
}

const ABSENT: Row<'static> = Row {
    key: &[],
    mod_revision: 0,
    create_revision: 0,
    version: 0,
    lease: 0,
    value: &[],
};

fn holds_for(compare: &Compare, row: &Row<'_>) -> bool {
    let found = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => row.value.cmp(&given_value(compare)),
        Ok(CompareTarget::Version) => row.version.cmp(&given_number(compare)),
        Ok(CompareTarget::Create) => row.create_revision.cmp(&given_number(compare)),
        Ok(CompareTarget::Mod) => row.mod_revision.cmp(&given_number(compare)),
        Ok(CompareTarget::Lease) => row.lease.cmp(&given_number(compare)),
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
