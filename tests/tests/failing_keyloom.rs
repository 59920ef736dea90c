//! Keylooms that are killed, paused, or meet another one.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use keyloom_etcd_api::Code;
use keyloom_tests::{
    Client, Keyloom,
    poll::eventually,
    split::everything,
    stage::{KEYS, PODS, Stage, range},
};

/// Writes until the endpoint is gone; gives back the last revision of each key and all of them.
async fn write_until_gone(client: Client, writer: usize) -> (BTreeMap<String, i64>, Vec<i64>) {
    let (mut last, mut all) = (BTreeMap::new(), Vec::new());
    for at in 0.. {
        let key = format!("{}/{writer}-{}", KEYS[at % KEYS.len()], at % 7);
        let request = keyloom_etcd_api::etcdserverpb::PutRequest {
            key: key.clone().into(),
            value: at.to_string().into(),
            ..Default::default()
        };
        let Ok(answer) = client.kv().put(request).await else {
            break;
        };
        let revision = answer.into_inner().header.unwrap().revision;
        last.insert(key, revision);
        all.push(revision);
    }
    (last, all)
}

/// What each key was last changed at.
async fn changes(client: &Client, revision: i64) -> (i64, BTreeMap<Vec<u8>, i64>) {
    let answer = range(client, everything(revision)).await.unwrap();
    let changed = answer
        .kvs
        .iter()
        .map(|kv| (kv.key.to_vec(), kv.mod_revision))
        .collect();
    (answer.header.unwrap().revision, changed)
}

#[tokio::test]
async fn killed_amid_writes_it_comes_back_without_a_revision_given_twice() {
    let mut stage = Stage::new(701).await;
    stage.split.run(200).await;
    assert!(stage.keyloom.terminate().await.success());
    stage.start_keyloom_again().await;
    let (_, old) = changes(&stage.keyloom.client(), 0).await;

    let mut given = BTreeSet::new();
    for _ in 0..3 {
        let writers = join_all((0..4).map(|at| write_until_gone(stage.keyloom.client(), at)));
        let killed = async {
            // Some writes first.
            let client = stage.keyloom.client();
            eventually("some writes", || async {
                let answer = range(&client, everything(0))
                    .await
                    .map_err(|status| status.to_string())?;
                if answer.count > i64::try_from(old.len()).unwrap() + 20 {
                    Ok(())
                } else {
                    Err("few".to_owned())
                }
            })
            .await;
            stage.keyloom.kill().await;
        };
        let (written, ()) = tokio::join!(writers, killed);
        stage.start_keyloom_again().await;
        let client = stage.keyloom.client();
        let (_, now) = changes(&client, 0).await;
        for (last, all) in written {
            for revision in all {
                assert!(given.insert(revision), "{revision} was given twice");
            }
            for key in last.keys() {
                assert!(now.contains_key(key.as_bytes()), "{key} is lost");
            }
        }
        for (key, revision) in &old {
            assert_eq!(
                now.get(key),
                Some(revision),
                "an old object changed its revision"
            );
        }
        let next = client.put("/registry/secrets/default/next", "x").await;
        assert!(given.last().is_none_or(|last| next > *last));
        assert!(given.insert(next));
    }
}

/// Whoever was paused for longer than its term may have a successor: it says nothing more.
#[tokio::test]
async fn of_two_keylooms_on_one_ledger_the_older_says_nothing_wrong() {
    let mut stage = Stage::new(702).await;
    let old = stage.keyloom.client();
    stage.keyloom.pause();
    let mut successor = Keyloom::launch_with(&stage.file, &["--term", "5s"]);
    successor.ready().await;
    let revision = successor.client().put(KEYS[PODS], "of the successor").await;
    stage.keyloom.resume();
    let answer = range(&old, everything(0)).await;
    assert!(
        answer.is_err(),
        "it answered beside its successor: {answer:?}"
    );
    assert!(!stage.keyloom.ended().await.success());
    let now = successor.client().get(KEYS[PODS]).await.unwrap();
    assert_eq!(
        (now.value, now.mod_revision),
        ("of the successor".into(), revision)
    );
}

#[tokio::test]
async fn a_second_keyloom_waits_for_the_first_and_takes_over_in_order() {
    let mut stage = Stage::new(703).await;
    let mut second = Keyloom::launch_with(&stage.file, &["--term", "5s"]);
    eventually("the second's waiting", || async {
        if second.log().contains("waiting") {
            Ok(())
        } else {
            Err(second.log())
        }
    })
    .await;
    stage.split.run(300).await;
    assert!(second.runs());
    assert!(stage.keyloom.terminate().await.success());
    second.ready().await;
    stage.split.duel.go_on_with(second.client());
    stage.split.compare_history().await;
    stage.split.run(300).await;
}

/// While it comes up after a crash, it says so and refuses rather than answer in part.
#[tokio::test]
async fn it_is_not_ready_before_it_serves() {
    let mut stage = Stage::new(704).await;
    assert_eq!(stage.keyloom.admin("/readyz").await.0, 200);
    assert_eq!(stage.keyloom.admin("/livez").await.0, 200);
    stage.keyloom.kill().await;
    let refused = stage.get(PODS).await.unwrap_err();
    assert!(
        matches!(refused.code(), Code::Unavailable | Code::Unknown),
        "{refused:?}"
    );
    stage.start_keyloom_again().await;
    assert_eq!(stage.keyloom.admin("/readyz").await.0, 200);
}
