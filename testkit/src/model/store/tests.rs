//! The model store keeps the port's promises and breaks etcd's only when told to.

use std::time::Duration;

use futures_util::{FutureExt as _, stream};
use keyloom_etcd_api::{
    EtcdError, Metadata,
    etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, MemberListResponse,
        PutRequest, RangeRequest, RangeResponse, StatusResponse, WatchCreateRequest,
        WatchProgressRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
    },
};
use keyloom_store::Lane;
use prost::Message as _;

use super::*;
use crate::{Answer, Step, model::Nonsense};

fn call(step: &Step) -> Call {
    Call {
        metadata: Metadata::default(),
        rpc: step.rpc(),
        message: step.encode(),
        lane: Lane::Unary,
        deadline: None,
        idempotent: step.only_reads(),
    }
}

fn put() -> Step {
    Step::Put(PutRequest {
        key: "a".into(),
        ..PutRequest::default()
    })
}

fn get() -> Step {
    Step::Range(RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    })
}

async fn revision(store: &ModelStore, step: &Step) -> Result<i64, CallError> {
    let answer = store.call(call(step)).await?;
    Ok(Answer::decode(step.rpc(), answer)
        .unwrap()
        .unwrap()
        .revision())
}

#[tokio::test]
async fn calls_are_answered_and_counted() {
    let store = ModelStore::default();
    assert_eq!(revision(&store, &put()).await.unwrap(), 2);
    assert_eq!(revision(&store, &get()).await.unwrap(), 2);
    assert_eq!(store.calls(Rpc::Put), 1);
    assert_eq!(store.calls(Rpc::Txn), 0);
    assert_eq!(store.all_calls(), 2);
    let received = store.take_received();
    assert_eq!(
        received,
        [(Rpc::Put, put().encode()), (Rpc::Range, get().encode())]
    );
    assert_eq!(store.all_calls(), 0);
}

#[tokio::test]
async fn errors_are_etcds() {
    let error = revision(&ModelStore::default(), &Step::Put(PutRequest::default())).await;
    let Err(CallError::Refused(status)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(EtcdError::of(&status), Some(EtcdError::EmptyKey));
}

#[tokio::test]
async fn lost_calls_say_what_is_known_of_them() {
    let store = ModelStore::default();
    store.inject(Fault::NotSent);
    store.inject(Fault::LostBeforeApply);
    store.inject(Fault::LostAfterApply);
    let outcome = revision(&store, &put()).await;
    assert!(matches!(outcome, Err(CallError::NotSent(_))));
    for applied in [1, 2] {
        let outcome = revision(&store, &put()).await;
        assert!(matches!(outcome, Err(CallError::Unknown(_))));
        assert_eq!(store.with(|etcd| etcd.revision()), applied);
    }
    assert_eq!(revision(&store, &put()).await.unwrap(), 3);
    assert_eq!(store.calls(Rpc::Put), 3);
}

#[tokio::test]
async fn faults_wait_for_their_calls() {
    let store = ModelStore::default();
    let refused = Fault::Refused(EtcdError::NoLeader.into());
    store.inject_on(Rpc::Put, 2, refused.clone());
    assert_eq!(revision(&store, &get()).await.unwrap(), 1);
    for refuses in [true, true, false] {
        assert_eq!(revision(&store, &put()).await.is_err(), refuses);
    }
    store.inject_always(None, refused);
    assert!(revision(&store, &get()).await.is_err());
    assert!(revision(&store, &put()).await.is_err());
    store.clear_faults();
    assert_eq!(revision(&store, &get()).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_gives_up_at_its_deadline() {
    let store = ModelStore::default();
    let (before, after) = (Gate::new(), Gate::new());
    store.inject(Fault::HangsBeforeApply(before));
    store.inject(Fault::HangsAfterApply(after.clone()));
    let mut hung = call(&put());
    hung.deadline = Some((tokio::time::Instant::now() + Duration::from_secs(1)).into_std());
    assert!(matches!(store.call(hung).await, Err(CallError::TimedOut)));
    assert_eq!(store.with(|etcd| etcd.revision()), 1);

    let waiting = tokio::spawn(store.call(call(&put())));
    after.until_arrived(1).await;
    assert_eq!(store.with(|etcd| etcd.revision()), 2);
    assert!(!waiting.is_finished());
    after.release();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn nonsense_is_what_it_was_asked_to_be() {
    let store = ModelStore::default();
    revision(&store, &put()).await.unwrap();
    let mut answers = Vec::new();
    for nonsense in [
        Nonsense::NoHeader,
        Nonsense::HeaderRevision(0),
        Nonsense::HeaderRevision(-3),
        Nonsense::Empty,
    ] {
        store.inject(Fault::Nonsense(nonsense));
        let answer = store.call(call(&get())).await.unwrap();
        answers.push(RangeResponse::decode(answer).unwrap());
    }
    assert_eq!(answers[0].header, None);
    assert_eq!(answers[1].header.unwrap().revision, 0);
    assert_eq!(answers[2].header.unwrap().revision, -3);
    assert!(
        answers[..3]
            .iter()
            .all(|answer| answer.count == 1 && answer.kvs.len() == 1)
    );
    assert_eq!(answers[3], RangeResponse::default());
    store.inject(Fault::Nonsense(Nonsense::Garbage));
    let garbage = store.call(call(&get())).await.unwrap();
    assert!(RangeResponse::decode(garbage).is_err());
}

#[tokio::test]
async fn a_restored_store_has_gone_back() {
    let store = ModelStore::default();
    let before = store.snapshot();
    revision(&store, &put()).await.unwrap();
    store.restore(before);
    assert_eq!(revision(&store, &get()).await.unwrap(), 1);
}

#[tokio::test]
async fn clients_can_connect() {
    let store = ModelStore::default();
    let ask = |rpc| {
        store.call(Call {
            metadata: Metadata::default(),
            rpc,
            message: Bytes::new(),
            lane: Lane::Unary,
            deadline: None,
            idempotent: true,
        })
    };
    let status = StatusResponse::decode(ask(Rpc::Status).await.unwrap()).unwrap();
    assert!(status.db_size > 0 && status.leader != 0);
    assert_eq!(status.leader, status.header.unwrap().member_id);
    let members = MemberListResponse::decode(ask(Rpc::MemberList).await.unwrap()).unwrap();
    assert_eq!(members.members[0].id, status.leader);
    let unknown = ask(Rpc::MoveLeader).await;
    let Err(CallError::Refused(status)) = unknown else {
        panic!("{unknown:?}")
    };
    assert_eq!(status.code(), keyloom_etcd_api::Code::Unimplemented);
}

fn watch_requests(unions: Vec<RequestUnion>) -> Requests {
    let encode = |union| {
        let request = WatchRequest {
            request_union: Some(union),
        };
        Bytes::from(request.encode_to_vec())
    };
    let requests: Vec<_> = unions.into_iter().map(encode).collect();
    stream::iter(requests).chain(stream::pending()).boxed()
}

fn watch_all() -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..WatchCreateRequest::default()
    })
}

/// What has arrived on a stream by now: revisions and numbers of events.
fn arrived(answers: &mut Answers) -> Vec<Result<(i64, usize), String>> {
    let mut arrived = Vec::new();
    while let Some(Some(answer)) = answers.next().now_or_never() {
        arrived.push(match answer {
            Ok(answer) => {
                let answer = WatchResponse::decode(answer).unwrap();
                Ok((answer.header.unwrap().revision, answer.events.len()))
            }
            Err(error) => Err(error.to_string()),
        });
    }
    arrived
}

#[tokio::test]
async fn watches_are_sent_what_is_written() {
    let store = ModelStore::default();
    let requests = watch_requests(vec![watch_all()]);
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    assert_eq!(arrived(&mut answers), [Ok((1, 0))]);
    assert_eq!((store.calls(Rpc::Watch), store.watchers()), (1, 1));
    revision(&store, &put()).await.unwrap();
    store.with(|etcd| etcd.keyspace_mut().skip());
    revision(&store, &put()).await.unwrap();
    assert_eq!(arrived(&mut answers), [Ok((2, 1)), Ok((4, 1))]);
    drop(answers);
    assert_eq!(store.open_streams(), 0);
}

#[tokio::test]
async fn watches_can_be_held_and_ended() {
    let store = ModelStore::default();
    let requests = watch_requests(vec![watch_all()]);
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    assert_eq!(arrived(&mut answers).len(), 1);
    store.hold_watches(true);
    revision(&store, &put()).await.unwrap();
    revision(&store, &put()).await.unwrap();
    assert_eq!(arrived(&mut answers), []);
    store.hold_watches(false);
    assert_eq!(arrived(&mut answers), [Ok((2, 1)), Ok((3, 1))]);
    store.end_streams(&CallError::Unknown("over".to_owned()));
    assert_eq!(arrived(&mut answers), [Err("no answer: over".to_owned())]);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn progress_is_announced() {
    let store = ModelStore::default();
    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
    let requests = watch_requests(vec![progress.clone(), watch_all(), progress]);
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    // Without a watcher there is nothing to announce.
    assert_eq!(arrived(&mut answers), [Ok((1, 0)), Ok((1, 0))]);
}

#[tokio::test]
async fn leases_are_kept_alive() {
    let store = ModelStore::default();
    let grant = LeaseGrantRequest { ttl: 5, id: 1 };
    store.with(|etcd| etcd.lease_grant(&grant)).unwrap();
    let keep = |id| Bytes::from(LeaseKeepAliveRequest { id }.encode_to_vec());
    let requests = stream::iter([keep(1), keep(2)]).boxed();
    let answers = store.stream(Rpc::LeaseKeepAlive, requests).await.unwrap();
    let ttls: Vec<_> = answers
        .map(|answer| LeaseKeepAliveResponse::decode(answer.unwrap()).unwrap().ttl)
        .collect()
        .await;
    assert_eq!(ttls, [5, 0]);
}
