//! Leases over three stores: one lease to clients, wherever its keys are.

use std::time::Duration;

use crate::lease_calls::*;
use crate::support::{Keyloom, THREE, get, list, stores};
use bytes::Bytes;
use keyloom_etcd_api::{
    Code, Rpc,
    etcdserverpb::{
        Compare, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseLeasesRequest,
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest, RequestOp, TxnRequest,
        compare, request_op::Request,
    },
};
use keyloom_testkit::{
    Answer, Step,
    model::{Fault, Gate, Nonsense},
};
use prost::Message;
use tokio::time::Instant;

// === grant and materialisation ===

#[tokio::test(start_paused = true)]
async fn a_grant_is_the_default_store_s_until_a_key_is_elsewhere() {
    let (keyloom, stores) = granted().await;
    assert_eq!(stores[1].calls(Rpc::LeaseGrant), 0);
    let before = keyloom.put(DEFAULT, "x").await.unwrap();
    let answer = grant(&keyloom, 0).await.unwrap();
    assert_ne!(answer.id, 0);
    assert_eq!(answer.ttl, TTL);
    // A grant takes no revision.
    assert_eq!(answer.header.unwrap().revision, before);
    assert_eq!(put(&keyloom, RBAC, answer.id).await.unwrap(), before + 1);
    let on_store = stores[1].with(|etcd| etcd.lease_leases());
    assert_eq!(on_store.leases[0].id, answer.id);
    let again = grant(&keyloom, LEASE).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(again.message(), "etcdserver: lease already exists");
}

#[tokio::test(start_paused = true)]
async fn the_list_is_the_default_store_s() {
    let (keyloom, stores) = used().await;
    stores[1].with(|etcd| {
        etcd.lease_grant(&LeaseGrantRequest { ttl: TTL, id: 9 })
            .unwrap()
    });
    let answer: LeaseLeasesResponse = call(&keyloom, Rpc::LeaseLeases, LeaseLeasesRequest {})
        .await
        .unwrap();
    let ids: Vec<_> = answer.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [LEASE]);
    assert_eq!(answer.header.unwrap().revision, 4);
}

#[tokio::test(start_paused = true)]
async fn concurrent_puts_of_one_lease_grant_it_once() {
    let (keyloom, stores) = granted().await;
    let gate = Gate::new();
    stores[1].inject_on(Rpc::LeaseGrant, 1, Fault::HangsBeforeApply(gate.clone()));
    let key = |at: usize| format!("{RBAC}-{at}");
    let puts = futures_util::future::join_all((0..20).map(|at| {
        let (keyloom, key) = (&keyloom, key(at));
        async move { put(keyloom, &key, LEASE).await }
    }));
    let release = async {
        gate.until_arrived(1).await;
        // A store that hangs delays nobody who uses the lease on another.
        put(&keyloom, TENANT, LEASE).await.unwrap();
        gate.release();
    };
    let (puts, ()) = tokio::join!(puts, release);
    assert!(puts.iter().all(Result::is_ok), "{puts:?}");
    assert_eq!(stores[1].calls(Rpc::LeaseGrant), 1);
    assert_eq!(stores[2].calls(Rpc::LeaseGrant), 1);
    assert_eq!(stores[0].calls(Rpc::LeaseTimeToLive), 2);
}

#[tokio::test(start_paused = true)]
async fn a_put_with_an_unknown_lease_is_refused_and_not_sent() {
    let stores = stores(3);
    let keyloom = Keyloom::start(THREE, &stores).await;
    for (store, key) in EVERYWHERE.into_iter().enumerate() {
        not_found(&put(&keyloom, key, 77).await.unwrap_err());
        let sent = u64::from(store == 0);
        assert_eq!(stores[store].calls(Rpc::Put), sent, "{key}");
        assert_eq!(stores[store].calls(Rpc::LeaseGrant), 0, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_materialising_grant_s_answer_may_be_lost() {
    for fault in [
        Fault::LostAfterApply,
        Fault::LostBeforeApply,
        Fault::NotSent,
    ] {
        let (keyloom, stores) = granted().await;
        stores[1].inject_on(Rpc::LeaseGrant, 1, fault.clone());
        let error = put(&keyloom, RBAC, LEASE).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{fault:?}");
        assert!(error.message().contains("\"rbac\""), "{error}");
        assert_eq!(stores[1].calls(Rpc::Put), 0);
        put(&keyloom, RBAC, LEASE).await.unwrap();
        // It is not taken for what an earlier lease left behind.
        assert_eq!(stores[1].calls(Rpc::LeaseRevoke), 0, "{fault:?}");
        revoke(&keyloom, LEASE).await.unwrap();
        assert_eq!(all_keys(&keyloom).await, [""; 0], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_memory_is_mended_by_the_store_that_contradicts_it() {
    let (keyloom, stores) = used().await;
    stores[1].with(|etcd| {
        etcd.lease_revoke(&LeaseRevokeRequest { id: LEASE })
            .unwrap()
    });
    put(&keyloom, RBAC, LEASE).await.unwrap();
    assert_eq!(stores[1].calls(Rpc::LeaseGrant), 2);
    let keys = left(&keyloom, LEASE, true).await.unwrap().keys;
    assert_eq!(keys, [DEFAULT, TENANT, RBAC]);
    // A lease that ended is not brought back.
    stores[0].with(|etcd| {
        etcd.lease_revoke(&LeaseRevokeRequest { id: LEASE })
            .unwrap()
    });
    stores[1].with(|etcd| {
        etcd.lease_revoke(&LeaseRevokeRequest { id: LEASE })
            .unwrap()
    });
    not_found(&put(&keyloom, RBAC, LEASE).await.unwrap_err());
    assert_eq!(stores[1].calls(Rpc::LeaseGrant), 2);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_used_again_does_not_inherit_an_old_lease() {
    let (keyloom, stores) = used().await;
    // The default store's ends, the others have some time left.
    advance(&stores[..1], TTL);
    advance(&stores[1..], TTL - 10);
    grant(&keyloom, LEASE).await.unwrap();
    let fresh = "/registry/roles/default/fresh";
    put(&keyloom, fresh, LEASE).await.unwrap();
    advance(&stores, 10);
    assert_eq!(all_keys(&keyloom).await, [fresh]);
    advance(&stores, TTL - 10);
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_answer_was_lost_counts_and_nothing_from_before_does() {
    let (keyloom, stores) = used().await;
    advance(&stores, TTL);
    stores[0].inject_on(Rpc::LeaseGrant, 1, Fault::LostAfterApply);
    let error = grant(&keyloom, LEASE).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(keep_alive(&keyloom, LEASE).await.unwrap().ttl, TTL);
    put(&keyloom, RBAC, LEASE).await.unwrap();
    assert_eq!(left(&keyloom, LEASE, true).await.unwrap().keys, [RBAC]);
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_leases_are_only_seconds_gets_no_key_with_one() {
    let (keyloom, stores) = granted().await;
    let header = stores[1].with(|etcd| etcd.header());
    let as_kine = LeaseGrantResponse {
        header: Some(header),
        id: TTL,
        ttl: TTL,
        ..LeaseGrantResponse::default()
    };
    let nonsense = Nonsense::Bytes(as_kine.encode_to_vec().into());
    stores[1].inject_on(Rpc::LeaseGrant, 1, Fault::Nonsense(nonsense));
    let error = put(&keyloom, RBAC, LEASE).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("\"rbac\""), "{error}");
    assert_eq!(stores[1].calls(Rpc::Put), 0);
}

// === transactions ===

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str, lease: i64) -> RequestOp {
    op(Request::RequestPut(leased(key, lease)))
}

/// Puts with one lease where the key is absent, with others where it is there, and nested.
fn branches(key: &str, then: i64, otherwise: i64, nested: i64) -> Step {
    let absent = Compare {
        key: Bytes::from(key.to_owned()),
        target: compare::CompareTarget::Version.into(),
        target_union: Some(compare::TargetUnion::Version(0)),
        ..Compare::default()
    };
    let inner = TxnRequest {
        success: vec![put_op(&format!("{key}-nested"), nested)],
        ..TxnRequest::default()
    };
    Step::Txn(TxnRequest {
        compare: vec![absent],
        success: vec![put_op(key, then)],
        failure: vec![put_op(key, otherwise), op(Request::RequestTxn(inner))],
    })
}

#[tokio::test(start_paused = true)]
async fn leases_of_both_branches_and_nested_ones_come_to_the_store() {
    let (keyloom, stores) = granted().await;
    for id in [2, 3] {
        grant(&keyloom, id).await.unwrap();
    }
    keyloom.ask(&branches(RBAC, LEASE, 2, 3)).await.unwrap();
    assert_eq!(stores[1].calls(Rpc::LeaseGrant), 3);
    keyloom.ask(&branches(RBAC, LEASE, 2, 3)).await.unwrap();
    assert_eq!(left(&keyloom, 2, true).await.unwrap().keys, [RBAC]);
    let nested = format!("{RBAC}-nested");
    revoke(&keyloom, 2).await.unwrap();
    assert_eq!(all_keys(&keyloom).await, [nested]);
    revoke(&keyloom, 3).await.unwrap();
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_is_not_taken_may_name_an_unknown_lease() {
    let (keyloom, stores) = granted().await;
    let (bare, through) = (stores[0].clone(), &keyloom);
    // etcd itself is the measure: the default store's key, then a key of another store.
    for key in [DEFAULT, RBAC] {
        through.ask(&branches(key, LEASE, 77, 78)).await.unwrap();
        not_found(
            &through
                .ask(&branches(key, LEASE, 77, 78))
                .await
                .unwrap_err(),
        );
    }
    assert_eq!(bare.with(|etcd| etcd.lease_leases()).leases.len(), 1);
}

// === revoke ===

#[tokio::test(start_paused = true)]
async fn a_revoke_deletes_on_every_store_at_a_revision_of_each() {
    let (keyloom, stores) = used().await;
    let before = keyloom.put("/registry/stays", "x").await.unwrap();
    let at = revoke(&keyloom, LEASE).await.unwrap();
    assert_eq!(at, before + 3);
    assert_eq!(all_keys(&keyloom).await, ["/registry/stays"]);
    assert_eq!(keyloom.put(DEFAULT, "x").await.unwrap(), at + 1);
    for store in &stores {
        assert!(store.with(|etcd| etcd.lease_leases()).leases.is_empty());
    }
    not_found(&revoke(&keyloom, LEASE).await.unwrap_err());
}

#[tokio::test(start_paused = true)]
async fn a_revoke_asks_only_the_stores_that_have_the_lease() {
    let (keyloom, stores) = granted().await;
    put(&keyloom, RBAC, LEASE).await.unwrap();
    stores[2].inject_always(None, Fault::NotSent);
    revoke(&keyloom, LEASE).await.unwrap();
    assert!(stores[1].with(|etcd| etcd.lease_leases()).leases.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_revoke_survives_a_restart() {
    let (keyloom, stores) = used().await;
    let keyloom = restarted(keyloom, &stores).await;
    revoke(&keyloom, LEASE).await.unwrap();
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_that_a_dead_store_failed_can_be_repeated() {
    for fault in [Fault::NotSent, Fault::LostAfterApply] {
        let (keyloom, stores) = used().await;
        stores[2].inject_on(Rpc::LeaseRevoke, 1, fault.clone());
        let error = revoke(&keyloom, LEASE).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("\"tenant-a\""), "{error}");
        // The lease is there until all of it is gone.
        assert!(left(&keyloom, LEASE, false).await.unwrap().ttl > 0);
        revoke(&keyloom, LEASE).await.unwrap();
        assert_eq!(all_keys(&keyloom).await, [""; 0], "{fault:?}");
    }
}

/// What the first attempt did on a store is learnt from nobody but the second.
#[tokio::test(start_paused = true)]
async fn a_repeated_revoke_is_not_denied_by_a_list_after_it() {
    let (keyloom, stores) = used().await;
    stores[2].hold_watches(true);
    stores[2].inject_on(Rpc::LeaseRevoke, 1, Fault::LostAfterApply);
    revoke(&keyloom, LEASE).await.unwrap_err();
    revoke(&keyloom, LEASE).await.unwrap();
    let listed = keyloom.range(list("/registry/")).await.unwrap();
    assert_eq!(listed.kvs, []);
}

#[tokio::test(start_paused = true)]
async fn a_revoke_waits_for_the_materialisation_under_way() {
    let (keyloom, stores) = granted().await;
    let gate = Gate::new();
    stores[1].inject_on(Rpc::LeaseGrant, 1, Fault::HangsAfterApply(gate.clone()));
    let both = async {
        let (written, revoked) = tokio::join!(put(&keyloom, RBAC, LEASE), async {
            gate.until_arrived(1).await;
            revoke(&keyloom, LEASE).await
        });
        revoked.unwrap();
        if let Err(error) = written {
            not_found(&error);
        }
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stores[0].calls(Rpc::LeaseRevoke), 0);
        gate.release();
    };
    tokio::join!(both, release);
    assert!(stores[1].with(|etcd| etcd.lease_leases()).leases.is_empty());
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
}

// === keep-alive, expiry ===

#[tokio::test(start_paused = true)]
async fn keys_of_every_store_live_as_long_as_the_lease_is_kept_alive() {
    let (mut keyloom, stores) = used().await;
    for round in 0..6 {
        advance(&stores, TTL - 5);
        let answer = keep_alive(&keyloom, LEASE).await.unwrap();
        assert_eq!((answer.id, answer.ttl), (LEASE, TTL));
        assert_eq!(answer.header.unwrap().revision, 4);
        assert_eq!(all_keys(&keyloom).await.len(), 3, "round {round}");
        if round == 2 {
            keyloom = restarted(keyloom, &stores).await;
        }
    }
    advance(&stores, TTL);
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
    assert_eq!(keep_alive(&keyloom, LEASE).await.unwrap().ttl, 0);
    let gone = left(&keyloom, LEASE, true).await.unwrap();
    assert_eq!((gone.ttl, gone.granted_ttl), (-1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_is_a_revision_of_each_store() {
    let (keyloom, stores) = used().await;
    for (at, store) in stores.iter().enumerate() {
        let one = std::slice::from_ref(store);
        advance(one, TTL);
        let Answer::Range(answer) = keyloom.ask(&get(EVERYWHERE[at])).await.unwrap() else {
            panic!()
        };
        assert!(answer.kvs.is_empty());
        assert_eq!(
            answer.header.unwrap().revision,
            5 + i64::try_from(at).unwrap()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_neither_fails_nor_delays_a_keep_alive() {
    let (keyloom, stores) = used().await;
    stores[2].inject_always(None, Fault::NotSent);
    let begun = Instant::now();
    assert_eq!(keep_alive(&keyloom, LEASE).await.unwrap().ttl, TTL);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    stores[2].clear_faults();
    // One that hangs delays the first keep-alive for a second and then none.
    let gate = Gate::new();
    stores[2].inject_always(None, Fault::HangsBeforeApply(gate.clone()));
    let requests = vec![LeaseKeepAliveRequest { id: LEASE }.encode_to_vec().into(); 100];
    let begun = Instant::now();
    let answers = keyloom.stream(Rpc::LeaseKeepAlive, requests).await;
    assert_eq!(answers.len(), 100);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    // All of them went on in the background, and the store is waited for again.
    advance(&stores, TTL - 5);
    stores[2].clear_faults();
    gate.release();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(stores[2].calls(Rpc::LeaseKeepAlive), 100);
    let remaining = stores[2].with(|etcd| {
        let request = LeaseTimeToLiveRequest {
            id: LEASE,
            keys: false,
        };
        etcd.lease_time_to_live(&request).ttl
    });
    assert_eq!(remaining, TTL);
    keep_alive(&keyloom, LEASE).await.unwrap();
    advance(&stores, TTL - 5);
    assert_eq!(all_keys(&keyloom).await.len(), 3);
    assert_eq!(stores[2].calls(Rpc::LeaseKeepAlive), 101);
}

#[tokio::test(start_paused = true)]
async fn a_dead_default_store_ends_the_stream_and_the_others_are_kept_alive() {
    let (keyloom, stores) = used().await;
    advance(&stores, TTL - 5);
    for (fault, code) in [
        (Fault::NotSent, Code::Unavailable),
        (Fault::HangsBeforeApply(Gate::new()), Code::Unavailable),
    ] {
        stores[0].inject_on(Rpc::LeaseKeepAlive, 1, fault);
        let error = keep_alive(&keyloom, LEASE).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.message().contains("\"default\""), "{error}");
        tokio::task::yield_now().await;
        advance(&stores[1..], TTL - 5);
    }
    assert_eq!(all_keys(&keyloom).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_default_store_no_longer_has_is_not_kept_on_the_others() {
    let (keyloom, stores) = used().await;
    advance(&stores, TTL - 5);
    advance(&stores[..1], 5);
    assert_eq!(keep_alive(&keyloom, LEASE).await.unwrap().ttl, 0);
    // What went on in the background would be done.
    tokio::time::sleep(Duration::from_millis(1)).await;
    advance(&stores[1..], 5);
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
}

/// A store that was cut off for too long has deleted the keys: the client must hear it.
#[tokio::test(start_paused = true)]
async fn a_lease_that_a_store_lost_is_gone() {
    let (keyloom, stores) = used().await;
    advance(&stores[2..], TTL);
    assert_eq!(keep_alive(&keyloom, LEASE).await.unwrap().ttl, 0);
    // It is not kept alive behind the back of a client that was told so.
    advance(&stores, TTL - 5);
    assert_eq!(keep_alive(&keyloom, LEASE).await.unwrap().ttl, 0);
    advance(&stores, 5);
    assert_eq!(all_keys(&keyloom).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_under_way_while_the_lease_comes_to_a_store_does_not_hide_it() {
    let (keyloom, stores) = granted().await;
    let keyloom = restarted(keyloom, &stores).await;
    let gate = Gate::new();
    stores[1].inject_on(Rpc::LeaseKeepAlive, 1, Fault::HangsAfterApply(gate.clone()));
    let release = async {
        gate.until_arrived(1).await;
        put(&keyloom, RBAC, LEASE).await.unwrap();
        gate.release();
    };
    let (kept, ()) = tokio::join!(keep_alive(&keyloom, LEASE), release);
    assert_eq!(kept.unwrap().ttl, TTL);
    advance(&stores, TTL - 5);
    keep_alive(&keyloom, LEASE).await.unwrap();
    advance(&stores, TTL - 5);
    assert_eq!(all_keys(&keyloom).await, [RBAC]);
}

// === time to live ===

#[tokio::test(start_paused = true)]
async fn the_time_to_live_is_the_smallest_and_the_keys_are_all() {
    let (keyloom, stores) = used().await;
    // A key of another store's is not this one's, whoever put it here.
    stores[1].with(|etcd| {
        etcd.put(&leased("/registry/pods/default/stray", LEASE))
            .unwrap()
    });
    advance(&stores, 10);
    advance(&stores[1..2], 7);
    let mut keyloom = keyloom;
    for what in ["remembered", "unknown"] {
        let answer = left(&keyloom, LEASE, true).await.unwrap();
        assert_eq!((answer.ttl, answer.granted_ttl), (TTL - 17, TTL), "{what}");
        assert_eq!(answer.keys, [DEFAULT, TENANT, RBAC], "{what}");
        assert_eq!(answer.header.unwrap().revision, 5, "{what}");
        assert!(left(&keyloom, LEASE, false).await.unwrap().keys.is_empty());
        keyloom = restarted(keyloom, &stores).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_fails_a_time_to_live_only_where_its_keys_are_asked_for() {
    let (keyloom, stores) = used().await;
    let gate = Gate::new();
    for fault in [Fault::NotSent, Fault::HangsBeforeApply(gate)] {
        stores[2].inject_always(None, fault);
        assert_eq!(left(&keyloom, LEASE, false).await.unwrap().ttl, TTL);
        let error = left(&keyloom, LEASE, true).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("\"tenant-a\""), "{error}");
        stores[2].clear_faults();
    }
}
