//! Stores that die, come back, or come back as something else.

use std::time::Duration;

use keyloom_etcd_api::{Code, Status, etcdserverpb::RangeRequest};
use keyloom_tests::{
    Keyloom,
    poll::eventually,
    split::everything,
    stage::{DEFAULT, KEYS, PODS, Stage, TENANT, range},
};
use tokio::time::timeout;

/// The answer that a client gets where a store of its span cannot be used.
fn assert_unavailable(answer: Result<impl std::fmt::Debug, Status>, store: &str) -> String {
    let status = answer.expect_err("the store cannot answer");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(
        status.message().contains(&format!("{store:?}")),
        "{status:?}"
    );
    status.message().to_owned()
}

fn count_of(prefix: &'static str) -> RangeRequest {
    RangeRequest {
        key: prefix.into(),
        range_end: prefix.replace("/default/", "/default0").into(),
        count_only: true,
        ..RangeRequest::default()
    }
}

#[tokio::test]
async fn a_dead_store_costs_only_what_needs_it_and_comes_back() {
    let mut stage = Stage::new(601).await;
    stage.split.run(300).await;
    for key in KEYS {
        stage.put(key).await;
    }
    stage.stores[PODS].kill().await;
    let client = stage.keyloom.client();
    assert_unavailable(stage.get(PODS).await, "pods");
    assert_unavailable(range(&client, everything(0)).await, "pods");
    assert_unavailable(
        range(&client, count_of("/registry/pods/default/")).await,
        "pods",
    );
    for _ in 0..20 {
        stage.put(KEYS[DEFAULT]).await;
        stage.put(KEYS[TENANT]).await;
        assert_eq!(stage.get(TENANT).await.unwrap().kvs.len(), 1);
        range(&client, count_of("/registry/secrets/default/"))
            .await
            .unwrap();
    }
    stage.stores[PODS].restart().await;
    eventually("the store's return", || stage.get(PODS)).await;
    stage.split.compare_history().await;
    stage.split.run(300).await;
}

#[tokio::test]
async fn a_store_that_hangs_costs_only_what_needs_it() {
    let mut stage = Stage::new(602).await;
    stage.stores[PODS].pause();
    let hanging = timeout(Duration::from_millis(500), stage.get(PODS));
    assert!(!hanging.await.is_ok_and(|answer| answer.is_ok()));
    for _ in 0..20 {
        stage.put(KEYS[DEFAULT]).await;
        stage.put(KEYS[TENANT]).await;
    }
    stage.stores[PODS].resume();
    eventually("the store's return", || stage.get(PODS)).await;
    stage.split.compare_history().await;
    stage.split.run(200).await;
}

#[tokio::test]
async fn a_store_that_is_down_at_start_returns() {
    let mut stage = Stage::new(603).await;
    stage.split.run(200).await;
    for key in KEYS {
        stage.put(key).await;
    }
    assert!(stage.keyloom.terminate().await.success());
    stage.stores[PODS].kill().await;
    stage.start_keyloom_again().await;
    assert_unavailable(stage.get(PODS).await, "pods");
    for _ in 0..20 {
        stage.put(KEYS[DEFAULT]).await;
        stage.put(KEYS[TENANT]).await;
    }
    stage.stores[PODS].restart().await;
    eventually("the store's return", || stage.get(PODS)).await;
    stage.split.compare_history().await;
    stage.split.run(200).await;
}

/// Without the default store nothing can be ordered for longer than the term; when it is back,
/// all goes on and nothing is lost.
#[tokio::test]
async fn the_default_store_s_death_stops_the_endpoint_and_loses_nothing() {
    let mut stage = Stage::new(604).await;
    stage.split.run(200).await;
    for key in KEYS {
        stage.put(key).await;
    }
    stage.stores[DEFAULT].kill().await;
    assert_unavailable(stage.get(DEFAULT).await, "default");
    eventually("the end of the term", || async {
        match stage.get(TENANT).await {
            Err(status) if status.code() == Code::Unavailable => Ok(()),
            answer => Err(answer),
        }
    })
    .await;
    assert!(stage.keyloom.runs());
    stage.stores[DEFAULT].restart().await;
    eventually("the store's return", || stage.get(DEFAULT)).await;
    eventually("the term's return", || stage.get(TENANT)).await;
    stage.split.compare_history().await;
    stage.split.run(200).await;
}

#[tokio::test]
async fn another_cluster_under_an_old_name_is_refused() {
    let mut stage = Stage::new(605).await;
    stage.stores[PODS].kill().await;
    let own = stage.stores[PODS].copy_data();
    stage.stores[PODS].restart_on(None).await;
    eventually("the refusal of the stranger", || async {
        let said = assert_unavailable(stage.get(PODS).await, "pods");
        if said.contains("cluster") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    stage.put(KEYS[TENANT]).await;
    stage.put(KEYS[DEFAULT]).await;

    assert!(stage.keyloom.terminate().await.success());
    stage.stores[PODS].restart_on(Some(own)).await;
    stage.start_keyloom_again().await;
    eventually("the store's return", || stage.get(PODS)).await;
    stage.split.compare_history().await;
    stage.split.run(200).await;
}

#[tokio::test]
async fn a_store_from_a_backup_is_shut_out() {
    let mut stage = Stage::new(606).await;
    stage.stores[PODS].kill().await;
    let backup = stage.stores[PODS].copy_data();
    stage.stores[PODS].restart().await;
    eventually("the store's return", || stage.get(PODS)).await;
    for _ in 0..5 {
        stage.put(KEYS[PODS]).await;
    }
    stage.stores[PODS].restart_on(Some(backup)).await;
    eventually("the refusal of the past", || async {
        let said = assert_unavailable(stage.get(PODS).await, "pods");
        if said.contains("revision") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    stage.put(KEYS[TENANT]).await;
    stage.put(KEYS[DEFAULT]).await;
    // A start does not forget it.
    assert!(stage.keyloom.terminate().await.success());
    let mut again = Keyloom::launch_with(&stage.file, &["--term", "2s"]);
    assert!(!again.ended().await.success());
    let said = again.log();
    assert!(said.contains("store \"pods\" is at revision"), "{said}");
}
