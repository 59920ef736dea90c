//! A read-only transaction over several stores, answered from one consistent cut.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        Compare, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
        TxnResponse, request_op, response_op,
    },
    wire::encode_range_answer,
};
use keyloom_ledger::UnifiedRev;
use keyloom_router::compare;
use keyloom_topology::Part;
use prost::Message as _;

use super::Request;
use crate::failure::Failure;

impl<'a> Request<'a> {
    pub(super) async fn snapshot_txn(self, request: &'a TxnRequest) -> Result<Bytes, Failure> {
        let (at, mut response) = loop {
            let at = self.order.head();
            match self.evaluate(request, at).await {
                // The cut was compacted between taking it and reading it.
                Err(error) if error.is_compacted() && self.order.compacted() > at => {}
                answer => break (at, answer?),
            }
        };
        response.header = Some(self.services.identity.response_header(at.get()));
        Ok(response.encode_to_vec().into())
    }

    /// Evaluates the transaction at `at`. Boxed, because transactions nest.
    fn evaluate(
        self,
        request: &'a TxnRequest,
        at: UnifiedRev,
    ) -> BoxFuture<'a, Result<TxnResponse, Failure>> {
        async move {
            let mut succeeded = true;
            for compare in &request.compare {
                succeeded = succeeded && self.holds(compare, at).await?;
            }
            let branch = if succeeded {
                &request.success
            } else {
                &request.failure
            };
            let mut responses = Vec::with_capacity(branch.len());
            for op in branch {
                responses.push(ResponseOp {
                    response: self.answer_op(op, at).await?,
                });
            }
            // etcd fills the header of the outermost transaction alone.
            let header = Some(ResponseHeader::default());
            Ok(TxnResponse {
                header,
                succeeded,
                responses,
            })
        }
        .boxed()
    }

    async fn holds(self, compare: &Compare, at: UnifiedRev) -> Result<bool, Failure> {
        let range = compare::read_of(compare);
        let parts = self.cover(&range);
        let cut = self.cut(at.get(), &parts)?;
        let joined = self.read_at(&cut, &range, parts).await?;
        Ok(compare::holds(compare, &joined.kvs))
    }

    async fn answer_op(
        self,
        op: &'a RequestOp,
        at: UnifiedRev,
    ) -> Result<Option<response_op::Response>, Failure> {
        match &op.request {
            Some(request_op::Request::RequestRange(range)) => {
                let range = self.range_in_txn(range, at).await?;
                Ok(Some(response_op::Response::ResponseRange(range)))
            }
            Some(request_op::Request::RequestTxn(txn)) => {
                let response = self.evaluate(txn, at).await?;
                Ok(Some(response_op::Response::ResponseTxn(response)))
            }
            // The plan allows no writes here, and the checks no empty operation.
            _ => Ok(None),
        }
    }

    fn cover(self, range: &RangeRequest) -> Vec<Part> {
        let range = KeyRange::from_request(&range.key, &range.range_end);
        self.snapshot.topology.cover(&range)
    }

    /// Inside a transaction etcd takes a negative revision for one below the compaction
    /// (`checkRange` in `server/etcdserver/txn/txn.go`), where a Range takes it for the latest.
    fn revision_in_txn(self, range: &RangeRequest, at: UnifiedRev) -> Result<i64, Failure> {
        let first = self.order.compacted().get();
        match range.revision {
            0 => Ok(at.get()),
            // The head may have passed it since.
            revision if revision > at.get() => Err(EtcdError::FutureRev.into()),
            revision if revision < first => Err(EtcdError::Compacted.into()),
            revision if revision < 0 => Ok(at.get()),
            revision => Ok(revision),
        }
    }

    async fn range_in_txn(
        self,
        range: &RangeRequest,
        at: UnifiedRev,
    ) -> Result<RangeResponse, Failure> {
        let parts = self.cover(range);
        let revision = self.revision_in_txn(range, at)?;
        self.is_readable_at(revision, range)?;
        let cut = self.cut(revision, &parts)?;
        let joined = self.read_at(&cut, range, parts).await?;
        let kvs = joined.kvs.into_iter().map(|kv| kv.encoded);
        let header = self.services.identity.header(at.get());
        let encoded = encode_range_answer(header, kvs, joined.more, joined.count);
        let mut response = RangeResponse::decode(encoded)?;
        response.header = Some(ResponseHeader {
            revision: at.get(),
            ..ResponseHeader::default()
        });
        Ok(response)
    }
}
