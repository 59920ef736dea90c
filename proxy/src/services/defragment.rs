//! Defragment over several stores.

use bytes::Bytes;
use keyloom_etcd_api::{Rpc, etcdserverpb::DefragmentResponse};
use prost::Message as _;

use super::{
    Request,
    forward::{Manner, send},
};
use crate::failure::Failure;

impl Request<'_> {
    /// One store after the other: a member answers nothing while it is defragmented.
    pub(super) async fn defragment(self, message: Bytes) -> Result<Bytes, Failure> {
        for member in self.world.stores() {
            let manner = Manner::write(Rpc::Defragment);
            send(member, manner, message.clone(), self.context).await?;
        }
        let revision = self.order.head().get();
        let header = Some(self.services.identity.response_header(revision));
        Ok(DefragmentResponse { header }.encode_to_vec().into())
    }
}
