//! One of three stores hangs or is down: per operation, what works and what waits or fails, as
//! `docs/concepts/guarantees.md` has it.

use std::time::Duration;

use crate::support::{Keyloom, TERM, THREE, get, keys, list, put, stores};
use bytes::Bytes;
use keyloom_etcd_api::{
    Code, EtcdError, Rpc, Status,
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, MemberListRequest,
        RangeRequest, RequestOp, StatusRequest, StatusResponse, TxnRequest, request_op::Request,
    },
};
use keyloom_testkit::{
    Step,
    model::{Fault, Gate, ModelStore},
};
use prost::Message;
use tokio::time::sleep;

const DEFAULT: &str = "/registry/pods/default/a";
const RBAC: &str = "/registry/roles/default/a";
const TENANT: &str = "/registry/pods/tenant-a/a";

/// Deletes over stores are split.
async fn three() -> (Keyloom, Vec<ModelStore>) {
    let stores = stores(3);
    let text = THREE.replace("Stores: refuse", "Stores: split");
    let keyloom = Keyloom::start(&text, &stores).await;
    for key in [DEFAULT, RBAC, TENANT] {
        keyloom.put(key, "1").await.unwrap();
    }
    (keyloom, stores)
}

/// The two ways to be away: calls are refused at once, or nothing answers.
fn ways() -> [Fault; 2] {
    [Fault::NotSent, Fault::HangsBeforeApply(Gate::new())]
}

fn reads(keys: &[&str]) -> Step {
    let read = |key: &&str| RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..RangeRequest::default()
        })),
    };
    Step::Txn(TxnRequest {
        success: keys.iter().map(read).collect(),
        ..TxnRequest::default()
    })
}

fn writes(key: &str) -> Step {
    let Step::Put(put) = put(key, "txn") else {
        panic!()
    };
    Step::Txn(TxnRequest {
        success: vec![RequestOp {
            request: Some(Request::RequestPut(put)),
        }],
        ..TxnRequest::default()
    })
}

fn delete(prefix: &str) -> Step {
    let range = list(prefix);
    Step::DeleteRange(DeleteRangeRequest {
        key: range.key,
        range_end: range.range_end,
        ..DeleteRangeRequest::default()
    })
}

async fn call<A: Message + Default>(
    keyloom: &Keyloom,
    rpc: Rpc,
    request: impl Message,
) -> Result<A, Status> {
    let answer = keyloom.unary(rpc, request.encode_to_vec().into()).await?;
    Ok(A::decode(answer).unwrap())
}

fn assert_names(status: &Status, store: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains(&format!("{store:?}")), "{status}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_need_the_store_works_and_what_does_names_it() {
    for way in ways() {
        let (keyloom, stores) = three().await;
        let head = keyloom.put(RBAC, "2").await.unwrap();
        stores[2].inject_always(None, way);

        let old = RangeRequest {
            revision: head - 1,
            ..list("/registry/roles/")
        };
        let works = [
            put(DEFAULT, "2"),
            put(RBAC, "3"),
            writes(RBAC),
            reads(&[RBAC]),
            reads(&[DEFAULT, RBAC]),
            get(DEFAULT),
            Step::Range(list("/registry/roles/")),
            Step::Range(old),
            delete("/registry/roles/other/"),
        ];
        for step in works {
            keyloom
                .ask(&step)
                .await
                .unwrap_or_else(|status| panic!("{step:?}: {status}"));
        }
        let old = RangeRequest {
            revision: head,
            ..list("/registry/")
        };
        let fails = [
            put(TENANT, "2"),
            writes(TENANT),
            reads(&[DEFAULT, TENANT]),
            get(TENANT),
            Step::Range(list("/registry/")),
            Step::Range(RangeRequest {
                limit: 1,
                count_only: true,
                ..list("/registry/pods/")
            }),
            Step::Range(old),
            delete("/registry/pods/tenant-a/"),
        ];
        for step in fails {
            let status = keyloom.ask(&step).await.err();
            assert_names(&status.unwrap_or_else(|| panic!("{step:?}")), "tenant-a");
        }
    }
}

/// The parts of the stores before it are done, and the error says so.
#[tokio::test(start_paused = true)]
async fn a_delete_over_stores_says_what_it_has_deleted() {
    for way in ways() {
        let (keyloom, stores) = three().await;
        stores[2].inject_always(None, way);
        let status = keyloom.ask(&delete("/registry/pods/")).await.unwrap_err();
        assert_names(&status, "tenant-a");
        assert!(
            status
                .message()
                .contains("keys deleted before this error: 1;"),
            "{status}"
        );
        stores[2].clear_faults();
        let left = keyloom.range(list("/registry/")).await.unwrap();
        assert_eq!(keys(&left), [TENANT, RBAC]);
    }
}

/// A compaction counts everywhere from the moment that it is recorded; the store does it later.
#[tokio::test(start_paused = true)]
async fn a_compaction_is_recorded_without_the_store() {
    for way in ways() {
        let (keyloom, stores) = three().await;
        let at = keyloom.put(TENANT, "2").await.unwrap();
        // What every watch has delivered may be compacted.
        sleep(Duration::from_millis(100)).await;
        stores[2].inject_always(None, way);
        let never = stores[2].snapshot().compacted();
        let compaction =
            |revision, physical| Step::Compact(CompactionRequest { revision, physical });
        keyloom.ask(&compaction(at, false)).await.unwrap();
        assert_eq!(stores[2].snapshot().compacted(), never);
        stores[2].clear_faults();
        let below = RangeRequest {
            revision: at - 1,
            ..list(TENANT)
        };
        let status = keyloom.range(below).await.unwrap_err();
        assert_eq!(EtcdError::of(&status), Some(EtcdError::Compacted));
        let next = keyloom.put(TENANT, "3").await.unwrap();
        sleep(Duration::from_millis(100)).await;
        drop(stores[2].take_received());
        keyloom.ask(&compaction(next, true)).await.unwrap();
        assert!(stores[2].snapshot().compacted() > never);
        let received = stores[2].take_received();
        let asked = received.iter().find(|(rpc, _)| *rpc == Rpc::Compact);
        let asked = CompactionRequest::decode(&asked.unwrap().1[..]).unwrap();
        assert!(asked.physical, "what was asked for is handed on");
    }
}

/// What asks every store by its nature, and what asks none.
#[tokio::test(start_paused = true)]
async fn calls_to_the_server_itself() {
    for way in ways() {
        let (keyloom, stores) = three().await;
        stores[2].inject_always(None, way);
        let status: StatusResponse = call(&keyloom, Rpc::Status, StatusRequest {}).await.unwrap();
        assert!(status.errors[0].contains("\"tenant-a\""), "{status:?}");
        let members = keyloom
            .unary(
                Rpc::MemberList,
                MemberListRequest::default().encode_to_vec().into(),
            )
            .await;
        assert!(members.is_ok());
        let lease = LeaseGrantRequest { ttl: 60, id: 7 };
        let granted = keyloom
            .unary(Rpc::LeaseGrant, lease.encode_to_vec().into())
            .await;
        assert!(granted.is_ok(), "{granted:?}");
        let hash = keyloom
            .unary(Rpc::HashKV, HashKvRequest::default().encode_to_vec().into())
            .await;
        assert_names(&hash.unwrap_err(), "tenant-a");
    }
}

/// The default store holds the order: without it the others go on to the end of the term.
#[tokio::test(start_paused = true)]
async fn without_the_default_store_the_others_go_on_to_the_end_of_the_term() {
    let ways: [fn() -> (Fault, Gate); 2] = [
        || (Fault::NotSent, Gate::new()),
        || {
            let gate = Gate::new();
            (Fault::HangsBeforeApply(gate.clone()), gate)
        },
    ];
    for way in ways {
        let (keyloom, stores) = three().await;
        // From a moment at which nothing is on its way.
        sleep(Duration::from_millis(300)).await;
        let (fault, gate) = way();
        stores[0].inject_always(None, fault);
        let last = keyloom.put(RBAC, "2").await.unwrap();
        assert_eq!(keyloom.put(TENANT, "2").await.unwrap(), last + 1);
        assert!(keyloom.range(list("/registry/roles/")).await.is_ok());
        sleep(TERM).await;
        for step in [
            put(RBAC, "3"),
            get(TENANT),
            Step::Range(list("/registry/roles/")),
        ] {
            let status = keyloom.ask(&step).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable);
            assert!(
                status.message().contains("leadership was not renewed"),
                "{status}"
            );
        }
        stores[0].clear_faults();
        gate.release();
        sleep(TERM).await;
        assert!(keyloom.put(RBAC, "4").await.unwrap() > last + 1);
    }
}
