//! The yardstick itself: an etcd answers as another one of its version, and as the model. What
//! differs here would be blamed on Keyloom elsewhere.

use std::time::Duration;

use keyloom_etcd_api::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use keyloom_testkit::{
    Step, model,
    program::{Generator, Settings, Tolerance, same_answer},
};
use keyloom_tests::{
    Duel, Etcd, Version,
    duel::{everyday_keys, grant_leases, steps},
    poll,
};
use tokio::time::sleep;

async fn two_etcds_agree(version: Version, seed: u64) {
    let [one, other] = Etcd::start_all([version; 2]).await;
    let (one, other) = (one.client(), other.client());
    let mut settings = Settings::new(everyday_keys());
    settings.invalid_sorts = version.survives_invalid_sorts();
    settings.leases = grant_leases(&[&one, &other]).await;
    Duel::new(seed, settings, one, other)
        .run(steps(4_000))
        .await;
}

#[tokio::test]
async fn two_etcds_3_6_agree() {
    two_etcds_agree(Version::V36, 1).await;
}

#[tokio::test]
async fn two_etcds_3_4_agree() {
    two_etcds_agree(Version::V34, 2).await;
}

/// The model is that of etcd 3.6.
#[tokio::test]
async fn the_model_agrees_with_etcd() {
    let etcd = Etcd::start(Version::V36).await;
    let client = etcd.client();
    let mut model = model::Etcd::default();
    let mut generator = Generator::new(3, Settings::new(everyday_keys()));
    for at in 0..steps(6_000) {
        let step = generator.next_step();
        let expected = client.step(&step).await;
        let got = model.apply(&step).map_err(Into::into);
        generator.learn(&step, &expected);
        let same = same_answer(&expected, &got, Tolerance { cluster_id: true });
        assert!(same.is_ok(), "step {at}: {step:#?}\n{}", same.unwrap_err());
    }
}

/// What is refused, by what nobody writes if it is.
fn refused(compacted: i64) -> Vec<(&'static str, Step)> {
    let put = |key: &'static str| PutRequest {
        key: key.into(),
        ..PutRequest::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let with_read = |key, revision| {
        let read = RangeRequest {
            key: "a".into(),
            revision,
            ..RangeRequest::default()
        };
        Step::Txn(TxnRequest {
            success: vec![
                op(Request::RequestPut(put(key))),
                op(Request::RequestRange(read)),
            ],
            ..TxnRequest::default()
        })
    };
    let compare = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: "a".into(),
            range_end: "".into(),
            target_union: Some(TargetUnion::ModRevision(1)),
        }],
        success: vec![op(Request::RequestPut(put("compare")))],
        ..TxnRequest::default()
    };
    let lease = PutRequest {
        lease: 77,
        ..put("lease")
    };
    let value = PutRequest {
        ignore_value: true,
        ..put("value")
    };
    vec![
        ("compare", Step::Txn(compare)),
        ("lease", Step::Put(lease)),
        ("value", Step::Put(value)),
        ("past", with_read("past", compacted - 1)),
        ("future", with_read("future", 1_000)),
    ]
}

/// The one refusal that no etcd keeps when it is killed: while it reads its log again it leaves out
/// what a transaction would read, and with it the reason for which it had refused it
/// (<https://github.com/etcd-io/etcd/issues/18667>). Its revisions are others from there on, without
/// one that goes back.
async fn takes_what_it_refused(mut etcd: Etcd) {
    // Where it saves how far it came between the refusal and its end, it does not read that again.
    for _ in 0..ATTEMPTS {
        let taken = taken_after_all(&mut etcd).await;
        let known = |what: &&str| ["past", "future"].contains(what);
        assert!(taken.iter().all(known), "{taken:?}");
        if !taken.is_empty() {
            return;
        }
    }
    panic!("it kept what it had refused: the exceptions made for that are no longer needed");
}

const ATTEMPTS: usize = 20;

/// What an etcd has after it was killed of what it refused before.
async fn taken_after_all(etcd: &mut Etcd) -> Vec<&'static str> {
    let client = etcd.client();
    for value in ["1", "2", "3", "4"] {
        client.put("a", value).await;
    }
    let revision = client.put("a", "5").await;
    let compacted = revision - 1;
    let compact = Step::Compact(CompactionRequest {
        revision: compacted,
        physical: true,
    });
    client.step(&compact).await.expect("a compaction");
    saved(etcd).await;
    let refused = refused(compacted);
    for (what, step) in &refused {
        match client.step(step).await {
            Ok(answer) => assert!(!answer.wrote(), "{what}: {answer:?}"),
            Err(_) => assert_ne!(*what, "compare"),
        }
        assert_eq!(client.get(what).await, None);
    }
    assert_eq!(client.revision().await, revision);
    etcd.kill().await;
    etcd.restart().await;
    let mut taken = Vec::new();
    for (what, _) in &refused {
        if client.get(what).await.is_some() {
            taken.push(*what);
        }
    }
    let more = client.revision().await - revision;
    assert_eq!(usize::try_from(more), Ok(taken.len()), "{taken:?}");
    taken
}

/// Waits until an etcd has nothing more to save.
async fn saved(etcd: &Etcd) {
    let commits = || async {
        let metrics = etcd.metrics().await;
        metrics.sum("etcd_disk_backend_commit_duration_seconds_count", &[])
    };
    poll::eventually("an end of all saving", || async {
        let before = commits().await;
        // It saves every 100 ms where there is something.
        sleep(Duration::from_millis(250)).await;
        let after = commits().await;
        if after > 0.0 && before == after {
            Ok(())
        } else {
            Err((before, after))
        }
    })
    .await;
}

#[tokio::test]
async fn a_killed_etcd_3_6_takes_what_it_refused() {
    takes_what_it_refused(Etcd::start(Version::V36).await).await;
}

#[tokio::test]
async fn a_killed_etcd_3_4_takes_what_it_refused() {
    takes_what_it_refused(Etcd::start(Version::V34).await).await;
}

#[tokio::test]
async fn waiting_for_the_disk_does_not_help_it() {
    takes_what_it_refused(Etcd::start_with_fsync(Version::V36).await).await;
}
