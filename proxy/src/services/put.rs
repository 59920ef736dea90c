//! Put: always one store.

use bytes::Bytes;
use keyloom_etcd_api::{Rpc, check_put, etcdserverpb::PutRequest};
use keyloom_router::plan_put;
use prost::Message as _;

use super::{Request, forward::CallOptions};
use crate::failure::Failure;

impl Request<'_> {
    pub(super) async fn put(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = PutRequest::decode(message.clone())?;
        check_put(&request)?;
        let store = plan_put(&self.snapshot.topology, &request.key)?;
        let _under_way = self.enter(store, |keys| keys.holds(&request.key)).await?;
        let options = CallOptions::write(Rpc::Put);
        match request.lease {
            0 => self.forward(store, options, message).await,
            lease => self.forward_leased(store, options, message, &[lease]).await,
        }
    }
}
