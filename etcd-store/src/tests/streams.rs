//! Streams: both ways, their end from either side, and where they are opened.

use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::EtcdError;
use tokio::sync::mpsc;

use super::{
    network::Network,
    peer::{Act, Peer},
    *,
};
use keyloom_etcd_api::Status;
use keyloom_store::{Answers, OpenCall, Part, Requests};

/// Requests that are sent one by one.
fn requests() -> (mpsc::UnboundedSender<Bytes>, Requests) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let requests = stream::unfold(receiver, |mut receiver| async {
        let request = receiver.recv().await?;
        Some((request, receiver))
    });
    (sender, requests.boxed())
}

async fn next(answers: &mut Answers) -> Bytes {
    answers.next().await.unwrap().unwrap()
}

fn say(sender: &mpsc::UnboundedSender<Bytes>, what: &'static str) {
    sender.send(Bytes::from_static(what.as_bytes())).unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_go_both_ways() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Echo);
    let store = store(&network, &["a"]);
    let (sender, requests) = requests();
    // Open before the first request: the caller may want it so.
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    for what in ["one", "two", "three"] {
        say(&sender, what);
        assert_eq!(next(&mut answers).await, what);
    }
    let seen = peer.seen("Watch").remove(0);
    assert_eq!(seen.header("hasleader"), Some("true"));
    assert_eq!(seen.header("grpc-timeout"), None);
    // A stream has no time limit.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    say(&sender, "four");
    assert_eq!(next(&mut answers).await, "four");
    drop(sender);
    assert!(answers.next().await.is_none());
    assert!(answers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_answers_ends_the_stream() {
    for begun in [true, false] {
        let network = Network::default();
        let act = if begun { Act::Echo } else { Act::Nothing };
        let peer = Peer::always(&network, "a", act);
        let store = store(&network, &["a"]);
        let (sender, requests) = requests();
        let mut answers = store.stream(Rpc::LeaseKeepAlive, requests).await.unwrap();
        say(&sender, "one");
        if begun {
            assert_eq!(next(&mut answers).await, "one");
        }
        until("sent", || peer.seen("LeaseKeepAlive").len() == 1).await;
        assert_eq!(peer.resets(), 0);
        // The requests go on, and keep nothing alive.
        drop(answers);
        until("reset", || peer.resets() == 1).await;
        until("the requests are dropped", || sender.is_closed()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_stores_error_is_the_last_answer() {
    let network = Network::default();
    let _peer = Peer::always(&network, "a", Act::Echo);
    let store = store(&network, &["a"]);
    let (sender, requests) = requests();
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    say(&sender, "one");
    say(&sender, "fail");
    assert_eq!(next(&mut answers).await, "one");
    let status = refused(answers.next().await.unwrap());
    assert_eq!(EtcdError::of(&status), Some(EtcdError::NoLeader));
    assert!(answers.next().await.is_none());
    assert_eq!(states(&store), [EndpointState::Unwell]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_the_last_answer() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Echo);
    let store = store(&network, &["a"]);
    let (sender, requests) = requests();
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    say(&sender, "one");
    assert_eq!(next(&mut answers).await, "one");
    peer.hangup();
    let cause = unknown(answers.next().await.unwrap());
    assert!(cause.starts_with("store main: a:1: "), "{cause}");
    assert!(answers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_opens_where_it_can() {
    let network = Network::default();
    let peer = Peer::always(&network, "b", Act::Echo);
    let store = store(&network, &["a", "b"]);
    let (sender, requests) = requests();
    let mut answers = store.stream(Rpc::Watch, requests).await.unwrap();
    say(&sender, "one");
    assert_eq!(next(&mut answers).await, "one");
    network.down("b");
    peer.hangup();
    unknown(answers.next().await.unwrap());
    let (_, requests) = self::requests();
    let result = store.stream(Rpc::Watch, requests).await.map(drop);
    let cause = not_sent(result);
    assert!(
        cause.starts_with("store main cannot be reached; "),
        "{cause}"
    );
}

#[tokio::test(start_paused = true)]
async fn streams_and_calls_do_not_share_connections() {
    let network = Network::default();
    let peer = Peer::scripted(&network, "a", |seen| match seen.path.ends_with("Range") {
        true => Act::Answer(b"yes"),
        false => Act::Echo,
    });
    let store = store(&network, &["a"]);
    let mut open = Vec::new();
    for rpc in [Rpc::Watch, Rpc::LeaseKeepAlive, Rpc::Snapshot] {
        let (sender, requests) = requests();
        let mut answers = store.stream(rpc, requests).await.unwrap();
        say(&sender, "one");
        next(&mut answers).await;
        open.push((sender, answers));
    }
    store.call(read()).await.unwrap();
    store
        .call(Call {
            lane: Lane::Bulk,
            ..read()
        })
        .await
        .unwrap();
    let on = |name: &str| {
        peer.seen(name)
            .iter()
            .map(|seen| seen.connection)
            .collect::<Vec<_>>()
    };
    assert_eq!(on("Watch"), on("LeaseKeepAlive"));
    assert_ne!(
        on("Watch"),
        on("Snapshot"),
        "gigabytes keep off the watches"
    );
    let calls = on("Range");
    assert_eq!(vec![calls[1]], on("Snapshot"));
    assert_ne!(vec![calls[0]], on("Watch"));
    assert_ne!(calls[0], calls[1]);
}

fn metadata(lines: &[(&'static str, &'static str)]) -> Metadata {
    let line = |(name, value): &(&'static str, &'static str)| {
        let name = http::HeaderName::from_static(name);
        (name, http::HeaderValue::from_static(value))
    };
    Metadata::of(&lines.iter().map(line).collect())
}

fn open_call(path: &'static str, requests: Requests) -> OpenCall {
    OpenCall {
        path: http::uri::PathAndQuery::from_static(path),
        metadata: metadata(&[("token", "theirs.7"), ("x-request-id", "7")]),
        requests,
        deadline: Some((Instant::now() + Duration::from_secs(5)).into_std()),
    }
}

/// A call that nobody knows goes through with what travels beside it, and is sent once.
#[tokio::test(start_paused = true)]
async fn an_unknown_call_goes_through_as_it_is() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Echo);
    let store = store(&network, &["a"]);
    let (sender, requests) = requests();
    say(&sender, "one");
    let opened = store.open(open_call("/example.v9/Call", requests));
    let mut parts = opened.await.unwrap().parts;
    let message = |what: &'static str| Part::Message(Bytes::from_static(what.as_bytes()));
    assert_eq!(parts.next().await.unwrap().unwrap(), message("one"));
    say(&sender, "two");
    assert_eq!(parts.next().await.unwrap().unwrap(), message("two"));
    drop(sender);
    assert!(parts.next().await.is_none());
    let seen = peer.seen("").remove(0);
    assert_eq!(seen.header("token"), Some("theirs.7"));
    assert_eq!(seen.header("x-request-id"), Some("7"));
    assert_eq!(seen.header("grpc-timeout"), Some("5000m"));
    assert_eq!(seen.header("hasleader"), None);
    assert_eq!(peer.seen("").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_says_of_an_unknown_call_comes_back_whole() {
    let network = Network::default();
    let status = Status::unimplemented("unknown service example.v9").with_metadata(
        &http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-reason"),
            http::HeaderValue::from_static("new"),
        )]),
    );
    let peer = Peer::always(&network, "a", Act::RefuseAtOnce(status.clone()));
    let store = store(&network, &["a"]);
    let requests = stream::iter([Bytes::from_static(b"one")]).boxed();
    let opened = store.open(open_call("/example.v9/Call", requests)).await;
    assert_eq!(refused(opened.map(drop)), status);
    assert_eq!(peer.seen("").len(), 1);
}
