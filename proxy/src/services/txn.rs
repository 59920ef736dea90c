//! Txn: to one store whole; a read-only one over several stores from a snapshot.

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc, check_txn,
    etcdserverpb::{TxnRequest, request_op::Request as Operation},
};
use keyloom_router::{TxnPlan, plan_txn};
use prost::Message as _;

use super::{MAX_TXN_OPS, Request, entered::txn_touches, forward::CallOptions, lease::leases_of};
use crate::failure::Failure;

impl Request<'_> {
    pub(super) async fn txn(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = TxnRequest::decode(message.clone())?;
        check_txn(&request, MAX_TXN_OPS)?;
        match plan_txn(&self.snapshot.topology, &request) {
            TxnPlan::One(store) => {
                let touches = |keys: &_| txn_touches(&request, keys);
                let _under_way = self.enter(store, touches).await?;
                self.is_all_readable(&request)?;
                let options = CallOptions {
                    linearizable: !may_be_stale(&request),
                    ..CallOptions::write(Rpc::Txn)
                };
                let leases = leases_of(&request);
                match leases.is_empty() {
                    true => self.forward(store, options, message).await,
                    false => self.forward_leased(store, options, message, &leases).await,
                }
            }
            TxnPlan::Snapshot => Box::pin(self.snapshot_txn(&request)).await,
            TxnPlan::Refused(refused) => Err(refused.into()),
        }
    }
}

/// Whether etcd answers it from what one of its members has by now: all that it does is to read keys
/// that may be stale. That is so too where it does nothing but compare.
fn may_be_stale(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(&op.request, Some(Operation::RequestRange(range)) if range.serializable))
}
