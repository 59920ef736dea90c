//! Clients that watch and do not read.

use std::pin::pin;

use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use keyloom_tests::{
    Etcd, Keyloom, Version, poll,
    topology::{Matcher, Topology},
};
use tokio::time::timeout;
use tonic::Streaming;

/// Of each value.
const SIZE: usize = 64 << 10;

/// How many are written while nobody reads: 80 MB.
const WRITES: usize = 1_200;

/// How much more memory than before that may take: what is kept for all, which is 100 revisions as
/// they came and as they are sent, and for each client that does not read what it may have waiting.
const MOST: f64 = 40e6;

const SLOW: usize = 2;

async fn watch(keyloom: &Keyloom) -> Streaming<WatchResponse> {
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: "/registry/".into(),
            range_end: "/registry0".into(),
            ..WatchCreateRequest::default()
        })),
    };
    let requests = stream::iter([create]).chain(stream::pending());
    // A connection of its own, so that only its own reading is missing.
    let answers = keyloom.client().watch().watch(requests).await;
    let mut answers = answers.expect("a watch").into_inner();
    let created = next(&mut answers).await;
    assert!(created.created && !created.canceled, "{created:?}");
    answers
}

async fn next(answers: &mut Streaming<WatchResponse>) -> WatchResponse {
    let answer = timeout(poll::LONG, answers.message()).await;
    let answer = answer.expect("an answer in time").expect("an answer");
    answer.expect("more answers")
}

/// The revisions of all that was written.
async fn read(answers: &mut Streaming<WatchResponse>, writes: usize) -> Vec<i64> {
    let mut revisions = Vec::new();
    while revisions.len() < writes {
        let answer = next(answers).await;
        assert!(!answer.canceled, "{answer:?}");
        let of =
            |kv: Option<_>| kv.map_or(0, |kv: keyloom_etcd_api::mvccpb::KeyValue| kv.mod_revision);
        revisions.extend(answer.events.into_iter().map(|event| of(event.kv)));
    }
    revisions
}

async fn resident(keyloom: &Keyloom) -> f64 {
    let metrics = keyloom.metrics().await;
    metrics.sum("process_resident_memory_bytes", &[])
}

/// Writes to both stores in turn.
async fn write(keyloom: &Keyloom, writes: usize) -> Vec<i64> {
    let client = keyloom.client();
    let value = vec![b'v'; SIZE];
    let mut revisions = Vec::new();
    for at in 0..writes {
        let folder = ["pods", "secrets"][at % 2];
        let key = format!("/registry/{folder}/default/{}", at % 10);
        revisions.push(client.put(key, &value).await);
    }
    revisions
}

/// What was written, and the most memory amid it.
async fn write_and_look(keyloom: &Keyloom) -> (Vec<i64>, f64) {
    let mut most = 0_f64;
    let mut writing = pin!(write(keyloom, WRITES));
    loop {
        tokio::select! {
            written = &mut writing => return (written, most),
            now = resident(keyloom) => most = most.max(now),
        }
    }
}

#[tokio::test]
async fn who_does_not_read_costs_little_and_misses_nothing() {
    let etcds = Etcd::start_all([Version::V36; 2]).await;
    let topology = Topology::new(&[("pods", Matcher::Prefix("pods"))]);
    let file = topology.file(&etcds.each_ref().map(Etcd::url));
    // A machine that is short of time must not end the term.
    let arguments = ["--term", "30s", "--watch-history", "50"];
    let mut keyloom = Keyloom::launch_with(&file, &arguments);
    keyloom.ready().await;
    let mut reader = watch(&keyloom).await;
    // What is kept for all is full then.
    let written = write(&keyloom, 200).await;
    assert_eq!(read(&mut reader, 200).await, written);
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(watch(&keyloom).await);
    }
    let before = resident(&keyloom).await;
    let (written, mut most) = write_and_look(&keyloom).await;
    assert_eq!(read(&mut reader, WRITES).await, written);
    most = most.max(resident(&keyloom).await);
    let more = (most - before) / 1e6;
    println!("{more:.1} MB more than {:.1} MB", before / 1e6);
    assert!(most - before < MOST, "{more:.1} MB more");
    for mut slow in slow {
        assert_eq!(read(&mut slow, WRITES).await, written);
    }
    assert!(keyloom.terminate().await.success(), "a clean end");
}
