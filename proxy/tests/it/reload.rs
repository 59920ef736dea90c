//! Topologies that change while Keyloom serves, over model stores with stopped time.

use std::{sync::Arc, time::Duration};

use crate::support::{
    Keyloom, Ready,
    changing::{ALL, PODS, RBAC, Stage, TENANT, changed, topology},
    get, keys, list, put, store,
};
use keyloom_etcd_api::{
    Code, EtcdError, Rpc, Status,
    etcdserverpb::{DeleteRangeRequest, RangeRequest},
};
use keyloom_proxy::{Applied, Refusal};
use keyloom_store::Store;
use keyloom_testkit::{
    Answer, Step,
    model::{Fault, Gate, ModelStore},
    program::{Chance, Generator, Group, Settings, Tolerance, same_answer},
};

#[tokio::test(start_paused = true)]
async fn what_would_hide_keys_is_refused_and_nothing_is_different() {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC])).await;
    keyloom.put("/registry/pods/default/a", "1").await.unwrap();
    keyloom.put("/registry/pods/tenant-a/a", "1").await.unwrap();
    for (backends, count, to) in [
        (&[RBAC, PODS][..], 2, "pods"),
        (&[RBAC, TENANT], 1, "tenant"),
        (&[TENANT, RBAC], 1, "tenant"),
    ] {
        let refused = keyloom.apply(&topology(backends)).await.unwrap_err();
        let Refusal::Hides {
            count: found,
            from,
            to: other,
            example,
        } = &refused
        else {
            panic!("{refused}")
        };
        assert_eq!(
            (*found, &**from, &**other),
            (count, "default", to),
            "{refused}"
        );
        assert!(example.starts_with(b"/registry/pods/"), "{refused}");
    }
    // A store that holds keys stays.
    let role = keyloom.put("/registry/roles/x/r", "1").await.unwrap();
    let refused = keyloom.apply(&topology(&[])).await.unwrap_err();
    assert!(
        matches!(refused, Refusal::Hides { ref from, .. } if from == "rbac"),
        "{refused}"
    );
    assert_eq!(
        keyloom.put("/registry/pods/default/a", "2").await.unwrap(),
        role + 1
    );
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 3);
    // The same topology again is nothing new.
    assert_eq!(
        keyloom.apply(&topology(&[RBAC])).await,
        Ok(Applied::Unchanged)
    );
}

/// Before there is a ledger all keys are the default store's, and a start hides none of them.
#[tokio::test(start_paused = true)]
async fn a_second_store_that_would_hide_keys_is_refused_at_start() {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[])).await;
    let at = keyloom.put("/registry/pods/default/a", "1").await.unwrap();
    keyloom.stop().await;

    let keyloom = stage.start(&topology(&[RBAC, PODS])).await;
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 1);
    let refused = keyloom.apply(&topology(&[RBAC, PODS])).await.unwrap_err();
    assert!(
        matches!(&refused, Refusal::Hides { count: 1, from, to, .. } if from == "default" && to == "pods"),
        "{refused}"
    );
    // Revisions are the store's own, and nothing of Keyloom's is in it.
    let deleted = delete(&keyloom, "/registry/pods/default/a").await;
    assert_eq!(deleted, at + 1);
    let refused = keyloom.apply(&topology(&[RBAC, PODS])).await.unwrap_err();
    assert_eq!(refused, Refusal::SecondStore);
    keyloom.stop().await;

    let keyloom = stage.start(&topology(&[RBAC, PODS])).await;
    assert_eq!(
        keyloom.apply(&topology(&[RBAC, PODS])).await,
        Ok(Applied::Unchanged)
    );
    keyloom.put("/registry/pods/default/a", "2").await.unwrap();
    let held = stage
        .model("pods")
        .with(|etcd| etcd.apply(&Step::Range(list("/registry/"))));
    let Ok(Answer::Range(held)) = held else {
        panic!("{held:?}")
    };
    assert_eq!(held.count, 1);
}

/// An expression without an anchor can lead any key elsewhere, from the first one on.
#[tokio::test(start_paused = true)]
async fn an_expression_without_an_anchor_comes_at_a_start_and_later() {
    const ODD: (&str, &str) = ("pods", "regexp: {key: -odd$}");
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC, ODD])).await;
    keyloom.put("/registry/secrets/x/s-odd", "1").await.unwrap();
    let refused = keyloom.apply(&topology(&[RBAC])).await.unwrap_err();
    assert!(
        matches!(refused, Refusal::Hides { count: 1, .. }),
        "{refused}"
    );
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC])).await;
    assert_eq!(keyloom.apply(&topology(&[RBAC, ODD])).await, changed(true));
    keyloom.put("/registry/secrets/x/s-odd", "1").await.unwrap();
    let held = stage.model("pods").with(|etcd| etcd.header().revision);
    assert!(held > 1, "on its store");
}

/// Two backends on one cluster are one store of the ledger, in whatever order they stand.
#[tokio::test(start_paused = true)]
async fn backends_of_one_cluster_change_places() {
    let (default, shared) = (store(1), store(2));
    let named = [
        ("default", &default),
        ("rbac", &shared),
        ("tenant", &shared),
    ];
    let named = named.map(|(name, model)| {
        let store: Arc<dyn Store> = Arc::new(model.clone());
        (name.to_owned(), store)
    });
    let ready = Ready(named.iter().cloned().collect());
    let in_order = |names: [&str; 3]| names.map(|name| Arc::clone(&ready.0[name])).to_vec();
    let stores = in_order(["default", "rbac", "tenant"]);
    let first = topology(&[RBAC, TENANT]);
    let started = Keyloom::among(&first, stores, ready.clone());
    let keyloom = started.await.unwrap();
    let keys = [
        "/registry/roles/default/r",
        "/registry/roles/tenant-a/r",
        "/registry/pods/tenant-a/p",
    ];
    let mut written = Vec::new();
    for key in keys {
        written.push(keyloom.put(key, "1").await.unwrap());
    }
    let other = topology(&[TENANT, RBAC]);
    assert_eq!(keyloom.apply(&other).await, changed(false));
    let check = async |keyloom: &Keyloom| {
        let listed = keyloom.range(list("/registry/")).await.unwrap();
        let mut found: Vec<_> = listed.kvs.iter().map(|kv| kv.mod_revision).collect();
        found.sort_unstable();
        assert_eq!(found, written);
    };
    check(&keyloom).await;
    keyloom.stop().await;
    let stores = in_order(["default", "tenant", "rbac"]);
    let keyloom = Keyloom::among(&other, stores, ready.clone()).await.unwrap();
    check(&keyloom).await;
    let next = keyloom.put(keys[1], "2").await.unwrap();
    assert_eq!(next, written[2] + 1);
}

async fn delete(keyloom: &Keyloom, key: &str) -> i64 {
    let request = DeleteRangeRequest {
        key: key.to_owned().into(),
        ..DeleteRangeRequest::default()
    };
    let answer = keyloom.ask(&Step::DeleteRange(request)).await;
    answer.unwrap().revision()
}

#[tokio::test(start_paused = true)]
async fn a_store_comes_serves_goes_and_returns() {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC])).await;
    let before = keyloom.put("/registry/secrets/x/s", "1").await.unwrap();
    assert_eq!(keyloom.apply(&topology(&[RBAC, PODS])).await, changed(true));
    let first = keyloom.put("/registry/pods/default/a", "1").await.unwrap();
    // The change itself takes one revision.
    assert_eq!(first, before + 2);
    let pods = stage.model("pods");
    assert_eq!(pods.with(|etcd| etcd.revision()), 2);
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 2);
    let delete = Step::DeleteRange(keyloom_etcd_api::etcdserverpb::DeleteRangeRequest {
        key: "/registry/pods/default/a".into(),
        ..Default::default()
    });
    keyloom.ask(&delete).await.unwrap();
    assert_eq!(keyloom.apply(&topology(&[RBAC])).await, changed(true));
    keyloom.put("/registry/pods/default/b", "1").await.unwrap();
    assert_eq!(pods.with(|etcd| etcd.revision()), 3);
    keyloom
        .ask(&Step::DeleteRange(
            keyloom_etcd_api::etcdserverpb::DeleteRangeRequest {
                key: "/registry/pods/default/b".into(),
                ..Default::default()
            },
        ))
        .await
        .unwrap();
    // Somebody else writes to it while nobody looks.
    pods.with(|etcd| etcd.apply(&put("/registry/pods/default/c", "foreign")))
        .unwrap();
    assert_eq!(keyloom.apply(&topology(&[RBAC, PODS])).await, changed(true));
    let all = keyloom.range(list("/registry/pods/")).await.unwrap();
    assert_eq!(keys(&all), ["/registry/pods/default/c"]);
    let kv = &all.kvs[0];
    assert!(kv.mod_revision < all.header.as_ref().unwrap().revision);
    let next = keyloom
        .put("/registry/pods/default/c", "ours")
        .await
        .unwrap();
    assert_eq!(next, all.header.unwrap().revision + 1);
    keyloom.stop().await;
    let keyloom = stage.start(&topology(&[RBAC, PODS])).await;
    let again = keyloom.range(list("/registry/")).await.unwrap();
    assert_eq!(again.header.unwrap().revision, next);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_change_is_compacted_in_what_moved_and_nowhere_else() {
    let stage = Stage::new();
    let text = topology(&[RBAC, PODS]);
    let keyloom = stage.start(&topology(&[RBAC])).await;
    let at = keyloom.put("/registry/secrets/x/s", "1").await.unwrap();
    assert_eq!(keyloom.apply(&text).await, changed(true));
    let after = keyloom.put("/registry/pods/x/p", "1").await.unwrap();
    let pinned = |prefix: &str, revision| RangeRequest {
        revision,
        ..list(prefix)
    };
    let mut keyloom = keyloom;
    for round in 0..2 {
        for (prefix, revision, found) in [
            ("/registry/secrets/", at, Some(1)),
            ("/registry/pods/", at, None),
            ("/registry/", at, None),
            ("/registry/pods/", after - 1, Some(0)),
            ("/registry/", after - 1, Some(1)),
            ("/registry/", after, Some(2)),
        ] {
            let answer = keyloom.range(pinned(prefix, revision)).await;
            match found {
                Some(count) => assert_eq!(answer.unwrap().count, count, "{prefix} {round}"),
                None => {
                    let error = EtcdError::of(&answer.unwrap_err());
                    assert_eq!(error, Some(EtcdError::Compacted), "{prefix} {round}");
                }
            }
        }
        // The floors outlive the program.
        keyloom.stop().await;
        keyloom = stage.start(&text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_with_another_file_serves_what_was_accepted_until_that_is_taken() {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC, TENANT])).await;
    keyloom.put("/registry/pods/default/a", "1").await.unwrap();
    keyloom.put("/registry/pods/tenant-a/a", "1").await.unwrap();
    keyloom.stop().await;
    for later in [&[RBAC, PODS][..], &[RBAC], &[PODS, TENANT, RBAC]] {
        let text = topology(later);
        let keyloom = stage.start(&text).await;
        assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 2);
        let refused = keyloom.apply(&text).await.unwrap_err();
        assert!(matches!(refused, Refusal::Hides { .. }), "{refused}");
        keyloom.put("/registry/pods/tenant-a/a", "2").await.unwrap();
        assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 2);
        keyloom.stop().await;
    }
    // What moves nothing that exists is taken.
    let text = topology(&[TENANT]);
    let keyloom = stage.start(&text).await;
    assert_eq!(keyloom.apply(&text).await, changed(true));
    keyloom.put("/registry/roles/x/r", "1").await.unwrap();
    assert_eq!(stage.model("rbac").with(|etcd| etcd.revision()), 1);
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 3);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_another_or_does_not_answer_is_refused() {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC])).await;
    stage.model("pods").inject_always(None, Fault::NotSent);
    let refused = keyloom.apply(&topology(&[RBAC, PODS])).await.unwrap_err();
    assert!(
        matches!(refused, Refusal::Unreachable { ref store, .. } if store == "pods"),
        "{refused}"
    );
    assert!(refused.may_pass());
    stage.model("pods").clear_faults();
    assert_eq!(keyloom.apply(&topology(&[RBAC, PODS])).await, changed(true));
}

/// A write that is under way to what moves is waited for; those to other keys go on.
#[tokio::test(start_paused = true)]
async fn a_change_waits_for_writes_under_way_and_gives_up_when_they_hang() {
    let stage = Stage::new();
    let keyloom = Arc::new(stage.start(&topology(&[RBAC])).await);
    let gate = Gate::new();
    let default = stage.model("default");
    default.inject_on(Rpc::Put, 1, Fault::HangsBeforeApply(gate.clone()));
    let write = |key: &'static str| {
        let keyloom = Arc::clone(&keyloom);
        tokio::spawn(async move { keyloom.put(key, "1").await })
    };
    let hanging = write("/registry/pods/x/hangs");
    gate.until_arrived(1).await;
    let change = {
        let keyloom = Arc::clone(&keyloom);
        tokio::spawn(async move { keyloom.apply(&topology(&[RBAC, PODS])).await })
    };
    let other = write("/registry/secrets/x/s").await.unwrap();
    assert!(other.is_ok(), "{other:?}");
    gate.release();
    hanging.await.unwrap().unwrap();
    // It is a key that exists now.
    let refused = change.await.unwrap().unwrap_err();
    assert!(
        matches!(refused, Refusal::Hides { count: 1, .. }),
        "{refused}"
    );

    let gate = Gate::new();
    default.inject_on(Rpc::Put, 1, Fault::HangsBeforeApply(gate.clone()));
    let hanging = write("/registry/secrets/x/hangs");
    gate.until_arrived(1).await;
    let refused = keyloom
        .apply(&topology(&[RBAC, ("tenant", "prefix: {prefix: leases}")]))
        .await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, Refusal::Busy { ref store } if store == "default"),
        "{refused}"
    );
    gate.release();
    drop(hanging.await.unwrap());
    let taken = keyloom
        .apply(&topology(&[RBAC, ("tenant", "prefix: {prefix: leases}")]))
        .await;
    assert_eq!(taken, changed(true));
}

/// The ledger's writes are killed one after the other: either topology is whole.
#[tokio::test(start_paused = true)]
async fn killed_at_any_of_its_own_writes_one_of_both_topologies_is_whole() {
    let (old, new) = (topology(&[RBAC]), topology(&[RBAC, PODS]));
    let mut seen = [false; 2];
    for fault in [Fault::LostBeforeApply, Fault::LostAfterApply] {
        for number in 0..3 {
            let stage = Stage::new();
            let keyloom = stage.start(&old).await;
            keyloom.put("/registry/secrets/x/s", "1").await.unwrap();
            let default = stage.model("default");
            for _ in 0..number {
                default.inject_on(Rpc::Txn, 1, Fault::LostAfterApply);
            }
            // From here on nothing is heard of any further write.
            default.inject_on(Rpc::Txn, 1, fault.clone());
            default.inject_on(Rpc::Txn, 1000, Fault::LostBeforeApply);
            let change = keyloom.apply(&new);
            drop(tokio::time::timeout(Duration::from_secs(2), change).await);
            keyloom.kill();
            default.clear_faults();
            let keyloom = stage.start(&new).await;
            let all = keyloom.range(list("/registry/")).await.unwrap();
            assert_eq!(keys(&all), ["/registry/secrets/x/s"]);
            let taken = keyloom.apply(&new).await.unwrap();
            seen[usize::from(taken == Applied::Unchanged)] = true;
            keyloom.put("/registry/pods/x/p", "1").await.unwrap();
            assert_eq!(stage.model("pods").with(|etcd| etcd.revision()), 2);
            assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 2);
        }
    }
    assert_eq!(seen, [true, true], "both were seen");
}

fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["a", "b"]),
        Group::new("/registry/pods/tenant-a/", &["a", "b"]),
        Group::new("/registry/roles/default/", &["r", "s"]),
        Group::new("/registry/services/specs/tenant-a/", &["x"]),
    ]
}

/// The same random program against one etcd and through a Keyloom whose topology changes between
/// the steps.
async fn differential(seed: u64) -> (usize, usize) {
    let (reference, stage) = (ModelStore::default(), Stage::new());
    let keyloom = stage.start(&topology(ALL[0])).await;
    let mut generator = Generator::new(seed, Settings::new(groups()));
    let mut chance = Chance::new(seed);
    let (mut taken, mut compared) = (0, 0);
    for at in 0..300 {
        if chance.below(6) == 0 {
            let next = topology(ALL[chance.below(ALL.len())]);
            match keyloom.apply(&next).await {
                Ok(Applied::Changed { moved: true }) => {
                    reference.with(|etcd| etcd.keyspace_mut().skip());
                    taken += 1;
                }
                Ok(_) | Err(Refusal::Hides { .. }) => {}
                Err(refused) => panic!("seed {seed}, step {at}: {refused}"),
            }
        }
        if chance.below(20) == 0 {
            // Room for routes to change.
            let range = list("/registry/");
            let clear = |prefix: &str| {
                let range = list(prefix);
                Step::DeleteRange(keyloom_etcd_api::etcdserverpb::DeleteRangeRequest {
                    key: range.key,
                    range_end: range.range_end,
                    ..Default::default()
                })
            };
            for kv in keyloom.range(range).await.unwrap().kvs {
                let step = clear(std::str::from_utf8(&kv.key).unwrap());
                let expected = reference.with(|etcd| etcd.apply(&step)).map_err(Into::into);
                same(seed, at, &step, &expected, &keyloom.ask(&step).await);
            }
        }
        let step = generator.next_step();
        let got = keyloom.ask(&step).await;
        if is_documented(&step, &got) {
            continue;
        }
        let expected = reference.with(|etcd| etcd.apply(&step)).map_err(Into::into);
        generator.learn(&step, &expected);
        same(seed, at, &step, &expected, &got);
        compared += 1;
    }
    (taken, compared)
}

type Told = Result<Answer, Status>;

fn same(seed: u64, at: usize, step: &Step, expected: &Told, got: &Told) {
    let tolerance = Tolerance { cluster_id: true };
    if let Err(difference) = same_answer(expected, got, tolerance) {
        panic!("seed {seed}, step {at}: {step:?}\n{difference}");
    }
}

/// What only one etcd can do; and old revisions of what moved since.
fn is_documented(step: &Step, got: &Told) -> bool {
    let Err(status) = got else { return false };
    let spans = status.code() == Code::InvalidArgument
        && (status.message().contains("transaction spans stores")
            || status.message().contains("refuses to delete over stores"));
    let compacted =
        EtcdError::of(status) == Some(EtcdError::Compacted) && !matches!(step, Step::Compact(_));
    spans || compacted
}

#[tokio::test(start_paused = true)]
async fn answers_are_those_of_one_etcd_while_the_topology_changes() {
    let (mut taken, mut compared) = (0, 0);
    for seed in 0..30 {
        let (more, steps) = differential(seed).await;
        taken += more;
        compared += steps;
    }
    assert!(taken > 100 && compared > 3000, "{taken} {compared}");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_one_key_is_made_anew_where_its_store_changed_meanwhile() {
    let stage = Stage::new();
    let keyloom = Arc::new(stage.start(&topology(&[RBAC])).await);
    let gate = Gate::new();
    stage
        .model("default")
        .inject_on(Rpc::Range, 1, Fault::HangsAfterApply(gate.clone()));
    let read = {
        let keyloom = Arc::clone(&keyloom);
        tokio::spawn(async move { keyloom.ask(&get("/registry/pods/x/p")).await })
    };
    gate.until_arrived(1).await;
    assert_eq!(keyloom.apply(&topology(&[RBAC, PODS])).await, changed(true));
    let at = keyloom.put("/registry/pods/x/p", "1").await.unwrap();
    gate.release();
    let Answer::Range(answer) = read.await.unwrap().unwrap() else {
        panic!()
    };
    // Below the write it may miss it, at or above it must not.
    assert!(answer.header.unwrap().revision < at || answer.count == 1);
}
