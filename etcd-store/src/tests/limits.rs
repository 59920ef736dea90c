//! Deadlines, calls in flight, and lanes.

use super::{
    network::Network,
    peer::{Act, Peer, Seen},
    *,
};

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Nothing);
    let store = store(&network, &["a"]);
    for call in [read(), write()] {
        let (took, result) = timed(store.call(within(call, Duration::from_secs(2)))).await;
        assert!(matches!(result, Err(CallError::TimedOut)), "{result:?}");
        assert_eq!(took, Duration::from_secs(2));
    }
    // The store is told, and the endpoint is looked after.
    until("reset", || peer.resets() >= 2).await;
    assert_eq!(states(&store), [EndpointState::Unwell]);
}

#[tokio::test(start_paused = true)]
async fn the_stores_limit_holds_where_it_is_sooner() {
    let network = Network::default();
    let _peer = Peer::always(&network, "a", Act::Begin);
    let store = store(&network, &["a"]);
    for call in [write(), within(write(), Duration::from_secs(3600))] {
        let (took, result) = timed(store.call(call)).await;
        assert!(matches!(result, Err(CallError::TimedOut)), "{result:?}");
        assert_eq!(took, Duration::from_secs(60));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_left_says_so() {
    let network = Network::default();
    network.gone("a");
    let store = store(&network, &["a"]);
    let (took, result) = timed(store.call(within(write(), Duration::from_secs(2)))).await;
    assert_eq!(not_sent(result), "store main: no connection in time");
    assert_eq!(took, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_wait_and_more_are_refused() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Nothing);
    let mut config = config(&["a"]);
    config.limits.max_in_flight = 2;
    let store = store_of(&network, config);
    let call = |seconds| tokio::spawn(store.call(within(write(), Duration::from_secs(seconds))));
    let sent = [call(3), call(9)];
    until("two are sent", || peer.seen("Txn").len() == 2).await;
    let (impatient, patient) = (call(1), call(10));
    until("two wait", || {
        store
            .core
            .waiting
            .load(std::sync::atomic::Ordering::Relaxed)
            == 2
    })
    .await;
    let full = "store main: too many calls in flight (2)";
    let (took, result) = timed(store.call(write())).await;
    assert_eq!((took, not_sent(result).as_str()), (Duration::ZERO, full));
    assert_eq!(not_sent(impatient.await.unwrap()), full);
    assert_eq!(peer.seen("Txn").len(), 2);
    // A place is free again when a call ends.
    until("a third is sent", || peer.seen("Txn").len() == 3).await;
    for call in sent.into_iter().chain([patient]) {
        assert!(matches!(call.await.unwrap(), Err(CallError::TimedOut)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_leaves_its_place() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Nothing);
    let mut config = config(&["a"]);
    config.limits.max_in_flight = 1;
    let store = store_of(&network, config);
    for round in 1..=5 {
        let call = tokio::spawn(store.call(write()));
        until("sent", || peer.seen("Txn").len() == round).await;
        call.abort();
        until("reset", || peer.resets() == round).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lanes_do_not_share_connections() {
    let network = Network::default();
    let bulk = |seen: &Seen| match seen.message.as_ref() {
        b"bulk" => Act::Freeze,
        _ => Act::Answer(b"yes"),
    };
    let peer = Peer::scripted(&network, "a", bulk);
    let mut config = config(&["a"]);
    config.connections.unary = 2;
    let store = store_of(&network, config);
    let frozen = tokio::spawn(store.call(Call {
        message: Bytes::from_static(b"bulk"),
        lane: Lane::Bulk,
        ..write()
    }));
    until("frozen", || {
        peer.seen("Range").len() + peer.seen("Txn").len() == 1
    })
    .await;
    for _ in 0..4 {
        let (took, answer) = timed(store.call(read())).await;
        assert_eq!(
            (took, answer.unwrap()),
            (Duration::ZERO, Bytes::from_static(b"yes"))
        );
    }
    assert!(!frozen.is_finished());
    // One for the bulk lane and two for the unary one.
    assert_eq!(peer.connections(), 3);
    frozen.abort();
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_found_by_its_pings() {
    let network = Network::default();
    let _peer = Peer::always(&network, "a", Act::Freeze);
    let store = store(&network, &["a"]);
    let (took, result) = timed(store.call(write())).await;
    unknown(result);
    assert_eq!(took, Duration::from_secs(40));
}
