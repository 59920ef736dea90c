//! Stores that go away and come back.

use super::{
    network::Network,
    peer::{Act, Peer},
    *,
};

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_found() {
    let network = Network::default();
    let store = store(&network, &["a"]);
    let cause = not_sent(store.call(write()).await);
    assert_eq!(cause, "store main: a:1: connection refused");
    assert_eq!(states(&store), [EndpointState::Unreachable]);
    // Nobody but the prober dials a host that is down.
    for _ in 0..100 {
        let cause = not_sent(store.call(write()).await);
        assert_eq!(
            cause,
            "store main cannot be reached; a:1: connection refused"
        );
    }
    assert_eq!(network.dials("a"), 1);
    let _peer = Peer::always(&network, "a", Act::Answer(b"done"));
    until("well", || states(&store) == [EndpointState::Well]).await;
    assert_eq!(network.dials("a"), 2);
    assert_eq!(store.call(write()).await.unwrap(), "done");
    assert!(store.turned_away().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_prober_dials_ever_more_seldom() {
    let network = Network::default();
    let store = store(&network, &["a"]);
    not_sent(store.call(write()).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let soon = network.dials("a");
    assert!((4..=6).contains(&soon), "{soon} dials in the first second");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let later = network.dials("a");
    assert!((700..=1450).contains(&later), "{later} dials in an hour");
    // The prober ends with its store.
    drop(store);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(network.dials("a") <= later + 1);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_shares_one_dial() {
    let network = Network::default();
    let mut config = config(&["a"]);
    config.connections.unary = 1;
    let store = store_of(&network, config);
    let calls: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(store.call(write())))
        .collect();
    for call in calls {
        not_sent(call.await.unwrap());
    }
    assert_eq!(network.dials("a"), 1);
    let peer = Peer::always(&network, "a", Act::Answer(b"done"));
    until("well", || states(&store) == [EndpointState::Well]).await;
    let calls: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(store.call(write())))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_turns_calls_away_until_a_probe_is_answered() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Hangup);
    let store = store(&network, &["a"]);
    for _ in 0..5 {
        assert!(store.turned_away().is_none());
        unknown(store.call(write()).await);
    }
    let cause = not_sent(store.call(write()).await);
    assert!(
        cause.starts_with("store main does not answer: a:1: "),
        "{cause}"
    );
    assert_eq!(store.turned_away().as_deref(), Some(cause.as_str()));
    assert_eq!(peer.seen("Txn").len(), 5);
    peer.now(|_| Act::Answer(b"done"));
    until("let in again", || store.turned_away().is_none()).await;
    assert_eq!(store.call(write()).await.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Hangup);
    let store = store(&network, &["a"]);
    for _ in 0..5 {
        unknown(store.call(write()).await);
    }
    peer.now(|_| Act::Nothing);
    let before = peer.seen("Status").len();
    for _ in 0..100 {
        for _ in 0..10 {
            not_sent(store.call(read()).await);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Each is waited for for 3 s.
    let probes = peer.seen("Status").len() - before;
    assert!((2..=4).contains(&probes), "{probes} probes in 10 s");
    assert!(peer.resets() >= probes - 1);
}

#[tokio::test(start_paused = true)]
async fn one_broken_connection_under_many_calls_opens_no_breaker() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Nothing);
    let store = store(&network, &["a"]);
    let calls: Vec<_> = (0..100)
        .map(|_| tokio::spawn(store.call(write())))
        .collect();
    until("sent", || peer.seen("Txn").len() == 100).await;
    peer.now(|_| Act::Answer(b"done"));
    peer.hangup();
    for call in calls {
        unknown(call.await.unwrap());
    }
    assert_eq!(store.call(write()).await.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_gone_costs_impatient_callers_little() {
    let network = Network::default();
    network.gone("a");
    let store = store(&network, &["a"]);
    let call = || store.call(within(write(), Duration::from_secs(2)));
    not_sent(call().await);
    until("found", || states(&store) == [EndpointState::Unreachable]).await;
    // No caller waits for what the prober tries over and over.
    for _ in 0..100 {
        let (took, result) = timed(call()).await;
        not_sent(result);
        assert_eq!(took, Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_lanes_failed_dial_leaves_the_others_alone() {
    let network = Network::default();
    let peer = Peer::always(&network, "a", Act::Answer(b"yes"));
    let mut config = config(&["a"]);
    config.connections.unary = 4;
    let store = store_of(&network, config);
    store.call(read()).await.unwrap();
    network.down("a");
    let bulk = || {
        store.call(Call {
            lane: Lane::Bulk,
            ..read()
        })
    };
    not_sent(bulk().await);
    assert_eq!(states(&store), [EndpointState::Unreachable]);
    for _ in 0..10 {
        assert_eq!(store.call(write()).await.unwrap(), "yes");
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_network_lost_is_left() {
    let network = Network::default();
    let mut config = config(&["a"]);
    config.connections.unary = 1;
    let store = store_of(&network, config);
    let frozen = Peer::always(&network, "a", Act::Freeze);
    let result = store.call(within(write(), Duration::from_secs(1))).await;
    assert!(matches!(result, Err(CallError::TimedOut)), "{result:?}");
    let peer = Peer::always(&network, "a", Act::Answer(b"yes"));
    // Sooner than pings would find it.
    let (took, ()) = timed(until("well", || states(&store) == [EndpointState::Well])).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(store.call(write()).await.unwrap(), "yes");
    assert_eq!((frozen.connections(), peer.connections()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ended_gets_no_more_calls() {
    let network = Network::default();
    let mut config = config(&["a"]);
    config.connections.unary = 1;
    let peer = Peer::always(&network, "a", Act::Answer(b"yes"));
    let store = store_of(&network, config);
    for round in 1..4 {
        store.call(write()).await.unwrap();
        assert_eq!(peer.connections(), round);
        // What a call that saw it end says; its own task may not know yet.
        store.core.endpoints[0].leave_connections();
    }
}
