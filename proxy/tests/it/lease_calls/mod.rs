//! The lease calls of the tests, and keys on every store of [`THREE`].

use bytes::Bytes;
use keyloom_etcd_api::{
    Code, Rpc, Status,
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
        PutRequest,
    },
};
use keyloom_testkit::{Step, model::ModelStore};
use prost::Message;

use crate::support::{Keyloom, THREE, get, keys, list, stores};

pub(crate) const DEFAULT: &str = "/registry/pods/default/a";
pub(crate) const RBAC: &str = "/registry/roles/default/a";
pub(crate) const TENANT: &str = "/registry/pods/tenant-a/a";
pub(crate) const EVERYWHERE: [&str; 3] = [DEFAULT, RBAC, TENANT];
pub(crate) const LEASE: i64 = 0x5eed;
pub(crate) const TTL: i64 = 60;

pub(crate) async fn call<A: Message + Default>(
    keyloom: &Keyloom,
    rpc: Rpc,
    request: impl Message,
) -> Result<A, Status> {
    let answer = keyloom.unary(rpc, request.encode_to_vec().into()).await?;
    Ok(A::decode(answer).unwrap())
}

pub(crate) async fn grant(keyloom: &Keyloom, id: i64) -> Result<LeaseGrantResponse, Status> {
    call(keyloom, Rpc::LeaseGrant, LeaseGrantRequest { ttl: TTL, id }).await
}

pub(crate) async fn revoke(keyloom: &Keyloom, id: i64) -> Result<i64, Status> {
    let answer: LeaseRevokeResponse =
        call(keyloom, Rpc::LeaseRevoke, LeaseRevokeRequest { id }).await?;
    Ok(answer.header.unwrap().revision)
}

pub(crate) async fn left(
    keyloom: &Keyloom,
    id: i64,
    keys: bool,
) -> Result<LeaseTimeToLiveResponse, Status> {
    let request = LeaseTimeToLiveRequest { id, keys };
    call(keyloom, Rpc::LeaseTimeToLive, request).await
}

pub(crate) async fn keep_alive(
    keyloom: &Keyloom,
    id: i64,
) -> Result<LeaseKeepAliveResponse, Status> {
    let request = LeaseKeepAliveRequest { id }.encode_to_vec().into();
    let mut answers = keyloom.stream(Rpc::LeaseKeepAlive, vec![request]).await;
    Ok(LeaseKeepAliveResponse::decode(answers.remove(0)?).unwrap())
}

pub(crate) fn leased(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from_static(b"1"),
        lease,
        ..PutRequest::default()
    }
}

pub(crate) async fn put(keyloom: &Keyloom, key: &str, lease: i64) -> Result<i64, Status> {
    Ok(keyloom
        .ask(&Step::Put(leased(key, lease)))
        .await?
        .revision())
}

/// After every store has said where it stands: nobody else tells Keyloom of an expiry as long as
/// nothing is watched.
pub(crate) async fn all_keys(keyloom: &Keyloom) -> Vec<String> {
    for key in EVERYWHERE {
        keyloom.ask(&get(key)).await.unwrap();
    }
    keys(&keyloom.range(list("/registry/")).await.unwrap())
}

/// The seconds that a store's clock moves on.
pub(crate) fn advance(stores: &[ModelStore], seconds: i64) {
    for store in stores {
        store.with(|etcd| etcd.advance(seconds));
    }
}

pub(crate) async fn granted() -> (Keyloom, Vec<ModelStore>) {
    let stores = stores(3);
    let keyloom = Keyloom::start(THREE, &stores).await;
    grant(&keyloom, LEASE).await.unwrap();
    (keyloom, stores)
}

/// A lease with a key on every store.
pub(crate) async fn used() -> (Keyloom, Vec<ModelStore>) {
    let (keyloom, stores) = granted().await;
    for key in EVERYWHERE {
        put(&keyloom, key, LEASE).await.unwrap();
    }
    (keyloom, stores)
}

pub(crate) async fn restarted(keyloom: Keyloom, stores: &[ModelStore]) -> Keyloom {
    keyloom.stop().await;
    Keyloom::start(THREE, stores).await
}

pub(crate) fn not_found(error: &Status) {
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.message(), "etcdserver: requested lease not found");
}
