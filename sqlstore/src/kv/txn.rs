//! Transactions: comparisons first, over all levels, then checks, then the operations
//! (`server/etcdserver/txn/txn.go`).

use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        request_op::Request, response_op::Response,
    },
};
use keyloom_etcd_semantics::compare;

use super::write::Tx;
use crate::{
    error::Stop,
    session::{At, Session, Sql, Values},
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
        let values = match compare::reads_values(compare) {
            true => Values::Read,
            false => Values::Leave,
        };
        let (mut any, mut all) = (false, true);
        let single = range.is_single_key();
        self.session.scan(&range, At::Now, values, &mut |row| {
            any = true;
            all = compare::holds_for(compare, row);
            all && !single
        })?;
        Ok(match any {
            true => all,
            false => compare::holds_without_key(compare),
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
