//! Stores that fail, lie, go back or vanish, and a Keyloom that is killed.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{Keyloom, TERM, THREE, get, keys, list, store, stores};
use keyloom_etcd_api::{
    Code, EtcdError, Rpc,
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::TargetUnion, request_op::Request,
    },
};
use keyloom_testkit::{
    Answer, Step,
    model::{Fault, Gate, ModelStore, Nonsense},
    program::Chance,
};
use tokio::time::Instant;

const DEFAULT: &str = "/registry/pods/default/a";
const RBAC: &str = "/registry/roles/default/a";
const TENANT: &str = "/registry/pods/tenant-a/a";

async fn three() -> (Keyloom, Vec<ModelStore>) {
    let stores = stores(3);
    let keyloom = Keyloom::start(THREE, &stores).await;
    for key in [DEFAULT, RBAC, TENANT] {
        keyloom.put(key, "1").await.unwrap();
    }
    (keyloom, stores)
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_costs_only_what_needs_it() {
    let (keyloom, stores) = three().await;
    stores[2].inject_always(None, Fault::NotSent);
    assert!(keyloom.put(DEFAULT, "2").await.is_ok());
    assert!(keyloom.ask(&get(RBAC)).await.is_ok());
    assert_eq!(
        keyloom.range(list("/registry/roles/")).await.unwrap().count,
        1
    );
    for request in [list("/registry/pods/"), list("/registry/")] {
        let error = keyloom.range(request).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("\"tenant-a\""), "{error}");
    }
    stores[2].clear_faults();
    assert_eq!(
        keyloom.range(list("/registry/pods/")).await.unwrap().count,
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_not_sent_again_and_has_its_place() {
    let (keyloom, stores) = three().await;
    let before = stores[1].calls(Rpc::Put);
    stores[1].inject(Fault::LostAfterApply);
    let error = keyloom.put(RBAC, "lost").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(stores[1].calls(Rpc::Put), before + 1);
    let later = keyloom.put(DEFAULT, "2").await.unwrap();
    let kv = keyloom.range(list(RBAC)).await.unwrap();
    // A merged list would not see it yet: nobody was told that it happened. The store's own answer
    // reveals it.
    let Answer::Range(own) = keyloom.ask(&get(RBAC)).await.unwrap() else {
        panic!()
    };
    assert_eq!(own.kvs[0].value, "lost");
    assert_eq!(own.kvs[0].mod_revision, later + 1, "{kv:?}");
    assert_eq!(keyloom.put(DEFAULT, "3").await.unwrap(), later + 2);
}

/// Found by `concurrent::eight_clients_over_three_stores_see_one_etcd` with `KEYLOOM_SEED=2222`.
#[tokio::test(start_paused = true)]
async fn what_an_error_shows_no_later_list_denies() {
    let (keyloom, stores) = three().await;
    stores[1].inject(Fault::LostAfterApply);
    let delete = DeleteRangeRequest {
        key: RBAC.into(),
        ..DeleteRangeRequest::default()
    };
    let lost = keyloom.ask(&Step::DeleteRange(delete)).await;
    assert_eq!(lost.unwrap_err().code(), Code::Unavailable);
    let keep = PutRequest {
        key: RBAC.into(),
        ignore_value: true,
        ..PutRequest::default()
    };
    let refused = keyloom.ask(&Step::Put(keep)).await.unwrap_err();
    assert_eq!(EtcdError::of(&refused), Some(EtcdError::KeyNotFound));
    let all = keyloom.range(list("/registry/")).await.unwrap();
    assert_eq!(keys(&all), [DEFAULT, TENANT]);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_s_own_write_with_a_lost_answer_takes_no_revision() {
    for fault in [
        Fault::LostAfterApply,
        Fault::LostBeforeApply,
        Fault::NotSent,
    ] {
        let (keyloom, stores) = three().await;
        stores[0].inject_on(Rpc::Txn, 2, fault.clone());
        let mut last = keyloom.put(DEFAULT, "2").await.unwrap();
        for round in 0..20 {
            // Long enough for the ledger to be written between the rounds.
            tokio::time::advance(Duration::from_millis(300)).await;
            for key in [DEFAULT, TENANT] {
                let next = keyloom.put(key, "3").await.unwrap();
                assert_eq!(next, last + 1, "{fault:?}, round {round}");
                last = next;
            }
        }
        keyloom.stop().await;
        let keyloom = Keyloom::start(THREE, &stores).await;
        assert_eq!(keyloom.put(DEFAULT, "4").await.unwrap(), last + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_back_is_shut_out() {
    let (keyloom, stores) = three().await;
    let old = stores[2].snapshot();
    keyloom.put(TENANT, "2").await.unwrap();
    stores[2].restore(old);
    let error = keyloom.ask(&get(TENANT)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().contains("\"tenant-a\" went back"),
        "{error}"
    );
    // It stays shut out, also when it has caught up.
    assert!(keyloom.put(TENANT, "3").await.is_err());
    assert!(keyloom.put(DEFAULT, "3").await.is_ok());
}

/// etcd answers these from what a member has, which may be what it was a moment ago: that is no
/// store that went back.
#[tokio::test(start_paused = true)]
async fn a_transaction_that_may_be_stale_shuts_no_store_out() {
    let (keyloom, stores) = three().await;
    keyloom.put(TENANT, "2").await.unwrap();
    let behind = stores[2].with(|etcd| etcd.revision()) - 1;
    let read = |serializable| RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key: TENANT.into(),
            serializable,
            ..RangeRequest::default()
        })),
    };
    let txn = |success| {
        Step::Txn(TxnRequest {
            compare: vec![Compare {
                key: TENANT.into(),
                target_union: Some(TargetUnion::Version(7)),
                ..Compare::default()
            }],
            success,
            ..TxnRequest::default()
        })
    };
    let ask = async |ops| {
        let fault = Fault::Nonsense(Nonsense::HeaderRevision(behind));
        stores[2].inject_on(Rpc::Txn, 1, fault);
        keyloom.ask(&txn(ops)).await
    };
    ask(Vec::new()).await.unwrap();
    ask(vec![read(true), read(true)]).await.unwrap();
    let error = ask(vec![read(true), read(false)]).await.unwrap_err();
    assert!(error.message().contains("went back"), "{error}");
}

/// It lost one revision, and the next write takes the same number.
#[tokio::test(start_paused = true)]
async fn a_store_that_goes_back_by_one_revision_gives_none_out_again() {
    let (keyloom, stores) = three().await;
    let old = stores[2].snapshot();
    let lost = keyloom.put(TENANT, "2").await.unwrap();
    stores[2].restore(old);
    let error = keyloom.put(TENANT, "3").await.unwrap_err();
    assert!(
        error.message().contains("\"tenant-a\" went back"),
        "{error}"
    );
    assert!(keyloom.ask(&get(TENANT)).await.is_err());
    assert!(keyloom.put(DEFAULT, "3").await.unwrap() > lost);
}

#[tokio::test(start_paused = true)]
async fn another_cluster_under_an_old_name_is_refused() {
    let (keyloom, mut stores) = three().await;
    keyloom.stop().await;
    stores[2] = store(99);
    let error = Keyloom::try_start(THREE, &stores)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("\"tenant-a\" is cluster 3") && error.contains("63"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_an_error_that_names_the_store() {
    let (keyloom, stores) = three().await;
    for nonsense in [
        Nonsense::Garbage,
        Nonsense::Empty,
        Nonsense::NoHeader,
        Nonsense::HeaderRevision(0),
        Nonsense::HeaderRevision(-5),
        Nonsense::HeaderRevision(i64::MAX),
    ] {
        stores[1].inject(Fault::Nonsense(nonsense.clone()));
        let error = keyloom.ask(&get(RBAC)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{nonsense:?}");
        assert!(error.message().contains("\"rbac\""), "{error}");
        assert!(keyloom.put(DEFAULT, "x").await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_instance_waits_while_the_first_is_there() {
    let (first, stores) = three().await;
    let second = tokio::time::timeout(TERM * 20, Keyloom::start(THREE, &stores)).await;
    assert!(second.is_err(), "the first one is alive");
    assert!(first.put(DEFAULT, "2").await.is_ok());
}

/// Both find no ledger. The slower one used to end with an error.
#[tokio::test(start_paused = true)]
async fn of_two_instances_that_begin_one_ledger_the_slower_one_waits() {
    let stores = stores(3);
    let gate = Gate::new();
    stores[0].inject_on(Rpc::Txn, 1, Fault::HangsBeforeApply(gate.clone()));
    let slower = tokio::spawn({
        let stores = stores.clone();
        async move { Keyloom::start(THREE, &stores).await }
    });
    gate.until_arrived(1).await;
    let faster = Keyloom::start(THREE, &stores).await;
    tokio::time::sleep(TERM * 3).await;
    assert!(!slower.is_finished(), "the faster one is alive");
    let last = faster.put(TENANT, "1").await.unwrap();
    faster.stop().await;
    let second = slower.await.unwrap();
    assert_eq!(second.put(DEFAULT, "2").await.unwrap(), last + 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_instance_takes_over_at_once_after_a_clean_end() {
    let (first, stores) = three().await;
    let last = first.put(DEFAULT, "2").await.unwrap();
    first.stop().await;
    let begun = Instant::now();
    let second = Keyloom::start(THREE, &stores).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(second.put(DEFAULT, "3").await.unwrap(), last + 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_instance_takes_over_after_the_term_of_one_that_was_killed() {
    let (first, stores) = three().await;
    let last = first.put(DEFAULT, "2").await.unwrap();
    first.kill();
    let begun = Instant::now();
    let second = Keyloom::start(THREE, &stores).await;
    assert!(
        begun.elapsed() >= TERM && begun.elapsed() < TERM * 2,
        "{:?}",
        begun.elapsed()
    );
    assert!(second.put(DEFAULT, "3").await.unwrap() > last);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_renew_its_term_is_silent_in_time() {
    let (first, stores) = three().await;
    stores[0].inject_always(Some(Rpc::Txn), Fault::NotSent);
    tokio::time::sleep(TERM).await;
    for key in [DEFAULT, TENANT] {
        let error = first.ask(&get(key)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(
            error.message().contains("leadership was not renewed"),
            "{error}"
        );
    }
    stores[0].clear_faults();
    tokio::time::sleep(TERM).await;
    assert!(
        first.ask(&get(DEFAULT)).await.is_ok(),
        "nobody took the leadership, so it goes on"
    );
}

/// A store that is down at start costs only what needs it, and comes back.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_at_start_returns() {
    let (keyloom, stores) = three().await;
    keyloom.kill();
    stores[2].inject_always(None, Fault::NotSent);
    let keyloom = Keyloom::start(THREE, &stores).await;
    assert!(keyloom.put(DEFAULT, "2").await.is_ok());
    assert!(keyloom.ask(&get(RBAC)).await.is_ok());
    let error = keyloom.ask(&get(TENANT)).await.unwrap_err();
    assert!(error.message().contains("\"tenant-a\""), "{error}");
    let before = keyloom.range(list("/registry/roles/")).await.unwrap();
    stores[2].clear_faults();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        keyloom.range(list("/registry/")).await.unwrap().kvs.len(),
        3
    );
    // What it held was ordered above everything that was given out without it.
    let head = keyloom
        .range(list("/registry/"))
        .await
        .unwrap()
        .header
        .unwrap()
        .revision;
    assert!(head >= before.header.unwrap().revision);
}

/// It comes back even where its return cannot be recorded at first, because the default store has
/// gone away meanwhile.
#[tokio::test(start_paused = true)]
async fn a_store_returns_while_the_default_store_is_away() {
    let (keyloom, stores) = three().await;
    keyloom.kill();
    stores[2].inject_always(None, Fault::NotSent);
    let keyloom = Keyloom::start(THREE, &stores).await;
    stores[0].inject_always(None, Fault::NotSent);
    stores[2].clear_faults();
    tokio::time::sleep(TERM * 3).await;
    assert!(keyloom.ask(&get(TENANT)).await.is_err());
    stores[0].clear_faults();
    tokio::time::sleep(Duration::from_secs(10)).await;
    keyloom.ask(&get(TENANT)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delete_over_stores_takes_one_revision_for_each() {
    let stores = stores(3);
    let text = THREE.replace(
        "deleteRangeOverStores: refuse",
        "deleteRangeOverStores: split",
    );
    let keyloom = Keyloom::start(&text, &stores).await;
    for key in [DEFAULT, RBAC, TENANT, "/registry/pods/zone/a"] {
        keyloom.put(key, "1").await.unwrap();
    }
    let range = list("/registry/pods/");
    let delete = DeleteRangeRequest {
        key: range.key,
        range_end: range.range_end,
        prev_kv: true,
    };
    let Answer::DeleteRange(answer) = keyloom.ask(&Step::DeleteRange(delete)).await.unwrap() else {
        panic!()
    };
    assert_eq!((answer.deleted, answer.header.unwrap().revision), (3, 7));
    let deleted: Vec<_> = answer
        .prev_kvs
        .iter()
        .map(|kv| (&kv.key[..], kv.mod_revision))
        .collect();
    let expected = [(DEFAULT, 2), (TENANT, 4), ("/registry/pods/zone/a", 5)];
    assert_eq!(
        deleted,
        expected.map(|(key, revision)| (key.as_bytes(), revision))
    );
    assert_eq!(
        keys(&keyloom.range(list("/registry/")).await.unwrap()),
        [RBAC]
    );
}

/// Kills at random moments: no revision is given out twice, no acknowledged write is lost, and what
/// was written before the last flush keeps its revision.
#[tokio::test(start_paused = true)]
async fn killed_at_random_moments() {
    for seed in 0..30 {
        let mut chance = Chance::new(seed);
        let stores = stores(3);
        let mut keyloom = Keyloom::start(THREE, &stores).await;
        let mut given: BTreeMap<i64, String> = BTreeMap::new();
        let mut newest: BTreeMap<String, String> = BTreeMap::new();
        for step in 0..200 {
            let prefixes = [
                "/registry/pods/default/",
                "/registry/roles/x/",
                "/registry/pods/tenant-a/",
            ];
            let key = format!("{}{}", chance.pick(&prefixes).unwrap(), chance.below(5));
            let value = format!("{seed}-{step}");
            let revision = keyloom.put(&key, &value).await.unwrap();
            assert_eq!(
                given.insert(revision, value.clone()),
                None,
                "seed {seed} step {step}"
            );
            newest.insert(key, value);
            if chance.percent(10) {
                tokio::time::advance(Duration::from_millis(300)).await;
                tokio::task::yield_now().await;
            }
            if chance.percent(5) {
                keyloom.kill();
                tokio::task::yield_now().await;
                keyloom = Keyloom::start(THREE, &stores).await;
                let head = keyloom.range(list("/registry/")).await.unwrap();
                assert!(head.header.unwrap().revision >= *given.keys().last().unwrap());
            }
        }
        let all = keyloom
            .range(RangeRequest {
                ..list("/registry/")
            })
            .await
            .unwrap();
        assert_eq!(all.kvs.len(), newest.len());
        for kv in &all.kvs {
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            assert_eq!(kv.value, newest[&key], "seed {seed}");
        }
    }
}
