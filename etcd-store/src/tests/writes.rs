//! A write is sent again only where it is certain that nobody acted on it.

use std::sync::atomic::Ordering;

use h2::Reason;
use keyloom_etcd_api::EtcdError;

use super::{
    network::Network,
    peer::{Act, Peer, Seen, goodbye},
    *,
};

#[tokio::test(start_paused = true)]
async fn a_write_whose_connection_dies_is_not_sent_again() {
    let network = Network::default();
    let dies = Peer::always(&network, "a", Act::Hangup);
    let other = Peer::always(&network, "b", Act::Answer(b"done"));
    let store = store(&network, &["a", "b"]);
    let cause = unknown(store.call(write()).await);
    assert!(cause.starts_with("store main: a:1: "), "{cause}");
    assert_eq!(dies.seen("Txn").len() + other.seen("Txn").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nor_one_whose_answer_began() {
    let network = Network::default();
    let begins = Peer::always(&network, "a", Act::Begin);
    let other = Peer::always(&network, "b", Act::Answer(b"done"));
    let store = store(&network, &["a", "b"]);
    let call = tokio::spawn(store.call(write()));
    until("sent", || begins.seen("Txn").len() == 1).await;
    begins.hangup();
    unknown(call.await.unwrap());
    assert_eq!(begins.seen("Txn").len() + other.seen("Txn").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nor_one_that_the_store_gave_up_in_the_middle() {
    for reason in [
        Reason::INTERNAL_ERROR,
        Reason::CANCEL,
        Reason::ENHANCE_YOUR_CALM,
    ] {
        let network = Network::default();
        let gives_up = Peer::always(&network, "a", Act::Reset(reason));
        let other = Peer::always(&network, "b", Act::Answer(b"done"));
        unknown(store(&network, &["a", "b"]).call(write()).await);
        assert_eq!(
            gives_up.seen("Txn").len() + other.seen("Txn").len(),
            1,
            "{reason:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nor_one_that_the_store_refused() {
    let network = Network::default();
    let refuses = Peer::always(&network, "a", Act::Refuse(EtcdError::NoLeader.into()));
    let other = Peer::always(&network, "b", Act::Answer(b"done"));
    let status = refused(store(&network, &["a", "b"]).call(write()).await);
    assert_eq!(EtcdError::of(&status), Some(EtcdError::NoLeader));
    assert_eq!(refuses.seen("Txn").len() + other.seen("Txn").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nor_one_that_may_be_before_the_last_stream_of_a_goodbye() {
    let network = Network::default();
    let leaves = goodbye(&network, "a", 1);
    let other = Peer::always(&network, "b", Act::Answer(b"done"));
    unknown(store(&network, &["a", "b"]).call(write()).await);
    assert_eq!(leaves.load(Ordering::Relaxed), 1);
    assert_eq!(other.seen("Txn").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_after_the_last_stream_of_a_goodbye_goes_elsewhere() {
    let network = Network::default();
    let leaves = goodbye(&network, "a", 0);
    let other = Peer::always(&network, "b", Act::Answer(b"done"));
    let store = store(&network, &["a", "b"]);
    assert_eq!(store.call(write()).await.unwrap(), "done");
    assert_eq!(leaves.load(Ordering::Relaxed), 1);
    assert_eq!(other.seen("Txn").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_refused_unread_goes_elsewhere() {
    let network = Network::default();
    let busy = Peer::always(&network, "a", Act::Reset(Reason::REFUSED_STREAM));
    let other = Peer::always(&network, "b", Act::Answer(b"done"));
    let store = store(&network, &["a", "b"]);
    assert_eq!(store.call(write()).await.unwrap(), "done");
    assert_eq!((busy.seen("Txn").len(), other.seen("Txn").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_past_endpoints_that_cannot_be_dialled() {
    let network = Network::default();
    network.gone("b");
    let other = Peer::always(&network, "c", Act::Answer(b"done"));
    let store = store(&network, &["a", "b", "c"]);
    let (took, answer) = timed(store.call(write())).await;
    assert_eq!(answer.unwrap(), "done");
    assert_eq!(took, Duration::from_secs(5), "the limit for connecting");
    let unreachable = EndpointState::Unreachable;
    assert_eq!(
        states(&store),
        [unreachable, unreachable, EndpointState::Well]
    );
    assert_eq!(other.seen("Txn").len(), 1);
    // Nobody else waits for what was found dead.
    let (took, answer) = timed(store.call(write())).await;
    assert_eq!(
        (took, answer.unwrap()),
        (Duration::ZERO, Bytes::from_static(b"done"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_in_peace_costs_no_write() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Answer(b"done"));
    let store = store(&network, &["a"]);
    for round in 1..=20 {
        assert_eq!(store.call(write()).await.unwrap(), "done");
        assert_eq!(peer.seen("Txn").len(), round);
        peer.hangup();
        // As long as it takes to notice.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(states(&store), [EndpointState::Well]);
}

#[tokio::test(start_paused = true)]
async fn many_writes_on_dying_connections_arrive_once_at_most() {
    let network = Network::default();
    let every_third = |seen: &Seen| match seen.message.last().map(|number| number % 3) {
        Some(0) => Act::Hangup,
        _ => Act::Answer(b"done"),
    };
    let peers = ["a", "b"].map(|host| Peer::scripted(&network, host, every_third));
    let store = store(&network, &["a", "b"]);
    let mut done = Vec::new();
    // Few at a time, so that some find a connection that lives.
    for first in (0..200_u8).step_by(4) {
        let calls = (first..first + 4).map(|number| {
            let message = Bytes::copy_from_slice(&[number]);
            (
                number,
                tokio::spawn(store.call(Call { message, ..write() })),
            )
        });
        for (number, call) in calls.collect::<Vec<_>>() {
            if call.await.unwrap().is_ok() {
                done.push(number);
            }
        }
    }
    let mut seen: Vec<u8> = Vec::new();
    for peer in &peers {
        seen.extend(peer.seen("Txn").iter().map(|seen| seen.message[0]));
    }
    seen.sort_unstable();
    let sent = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), sent, "a write arrived twice");
    assert!(
        done.iter()
            .all(|number| seen.contains(number) && number % 3 != 0)
    );
    assert!(!done.is_empty() && done.len() < 200, "{} done", done.len());
}
