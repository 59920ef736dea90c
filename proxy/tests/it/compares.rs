//! Every comparison of a revision, with every revision that there is and some that there are not,
//! against one model etcd: a revision of another store must match nothing, and lie where it lies.

use crate::support::{Keyloom, THREE, put, stores};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{
    Compare, RangeRequest, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
};
use keyloom_testkit::{Answer, Step, model::ModelStore};

const KEYS: [&str; 4] = [
    "/registry/pods/default/a",
    "/registry/roles/default/a",
    "/registry/pods/tenant-a/a",
    "/registry/pods/default/absent",
];

/// Keys on three stores, written in turn, so that neighbouring revisions are of different stores.
async fn written() -> (Keyloom, ModelStore) {
    let keyloom = Keyloom::start(THREE, &stores(3)).await;
    let reference = ModelStore::default();
    for round in 0..3 {
        for key in &KEYS[..3] {
            let step = put(key, &round.to_string());
            reference.with(|etcd| etcd.apply(&step)).unwrap();
            keyloom.ask(&step).await.unwrap();
        }
    }
    (keyloom, reference)
}

fn compare(key: &str, result: CompareResult, target: CompareTarget, revision: i64) -> Step {
    let union = match target {
        CompareTarget::Mod => TargetUnion::ModRevision(revision),
        _ => TargetUnion::CreateRevision(revision),
    };
    Step::Txn(TxnRequest {
        compare: vec![Compare {
            result: result.into(),
            target: target.into(),
            key: Bytes::from(key.to_owned()),
            range_end: Bytes::new(),
            target_union: Some(union),
        }],
        ..TxnRequest::default()
    })
}

#[tokio::test(start_paused = true)]
async fn every_comparison_of_every_revision_holds_as_in_one_etcd() {
    let (keyloom, reference) = written().await;
    let results = [
        CompareResult::Equal,
        CompareResult::NotEqual,
        CompareResult::Less,
        CompareResult::Greater,
    ];
    for key in KEYS {
        for result in results {
            for target in [CompareTarget::Mod, CompareTarget::Create] {
                for revision in -1..14 {
                    let step = compare(key, result, target, revision);
                    let Answer::Txn(expected) = reference.with(|etcd| etcd.apply(&step)).unwrap()
                    else {
                        panic!()
                    };
                    let Answer::Txn(got) = keyloom.ask(&step).await.unwrap() else {
                        panic!()
                    };
                    assert_eq!(got.succeeded, expected.succeeded, "{step:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_filter_of_every_revision_lets_through_what_one_etcd_does() {
    let (keyloom, reference) = written().await;
    for key in KEYS {
        for at in 0..12 {
            for filter in 0..4 {
                let mut request = RangeRequest {
                    key: Bytes::from(key.to_owned()),
                    ..RangeRequest::default()
                };
                match filter {
                    0 => request.min_mod_revision = at,
                    1 => request.max_mod_revision = at,
                    2 => request.min_create_revision = at,
                    _ => request.max_create_revision = at,
                }
                let step = Step::Range(request.clone());
                let Answer::Range(expected) = reference.with(|etcd| etcd.apply(&step)).unwrap()
                else {
                    panic!()
                };
                let got = keyloom.range(request).await.unwrap();
                assert_eq!(got.kvs, expected.kvs, "{step:?}");
            }
        }
    }
}
