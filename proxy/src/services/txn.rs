//! Txn: to one store whole; a read-only one over several stores from a snapshot.

use bytes::Bytes;
use keyloom_etcd_api::{Rpc, check_txn, etcdserverpb::TxnRequest};
use keyloom_router::{TxnPlan, plan_txn};
use keyloom_store::Lane;
use prost::Message as _;

use super::{MAX_TXN_OPS, Request, entered::txn_touches, forward::Manner, lease::leases_of};
use crate::failure::Failure;

impl Request<'_> {
    pub(super) async fn txn(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = TxnRequest::decode(message.clone())?;
        check_txn(&request, MAX_TXN_OPS)?;
        match plan_txn(&self.world.topology, &request) {
            TxnPlan::One(store) => {
                let touches = |keys: &_| txn_touches(&request, keys);
                let _under_way = self.enter(store, touches).await?;
                self.is_all_readable(&request)?;
                let manner = Manner {
                    lane: Lane::Unary,
                    ..Manner::write(Rpc::Txn)
                };
                let leases = leases_of(&request);
                self.forward_leased(store, manner, message, &leases).await
            }
            TxnPlan::Snapshot => self.snapshot_txn(&request).await,
            TxnPlan::Refused(refused) => Err(refused.into()),
        }
    }
}
