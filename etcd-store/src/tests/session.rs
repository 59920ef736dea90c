//! Tokens: fetched, shown, and fetched again.

use std::sync::atomic::{AtomicUsize, Ordering};

use keyloom_etcd_api::{
    EtcdError,
    etcdserverpb::{AuthenticateRequest, AuthenticateResponse},
};
use prost::Message as _;

use super::{
    network::Network,
    peer::{Act, Peer, Seen},
    *,
};
use crate::Credentials;

fn credentials(password: &str) -> EtcdStoreConfig {
    let mut config = config(&["a"]);
    config.credentials = Some(Credentials {
        user: "root".to_owned(),
        password: password.to_owned(),
    });
    config
}

fn token(name: &str) -> Act {
    let token = name.to_owned();
    let answer = AuthenticateResponse {
        token,
        ..Default::default()
    };
    Act::Answer(answer.encode_to_vec().leak())
}

/// An etcd that takes the newest token alone, and whose tokens a test can revoke.
fn guarded(network: &Network, refusal: EtcdError) -> (Peer, Arc<AtomicUsize>) {
    let newest = Arc::new(AtomicUsize::new(0));
    let (issued, fetched) = (Arc::clone(&newest), AtomicUsize::new(0));
    let script = move |seen: &Seen| {
        if seen.path.ends_with("Authenticate") {
            let request = AuthenticateRequest::decode(seen.message.clone()).unwrap();
            assert_eq!(seen.header("token"), None);
            if (request.name.as_str(), request.password.as_str()) != ("root", "right") {
                return Act::Refuse(EtcdError::AuthFailed.into());
            }
            fetched.fetch_add(1, Ordering::Relaxed);
            return token(&format!("token-{}", issued.load(Ordering::Relaxed)));
        }
        let valid = format!("token-{}", issued.load(Ordering::Relaxed));
        match seen.header("token") == Some(&valid) {
            true => Act::Answer(b"yes"),
            false => Act::Refuse(refusal.into()),
        }
    };
    (Peer::scripted(network, "a", script), newest)
}

#[tokio::test(start_paused = true)]
async fn one_token_serves_all_calls() {
    let network = Network::default();
    let (peer, _) = guarded(&network, EtcdError::InvalidAuthToken);
    let store = store_of(&network, credentials("right"));
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(store.call(write()))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "yes");
    }
    assert_eq!(peer.seen("Authenticate").len(), 1);
    assert_eq!(peer.seen("Txn").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_replaced_once_for_all() {
    for refusal in [
        EtcdError::InvalidAuthToken,
        EtcdError::AuthOldRevision,
        EtcdError::UserEmpty,
    ] {
        let network = Network::default();
        let (peer, newest) = guarded(&network, refusal);
        let store = store_of(&network, credentials("right"));
        store.call(write()).await.unwrap();
        newest.store(1, Ordering::Relaxed);
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(store.call(write()))).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), "yes");
        }
        assert_eq!(peer.seen("Authenticate").len(), 2);
        // Each was refused once at most, and a refused write was not executed.
        assert!(peer.seen("Txn").len() <= 41);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_pleases_is_tried_twice() {
    let network = Network::default();
    let script = |seen: &Seen| match seen.path.ends_with("Authenticate") {
        true => token("any"),
        false => Act::Refuse(EtcdError::InvalidAuthToken.into()),
    };
    let peer = Peer::scripted(&network, "a", script);
    let store = store_of(&network, credentials("right"));
    let status = refused(store.call(write()).await);
    assert_eq!(EtcdError::of(&status), Some(EtcdError::InvalidAuthToken));
    assert_eq!(peer.seen("Txn").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_sends_nothing() {
    let network = Network::default();
    let (peer, _) = guarded(&network, EtcdError::InvalidAuthToken);
    let store = store_of(&network, credentials("wrong"));
    let cause = not_sent(store.call(write()).await);
    let expected = "store main: login as user root failed: etcdserver: authentication \
                    failed, invalid user ID or password";
    assert_eq!(cause, expected);
    assert_eq!(peer.seen("Txn").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_without_authentication_needs_no_token() {
    let network = Network::default();
    let script = |seen: &Seen| match seen.path.ends_with("Authenticate") {
        true => Act::Refuse(EtcdError::AuthNotEnabled.into()),
        false => Act::Answer(b"yes"),
    };
    let peer = Peer::scripted(&network, "a", script);
    let store = store_of(&network, credentials("right"));
    for _ in 0..3 {
        assert_eq!(store.call(write()).await.unwrap(), "yes");
    }
    assert_eq!(peer.seen("Authenticate").len(), 1);
    assert_eq!(peer.seen("Txn")[0].header("token"), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_password_says_is_shown_nowhere_else() {
    let network = Network::default();
    let store = store_of(&network, credentials("hunter2"));
    assert!(!format!("{store:?}").contains("hunter2"));
    assert!(!not_sent(store.call(write()).await).contains("hunter2"));
}
