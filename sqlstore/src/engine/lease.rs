//! The lease calls: those that change something go to the writer, the others read.

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse,
    },
};
use keyloom_store::{CallError, Lane};

use super::{Engine, decode_call};
use crate::{session::Session, wire::encode, writer::Request};

impl<S: Session> Engine<S> {
    pub(super) async fn lease_call(&self, rpc: Rpc, message: Bytes) -> Result<Bytes, CallError> {
        match rpc {
            Rpc::LeaseGrant => self.write(Request::LeaseGrant(decode_call(message)?)).await,
            Rpc::LeaseRevoke => {
                let request: LeaseRevokeRequest = decode_call(message)?;
                self.write(Request::LeaseRevoke(request.id)).await
            }
            Rpc::LeaseTimeToLive => self.time_to_live(decode_call(message)?).await,
            _ => self.leases().await,
        }
    }

    /// What is left of a lease; a lease that is not there has -1.
    async fn time_to_live(&self, request: LeaseTimeToLiveRequest) -> Result<Bytes, CallError> {
        let shared = self.shared.clone();
        let read = move |session: &mut S| {
            let header = Some(shared.header(session.marks()?.revision));
            let mut answer = LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            };
            if let Some(lease) = session.lease(request.id)? {
                answer.ttl = lease.remaining(shared.clock.now_ms());
                answer.granted_ttl = lease.ttl;
                if request.keys {
                    answer.keys = session.leased_keys(request.id)?;
                }
            }
            Ok(encode(&answer))
        };
        self.readers.run(Lane::Unary, read).await
    }

    async fn leases(&self) -> Result<Bytes, CallError> {
        let shared = self.shared.clone();
        let read = move |session: &mut S| {
            let header = Some(shared.header(session.marks()?.revision));
            let leases = session.leases()?;
            let leases = leases
                .iter()
                .map(|lease| LeaseStatus { id: lease.id })
                .collect();
            Ok(encode(&LeaseLeasesResponse { header, leases }))
        };
        self.readers.run(Lane::Unary, read).await
    }
}
