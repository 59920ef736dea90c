//! Reads find an endpoint that answers; what the store says reaches the caller as it is.

use h2::Reason;
use keyloom_etcd_api::{Code, EtcdError, Status};

use super::{
    network::Network,
    peer::{Act, Peer, Seen, goodbye},
    *,
};

#[tokio::test(start_paused = true)]
async fn calls_go_round_the_endpoints() {
    let network = Network::default();
    let peers = ["a", "b", "c"].map(|host| Peer::always(&network, host, Act::Answer(b"yes")));
    let store = store(&network, &["a", "b", "c"]);
    for _ in 0..9 {
        assert_eq!(store.call(read()).await.unwrap(), "yes");
    }
    let seen = peers.map(|peer| peer.seen("Range").len());
    assert_eq!(seen, [3, 3, 3]);
    assert_eq!(states(&store), [EndpointState::Well; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_what_etcd_expects() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Answer(b"yes"));
    let store = store(&network, &["a"]);
    store
        .call(within(read(), Duration::from_secs(7)))
        .await
        .unwrap();
    let seen = peer.seen("").remove(0);
    assert_eq!(seen.path, "/etcdserverpb.KV/Range");
    assert_eq!(seen.message, "read");
    for (name, value) in [
        ("content-type", Some("application/grpc")),
        ("te", Some("trailers")),
        ("grpc-timeout", Some("7000m")),
        ("token", None),
        ("hasleader", None),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_fails_over_from_whatever_befalls_the_first_endpoint() {
    let faults: [fn(&Network); 9] = [
        |network| network.down("a"),
        |network| network.gone("a"),
        |network| drop(Peer::always(network, "a", Act::Hangup)),
        |network| {
            drop(Peer::always(
                network,
                "a",
                Act::Reset(Reason::REFUSED_STREAM),
            ))
        },
        |network| {
            drop(Peer::always(
                network,
                "a",
                Act::Reset(Reason::INTERNAL_ERROR),
            ))
        },
        |network| drop(Peer::always(network, "a", Act::Http(503))),
        |network| {
            drop(Peer::always(
                network,
                "a",
                Act::Refuse(EtcdError::NoLeader.into()),
            ))
        },
        |network| {
            drop(Peer::always(
                network,
                "a",
                Act::RefuseAtOnce(EtcdError::Stopped.into()),
            ))
        },
        |network| drop(goodbye(network, "a", 1)),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let network = Network::default();
        fault(&network);
        let well = Peer::always(&network, "b", Act::Answer(b"yes"));
        let store = store(&network, &["a", "b"]);
        let answer = store.call(read()).await;
        assert_eq!(answer.unwrap(), "yes", "fault {number}");
        assert_eq!(well.seen("Range").len(), 1, "fault {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_tried_again_where_there_is_one_endpoint() {
    let network = Network::default();
    let first = |seen: &Seen| match seen.connection {
        0 => Act::Hangup,
        _ => Act::Answer(b"yes"),
    };
    let peer = Peer::scripted(&network, "a", first);
    let store = store(&network, &["a"]);
    assert_eq!(store.call(read()).await.unwrap(), "yes");
    assert_eq!(peer.seen("Range").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_answers_ends() {
    let network = Network::default();
    let peers = ["a", "b"].map(|host| Peer::always(&network, host, Act::Hangup));
    let store = store(&network, &["a", "b"]);
    let cause = unknown(store.call(read()).await);
    assert!(cause.starts_with("store main: "), "{cause}");
    // Each once, and each once more.
    assert_eq!(peers.map(|peer| peer.seen("Range").len()), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refuses_is_asked_last_until_it_is_well() {
    let network = Network::default();
    let sick = Peer::always(&network, "a", Act::Refuse(EtcdError::NoLeader.into()));
    let well = Peer::always(&network, "b", Act::Answer(b"yes"));
    let store = store(&network, &["a", "b"]);
    for _ in 0..10 {
        store.call(read()).await.unwrap();
    }
    assert_eq!(sick.seen("Range").len(), 1);
    assert_eq!(well.seen("Range").len(), 10);
    assert_eq!(states(&store), [EndpointState::Unwell, EndpointState::Well]);
    let error = store.health().remove(0).last_error.unwrap();
    assert_eq!(&*error, "a:1: etcdserver: no leader");
    // The probe demands a leader, or it would find the member well at once.
    until("a probe", || !sick.seen("Status").is_empty()).await;
    assert_eq!(sick.seen("Status")[0].header("hasleader"), Some("true"));
    assert_eq!(states(&store), [EndpointState::Unwell, EndpointState::Well]);
    sick.now(|_| Act::Answer(b"yes"));
    until("well", || states(&store) == [EndpointState::Well; 2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_status_reaches_the_caller_as_it_is() {
    let odd = Status::new(
        Code::FailedPrecondition,
        "etcdserver: an error of a newer etcd: 100% \u{fc}n\nknown",
    )
    .with_details(Bytes::from_static(&[8, 9, 255]));
    let known = EtcdError::ALL.iter().map(|&error| Status::from(error));
    for status in known.chain([odd, Status::new(Code::Internal, "")]) {
        for act in [
            Act::Refuse(status.clone()),
            Act::RefuseAtOnce(status.clone()),
        ] {
            let network = Network::default();
            let peer = Peer::always(&network, "a", act);
            for call in [read(), write()] {
                let got = refused(store(&network, &["a"]).call(call).await);
                assert_eq!(got.code(), status.code());
                assert_eq!(got.message(), status.message());
                assert_eq!(got.details(), status.details());
            }
            assert_eq!(peer.seen("").len(), 2, "{status:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_did_not_say_is_no_refusal() {
    let cancelled = Act::Reset(Reason::CANCEL);
    for act in [Act::Http(503), Act::Http(200), Act::Unfinished, cancelled] {
        let network = Network::default();
        let _peer = Peer::always(&network, "a", act);
        let cause = unknown(store(&network, &["a"]).call(write()).await);
        assert!(cause.starts_with("store main: a:1: "), "{cause}");
    }
}
