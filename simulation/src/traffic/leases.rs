//! Leases that are granted, kept alive, revoked, and that expire.

use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseRevokeRequest, LeaseRevokeResponse,
    },
};

use crate::client::Client;

/// Until there is nothing to do any more.
pub(crate) async fn run(mut client: Client, pause: i64) {
    let mut next = 0x5100;
    loop {
        client.pause(pause).await;
        let Some(ticket) = client.stage.begin().await else {
            return;
        };
        let leases = client.stage.leases();
        let one = client.chance.pick(&leases).copied();
        match (client.chance.below(4), one) {
            (0 | 1, Some(id)) => {
                let request = LeaseKeepAliveRequest { id };
                let kept = client.first::<LeaseKeepAliveResponse>(Rpc::LeaseKeepAlive, &request);
                kept.await;
            }
            (2, Some(id)) => {
                let request = LeaseRevokeRequest { id };
                let revoked = client.ask::<LeaseRevokeResponse>(Rpc::LeaseRevoke, &request);
                drop(revoked.await);
            }
            _ => {
                next += 1;
                let grant = LeaseGrantRequest {
                    ttl: client.chance.between(2, 12),
                    id: next,
                };
                let granted = client.ask::<LeaseGrantResponse>(Rpc::LeaseGrant, &grant);
                if granted.await.is_ok() {
                    client.stage.granted(next);
                }
            }
        }
        drop(ticket);
    }
}
