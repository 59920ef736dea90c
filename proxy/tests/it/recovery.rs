//! What clients may be shown after a Keyloom was killed with writes in its tail that no record
//! knows of, and what one that is past its term may still say.

use std::time::Duration;

use crate::support::{Keyloom, TERM, THREE, get, keys, list, put, stores};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use keyloom_etcd_api::{
    Code, EtcdError, Rpc, Status,
    etcdserverpb::{
        RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
};
use keyloom_testkit::{
    Step,
    model::{Fault, Gate, ModelStore},
};
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};

const DEFAULT: &str = "/registry/pods/default/a";
const RBAC: &str = "/registry/roles/default/a";
const TENANT: &str = "/registry/pods/tenant-a/a";
const EVERYTHING: &str = "/registry/";

/// A Keyloom over three stores with a key each, all of it recorded. From now on nothing is: the
/// ledger's own writes are transactions, those of these tests' clients are not.
async fn unrecorded() -> (Keyloom, Vec<ModelStore>) {
    let stores = stores(3);
    let keyloom = Keyloom::start(THREE, &stores).await;
    for key in [DEFAULT, RBAC, TENANT] {
        keyloom.put(key, "1").await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    stores[0].inject_always(Some(Rpc::Txn), Fault::NotSent);
    (keyloom, stores)
}

/// Its successor, once the term is over.
async fn killed(keyloom: Keyloom, stores: &[ModelStore]) -> Keyloom {
    keyloom.kill();
    stores[0].clear_faults();
    Keyloom::start(THREE, stores).await
}

async fn head(keyloom: &Keyloom) -> i64 {
    let answer = keyloom.range(list(EVERYTHING)).await.unwrap();
    answer.header.unwrap().revision
}

async fn value(keyloom: &Keyloom, key: &str, revision: i64) -> Result<String, Status> {
    let request = RangeRequest {
        revision,
        ..list(key)
    };
    let answer = keyloom.range(request).await?;
    Ok(String::from_utf8(answer.kvs[0].value.to_vec()).unwrap())
}

// === watches ===

type Answers = BoxStream<'static, Result<Bytes, Status>>;

/// A watch over everything below a prefix.
async fn watch(keyloom: &Keyloom, prefix: &str, start_revision: i64) -> Answers {
    let range = list(prefix);
    let create = WatchCreateRequest {
        key: range.key,
        range_end: range.range_end,
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = stream::iter([Bytes::from(request.encode_to_vec())]).chain(stream::pending());
    keyloom.open(Rpc::Watch, requests.boxed()).await
}

/// The next response; `None` where nothing comes for long.
async fn next(answers: &mut Answers) -> Option<Result<WatchResponse, Status>> {
    let answer = timeout(Duration::from_secs(2), answers.next()).await.ok()?;
    Some(answer?.map(|answer| WatchResponse::decode(answer).unwrap()))
}

/// What a watch shows until nothing more comes: values at revisions, or that it is compacted.
async fn shown(keyloom: &Keyloom, prefix: &str, start: i64) -> Result<Vec<(i64, String)>, i64> {
    let mut answers = watch(keyloom, prefix, start).await;
    let mut shown = Vec::new();
    while let Some(response) = next(&mut answers).await {
        let response = response.unwrap();
        if response.canceled {
            assert_eq!(shown, [], "events before a watch is cancelled as compacted");
            return Err(response.compact_revision);
        }
        for kv in response.events.into_iter().filter_map(|event| event.kv) {
            let value = String::from_utf8(kv.value.to_vec()).unwrap();
            shown.push((kv.mod_revision, format!("{:?} {value}", kv.key)));
        }
    }
    Ok(shown)
}

// === the two interleavings ===

/// The first of two stores to be written is the second one in the ledger's own order of stores, so
/// that a recovery that appends what it finds turns the two writes round.
#[tokio::test(start_paused = true)]
async fn a_write_acknowledged_after_another_must_not_be_ordered_before_it_by_recovery() {
    let (keyloom, stores) = unrecorded().await;
    let recorded = head(&keyloom).await;
    let first = keyloom.put(RBAC, "first").await.unwrap();
    let second = keyloom.put(DEFAULT, "second").await.unwrap();
    assert!(recorded < first && first < second);
    let keyloom = killed(keyloom, &stores).await;

    let now = head(&keyloom).await;
    assert_eq!(value(&keyloom, RBAC, 0).await.unwrap(), "first");
    assert_eq!(value(&keyloom, DEFAULT, 0).await.unwrap(), "second");
    let mut readable = 0;
    for at in (1..=second + 1).chain(now - 5..=now) {
        let request = RangeRequest {
            revision: at,
            ..list(EVERYTHING)
        };
        match keyloom.range(request).await {
            Err(status) => assert_eq!(EtcdError::of(&status), Some(EtcdError::Compacted)),
            Ok(answer) => {
                readable += 1;
                let has = |value: &str| answer.kvs.iter().any(|kv| kv.value == value);
                assert!(
                    has("first") || !has("second"),
                    "at {at} the second write is there without the first"
                );
            }
        }
        // One store by itself is no way around it: a client puts two such reads together.
        let alone = (
            value(&keyloom, RBAC, at).await,
            value(&keyloom, DEFAULT, at).await,
        );
        if let (Ok(first), Ok(second)) = alone {
            assert!(first == "first" || second != "second", "at {at}");
        }
    }
    assert!(readable > 0, "the newest revision can be read");
    for start in (1..=second + 1).chain(now - 5..=now) {
        if let Ok(events) = shown(&keyloom, EVERYTHING, start).await {
            let place = |value: &str| events.iter().position(|(_, event)| event.ends_with(value));
            assert!(
                place("second").is_none() || place("first") < place("second"),
                "a watch from {start} shows {events:?}"
            );
        }
    }
}

/// Its readers saw both writes as they were acknowledged. The writes stand above the hole now: from
/// below it they would come again, as news.
#[tokio::test(start_paused = true)]
async fn a_cache_that_resumes_from_below_the_hole_must_not_be_sent_what_its_readers_already_saw() {
    let (keyloom, stores) = unrecorded().await;
    let listed = head(&keyloom).await;
    let mut cache = watch(&keyloom, EVERYTHING, listed + 1).await;
    assert!(next(&mut cache).await.unwrap().unwrap().created);
    // Nothing more gets as far as the cache.
    stores.iter().for_each(|store| store.hold_watches(true));
    let first = keyloom.put(RBAC, "2").await.unwrap();
    let second = keyloom.put(DEFAULT, "2").await.unwrap();
    for (key, revision) in [(RBAC, first), (DEFAULT, second)] {
        let read = keyloom.range(list(key)).await.unwrap();
        assert_eq!(read.kvs[0].mod_revision, revision);
    }
    stores.iter().for_each(|store| store.hold_watches(false));
    let keyloom = killed(keyloom, &stores).await;

    for start in listed + 1..=second + 1 {
        for prefix in [EVERYTHING, "/registry/roles/", "/registry/pods/"] {
            let compacted = shown(&keyloom, prefix, start).await;
            let floor = compacted.expect_err("a watch goes on from below the hole");
            assert!(floor > second, "{prefix} from {start}: {floor}");
        }
    }
    // Those of a store that had nothing new go on, and miss nothing.
    let tenant = keyloom.put(TENANT, "3").await.unwrap();
    let events = shown(&keyloom, "/registry/pods/tenant-a/", listed + 1).await;
    let expected = (tenant, format!("{:?} 3", Bytes::from(TENANT)));
    assert_eq!(events, Ok(vec![expected.clone()]));
    // Whoever lists again is sent what comes next, and only that.
    let relisted = keyloom.range(list(EVERYTHING)).await.unwrap();
    assert!(relisted.kvs.iter().all(|kv| kv.mod_revision != first));
    assert_eq!(
        shown(&keyloom, EVERYTHING, tenant).await,
        Ok(vec![expected])
    );
    assert_eq!(keys(&relisted), [DEFAULT, TENANT, RBAC]);
}

/// The same with a store that is away when the successor starts: nobody knows then what of it was
/// given out. A watch that goes on from before is held, and begins anew when the store is back.
#[tokio::test(start_paused = true)]
async fn a_store_that_returns_must_not_send_what_its_readers_already_saw() {
    let (keyloom, stores) = unrecorded().await;
    let listed = head(&keyloom).await;
    let mut cache = watch(&keyloom, EVERYTHING, listed + 1).await;
    assert!(next(&mut cache).await.unwrap().unwrap().created);
    let mut seen = 0;
    for value in ["2", "3"] {
        let written = keyloom.put(RBAC, value).await.unwrap();
        let shown = next(&mut cache).await.unwrap().unwrap();
        seen = shown.events[0].kv.as_ref().unwrap().mod_revision;
        assert_eq!(seen, written);
    }
    stores[1].inject_always(None, Fault::NotSent);
    let keyloom = killed(keyloom, &stores).await;

    let mut caches = Vec::new();
    for start in [listed + 1, seen, seen + 1] {
        let mut cache = watch(&keyloom, EVERYTHING, start).await;
        assert!(next(&mut cache).await.unwrap().unwrap().created);
        caches.push(cache);
    }
    keyloom.put(DEFAULT, "2").await.unwrap();
    for cache in &mut caches {
        let early = timeout(Duration::from_secs(2), cache.next()).await;
        assert!(
            early.is_err(),
            "told of a place before it is known: {early:?}"
        );
    }
    stores[1].clear_faults();
    for cache in &mut caches {
        let answer = timeout(Duration::from_secs(60), cache.next()).await;
        let answer = answer.unwrap().unwrap().unwrap();
        let answer = WatchResponse::decode(answer).unwrap();
        assert_eq!(answer.events, [], "shown again");
        assert!(
            answer.canceled && answer.compact_revision > seen,
            "{answer:?}"
        );
    }
    let value = keyloom.range(list(RBAC)).await.unwrap().kvs[0]
        .value
        .clone();
    assert_eq!(value, "3");
}

/// Where one store alone has something new, its own order is the whole order.
#[tokio::test(start_paused = true)]
async fn what_one_store_alone_has_new_keeps_its_revisions() {
    let (keyloom, stores) = unrecorded().await;
    let listed = head(&keyloom).await;
    let mut written = Vec::new();
    for value in ["2", "3", "4"] {
        let revision = keyloom.put(RBAC, value).await.unwrap();
        written.push((revision, format!("{:?} {value}", Bytes::from(RBAC))));
    }
    let keyloom = killed(keyloom, &stores).await;
    assert_eq!(
        shown(&keyloom, EVERYTHING, listed + 1).await,
        Ok(written.clone())
    );
    let next = keyloom.put(DEFAULT, "2").await.unwrap();
    assert_eq!(next, written[2].0 + 1);
}

/// Starts that die after taking the term and before they serve leave own writes behind that no
/// record knows of.
#[tokio::test(start_paused = true)]
async fn terms_that_were_never_served_take_no_revision() {
    let (keyloom, stores) = unrecorded().await;
    let last = head(&keyloom).await;
    keyloom.kill();
    for _ in 0..4 {
        stores[0].clear_faults();
        // The term is taken, and then nothing is heard of it.
        let before = stores[0].snapshot().revision();
        stores[0].inject_on(Rpc::Txn, 1, Fault::LostAfterApply);
        stores[0].inject_always(Some(Rpc::Txn), Fault::HangsBeforeApply(Gate::new()));
        let started = timeout(TERM * 3, Keyloom::start(THREE, &stores)).await;
        assert!(started.is_err());
        assert_eq!(stores[0].snapshot().revision(), before + 1);
    }
    stores[0].clear_faults();
    let keyloom = Keyloom::start(THREE, &stores).await;
    assert_eq!(head(&keyloom).await, last);
    assert_eq!(keyloom.put(DEFAULT, "2").await.unwrap(), last + 1);
}

// === the term ===

/// Whoever takes over has counted to the end of the other's term, not of its own.
#[tokio::test(start_paused = true)]
async fn a_successor_with_a_shorter_term_waits_for_the_longer_one() {
    let stores = stores(3);
    let first = Keyloom::with_term(THREE, &stores, TERM * 6).await;
    first.put(RBAC, "1").await.unwrap();
    first.kill();
    let begun = Instant::now();
    let second = Keyloom::with_term(THREE, &stores, TERM).await;
    assert!(begun.elapsed() >= TERM * 6, "{:?}", begun.elapsed());
    second.put(RBAC, "2").await.unwrap();
}

/// Errors are answers too: "in the future" and "compacted" may no longer be true.
#[tokio::test(start_paused = true)]
async fn an_instance_past_its_term_denies_nothing() {
    let (keyloom, _stores) = unrecorded().await;
    let head = head(&keyloom).await;
    let future = RangeRequest {
        revision: head + 1,
        ..list(EVERYTHING)
    };
    let one_store = RangeRequest {
        revision: head + 1,
        ..list(RBAC)
    };
    for request in [&future, &one_store] {
        let status = keyloom.range(request.clone()).await.unwrap_err();
        assert_eq!(EtcdError::of(&status), Some(EtcdError::FutureRev));
    }
    sleep(TERM).await;
    for request in [future, one_store, list(EVERYTHING)] {
        let status = keyloom.range(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(
            status.message().contains("leadership was not renewed"),
            "{status}"
        );
    }
    let status = Bytes::from(StatusRequest {}.encode_to_vec());
    for (rpc, message) in [(Rpc::Status, status), (Rpc::MemberList, Bytes::new())] {
        let status = keyloom.unary(rpc, message).await.unwrap_err();
        assert!(
            status.message().contains("leadership was not renewed"),
            "{rpc:?}: {status}"
        );
    }
    assert!(keyloom.ask(&put(RBAC, "2")).await.is_err());
}

/// Events, progress and the answer to a new watch: nothing of a stream leaves past the term.
#[tokio::test(start_paused = true)]
async fn no_watch_message_leaves_past_the_term() {
    let (keyloom, stores) = unrecorded().await;
    let mut old = watch(&keyloom, EVERYTHING, 0).await;
    assert!(next(&mut old).await.unwrap().unwrap().created);
    sleep(TERM).await;
    // Through a successor, or by somebody else.
    let Step::Put(late) = put(RBAC, "late") else {
        panic!()
    };
    stores[1].with(|etcd| etcd.put(&late)).unwrap();
    let mut new = watch(&keyloom, EVERYTHING, 0).await;
    for answers in [&mut old, &mut new] {
        while let Some(answer) = next(answers).await {
            let status = answer.expect_err("a message past the leadership");
            assert_eq!(status.code(), Code::Unavailable);
        }
    }
    assert!(keyloom.ask(&get(RBAC)).await.is_err());
}
