//! Maintenance calls over three stores.

use crate::support::{Keyloom, THREE, stores};
use keyloom_etcd_api::{
    Code, Rpc, Status,
    etcdserverpb::{
        CompactionRequest, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse,
        HashRequest, HashResponse, SnapshotRequest, StatusRequest, StatusResponse,
    },
};
use keyloom_testkit::{
    Step,
    model::{Fault, Identity, ModelStore, Profile},
};
use prost::Message;

const EVERYWHERE: [&str; 3] = [
    "/registry/pods/default/a",
    "/registry/roles/default/a",
    "/registry/pods/tenant-a/a",
];

async fn call<A: Message + Default>(
    keyloom: &Keyloom,
    rpc: Rpc,
    request: impl Message,
) -> Result<A, Status> {
    let answer = keyloom.unary(rpc, request.encode_to_vec().into()).await?;
    Ok(A::decode(answer).unwrap())
}

async fn three() -> (Keyloom, Vec<ModelStore>) {
    let stores = stores(3);
    let keyloom = Keyloom::start(THREE, &stores).await;
    for key in EVERYWHERE {
        keyloom.put(key, "1").await.unwrap();
    }
    (keyloom, stores)
}

async fn hash_kv(keyloom: &Keyloom, revision: i64) -> Result<HashKvResponse, Status> {
    call(keyloom, Rpc::HashKV, HashKvRequest { revision }).await
}

#[tokio::test(start_paused = true)]
async fn every_store_is_defragmented_and_a_dead_one_is_named() {
    let (keyloom, stores) = three().await;
    let answer: DefragmentResponse = call(&keyloom, Rpc::Defragment, DefragmentRequest {})
        .await
        .unwrap();
    assert_eq!(answer.header.unwrap().revision, 4);
    for store in &stores {
        assert_eq!(store.calls(Rpc::Defragment), 1);
    }
    stores[1].inject(Fault::NotSent);
    let error = call::<DefragmentResponse>(&keyloom, Rpc::Defragment, DefragmentRequest {}).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("\"rbac\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_hash_at_a_revision_stays_and_that_of_the_newest_moves() {
    let (keyloom, _stores) = three().await;
    let first = hash_kv(&keyloom, 0).await.unwrap();
    assert_eq!(first.hash_revision, 4);
    let mut seen = vec![first.hash];
    for (at, key) in EVERYWHERE.into_iter().enumerate() {
        keyloom.put(key, "2").await.unwrap();
        let now = hash_kv(&keyloom, 0).await.unwrap();
        let revision = 5 + i64::try_from(at).unwrap();
        assert_eq!((now.hash_revision, now.compact_revision), (revision, -1));
        assert_eq!(now.header.unwrap().revision, revision);
        assert!(!seen.contains(&now.hash));
        seen.push(now.hash);
    }
    assert_eq!(hash_kv(&keyloom, 5).await.unwrap().hash, seen[1]);
    assert_eq!(hash_kv(&keyloom, 6).await.unwrap().hash, seen[2]);
}

#[tokio::test(start_paused = true)]
async fn a_hash_is_refused_as_etcd_refuses_it() {
    let (keyloom, stores) = three().await;
    let compact = Step::Compact(CompactionRequest {
        revision: 3,
        physical: false,
    });
    keyloom.ask(&compact).await.unwrap();
    assert_eq!(hash_kv(&keyloom, 3).await.unwrap().compact_revision, 3);
    for (revision, text) in [
        (2, "etcdserver: mvcc: required revision has been compacted"),
        (
            5,
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ] {
        let error = hash_kv(&keyloom, revision).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::OutOfRange, text));
    }
    stores[2].inject(Fault::NotSent);
    let error = hash_kv(&keyloom, 0).await.unwrap_err();
    assert!(error.message().contains("\"tenant-a\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_whole_hash_is_of_every_store() {
    let (keyloom, stores) = three().await;
    let hash = async || {
        let answer: HashResponse = call(&keyloom, Rpc::Hash, HashRequest {}).await.unwrap();
        answer.hash
    };
    let mut before = hash().await;
    assert_eq!(hash().await, before);
    for store in &stores[1..] {
        store.with(|etcd| etcd.keyspace_mut().commit());
        keyloom.put(EVERYWHERE[1], "2").await.unwrap();
        let now = hash().await;
        assert_ne!(now, before);
        before = now;
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_says_where_to_take_it() {
    let (keyloom, _stores) = three().await;
    let request = SnapshotRequest {}.encode_to_vec().into();
    let error = keyloom.stream(Rpc::Snapshot, vec![request]).await.remove(0);
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    for name in ["\"default\"", "\"rbac\"", "\"tenant-a\""] {
        assert!(error.message().contains(name), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_does_not_make_keyloom_look_newer() {
    let of_version = |cluster_id, version: &str| {
        ModelStore::new(Profile {
            version: version.to_owned(),
            identity: Identity {
                cluster_id,
                ..Identity::default()
            },
            ..Profile::default()
        })
    };
    let stores = [
        of_version(1, "3.6.16"),
        of_version(2, "3.4.30"),
        of_version(3, "3.5.21"),
    ];
    stores[1].inject_always(Some(Rpc::Status), Fault::NotSent);
    let keyloom = Keyloom::start(THREE, &stores).await;
    let version = async || -> (String, usize) {
        let status: StatusResponse = call(&keyloom, Rpc::Status, StatusRequest {}).await.unwrap();
        (status.version, status.errors.len())
    };
    // Nobody knows what it has.
    assert_eq!(version().await, ("3.4.0".to_owned(), 1));
    stores[1].clear_faults();
    assert_eq!(version().await, ("3.4.30".to_owned(), 0));
    stores[1].inject_always(Some(Rpc::Status), Fault::NotSent);
    assert_eq!(version().await, ("3.4.30".to_owned(), 1));
}
