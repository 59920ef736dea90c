//! Defragment over several stores.

use bytes::Bytes;
use keyloom_etcd_api::{Rpc, etcdserverpb::DefragmentResponse};
use prost::Message as _;

use super::{
    Request,
    forward::{CallOptions, send},
};
use crate::failure::Failure;

impl Request<'_> {
    /// One store after the other: a member answers nothing while it is defragmented.
    pub(super) async fn defragment(self, message: Bytes) -> Result<Bytes, Failure> {
        for member in self.snapshot.stores() {
            let options = CallOptions::write(Rpc::Defragment);
            send(member, options, message.clone(), self.context).await?;
        }
        let revision = self.order.head().get();
        let header = Some(self.services.identity.response_header(revision));
        Ok(DefragmentResponse { header }.encode_to_vec().into())
    }
}
