//! Watches over three stores, case by case: what a client may ask for, and what it is told when a
//! store or the ledger does not go on.

mod unreadable;

use std::time::Duration;

use crate::support::{Keyloom, TERM, THREE, get, put, stores, stores_of, streams::Stream};
use bytes::Bytes;
use keyloom_etcd_api::{
    Code, EtcdError, Rpc,
    etcdserverpb::{
        CompactionRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
        WatchResponse, request_op::Request, watch_request::RequestUnion,
    },
};
use keyloom_proxy::WatchOptions;
use keyloom_store::CallError;
use keyloom_testkit::{
    Step,
    model::{Fault, Gate, ModelStore},
};
use prost::Message as _;
use tokio::time::Instant;

const DEFAULT: &str = "/registry/pods/default/a";
const RBAC: &str = "/registry/roles/default/a";
const TENANT: &str = "/registry/pods/tenant-a/a";

/// Long enough for the ledger to be written.
const WRITTEN: Duration = Duration::from_millis(600);

async fn three() -> (Keyloom, Vec<ModelStore>) {
    let stores = stores(3);
    let keyloom = Keyloom::start(THREE, &stores).await;
    for key in [DEFAULT, RBAC, TENANT] {
        keyloom.put(key, "1").await.unwrap();
    }
    (keyloom, stores)
}

/// Everything, which is on every store.
fn everything(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

fn one(key: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().unwrap().revision
}

/// That the next events have these keys and revisions, in however many responses.
async fn gets(stream: &mut Stream, expected: &[(&str, i64)]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let response = stream.next().await;
        assert!(!response.created && !response.canceled, "{response:?}");
        assert!(!response.events.is_empty(), "{response:?}");
        for event in response.events {
            let kv = event.kv.unwrap();
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            got.push((key, kv.mod_revision));
        }
    }
    let got: Vec<_> = got.iter().map(|(key, at)| (key.as_str(), *at)).collect();
    assert_eq!(got, expected);
}

async fn created(stream: &mut Stream) -> WatchResponse {
    let response = stream.next().await;
    assert!(response.created && !response.canceled, "{response:?}");
    response
}

async fn compact(keyloom: &Keyloom, revision: i64) {
    let physical = false;
    let step = Step::Compact(CompactionRequest { revision, physical });
    keyloom.ask(&step).await.unwrap();
}

async fn restarted(keyloom: Keyloom, stores: &[ModelStore]) -> Keyloom {
    keyloom.stop().await;
    Keyloom::start(THREE, stores).await
}

// === compaction ===

/// Found by `watches::a_second_empty_store_changes_nothing_that_is_told`, seed 0.
#[tokio::test(start_paused = true)]
async fn a_watch_begins_at_the_compaction_though_an_own_write_follows() {
    let (keyloom, stores) = three().await;
    let last = keyloom.put(DEFAULT, "2").await.unwrap();
    tokio::time::sleep(WRITTEN).await;
    compact(&keyloom, last).await;
    // What was kept in memory is gone.
    let keyloom = restarted(keyloom, &stores).await;
    let mut stream = keyloom.open_watch().await;
    stream.create(everything(last));
    created(&mut stream).await;
    gets(&mut stream, &[(DEFAULT, last)]).await;
}

/// As in etcd, where Kubernetes' own tests (`TestWatchFromZero`) expect it: what an event replaced is
/// looked up one revision before it, and not below what is kept.
#[tokio::test(start_paused = true)]
async fn an_event_at_the_compaction_has_no_previous_value() {
    let (keyloom, _stores) = three().await;
    let at = keyloom.put(DEFAULT, "2").await.unwrap();
    let above = keyloom.put(DEFAULT, "3").await.unwrap();
    compact(&keyloom, at).await;
    let mut stream = keyloom.open_watch().await;
    stream.create(everything(at));
    created(&mut stream).await;
    let mut previous = Vec::new();
    while previous.len() < 2 {
        for event in stream.next().await.events {
            let before = event.prev_kv.map(|kv| kv.mod_revision);
            previous.push((event.kv.unwrap().mod_revision, before));
        }
    }
    assert_eq!(previous, [(at, None), (above, Some(at))]);
}

fn compact_behind(store: &ModelStore) {
    store.with(|etcd| {
        let request = CompactionRequest {
            revision: etcd.revision(),
            physical: false,
        };
        etcd.compact(&request).unwrap()
    });
}

fn cut_watches(store: &ModelStore) {
    store.inject_always(Some(Rpc::Watch), Fault::NotSent);
    store.end_streams(&CallError::Unknown("cut".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_own_writes_alone_costs_no_watch() {
    let (keyloom, stores) = three().await;
    let last = keyloom.put(DEFAULT, "2").await.unwrap();
    let mut stream = keyloom.open_watch().await;
    stream.create(everything(0));
    created(&mut stream).await;
    stream.ask_progress();
    assert_eq!(revision(&stream.next().await), last);
    cut_watches(&stores[0]);
    // The term is renewed meanwhile.
    tokio::time::sleep(TERM).await;
    let next = keyloom.put(TENANT, "2").await.unwrap();
    compact_behind(&stores[0]);
    stores[0].clear_faults();
    tokio::time::sleep(TERM).await;
    gets(&mut stream, &[(TENANT, next)]).await;
    let mut late = keyloom.open_watch().await;
    late.create(everything(last));
    created(&mut late).await;
    gets(&mut late, &[(DEFAULT, last), (TENANT, next)]).await;
    let more = keyloom.put(DEFAULT, "3").await.unwrap();
    gets(&mut late, &[(DEFAULT, more)]).await;
}

/// The store was compacted above what its watch had delivered, behind Keyloom's back.
async fn with_a_gap() -> (Keyloom, Vec<ModelStore>, Stream, i64) {
    let (keyloom, stores) = three().await;
    let mut stream = keyloom.open_watch().await;
    stream.create(everything(0));
    created(&mut stream).await;
    cut_watches(&stores[1]);
    let lost = keyloom.put(RBAC, "lost").await.unwrap();
    keyloom.put(RBAC, "2").await.unwrap();
    compact_behind(&stores[1]);
    (keyloom, stores, stream, lost)
}

#[tokio::test(start_paused = true)]
async fn a_gap_cancels_what_it_concerns_and_is_written_down_first() {
    let (keyloom, stores, mut stream, lost) = with_a_gap().await;
    let mut elsewhere = keyloom.open_watch().await;
    elsewhere.create(one(TENANT, 0));
    created(&mut elsewhere).await;
    // Keyloom's own writes hang, and so does everything that rests on the floor.
    let gate = Gate::new();
    stores[0].inject_always(Some(Rpc::Txn), Fault::HangsBeforeApply(gate.clone()));
    stores[1].clear_faults();
    gate.until_arrived(1).await;
    stream.is_silent(Duration::from_millis(500)).await;
    stores[0].clear_faults();
    gate.release();
    let canceled = stream.next().await;
    assert!(
        canceled.canceled && canceled.compact_revision > lost,
        "{canceled:?}"
    );
    let floor = canceled.compact_revision;
    // Killed at once, and the floor is there all the same.
    keyloom.kill();
    let keyloom = Keyloom::start(THREE, &stores).await;
    let mut stream = keyloom.open_watch().await;
    for start in [lost, floor - 1] {
        stream.create(everything(start));
        created(&mut stream).await;
        let canceled = stream.next().await;
        assert!(canceled.compact_revision >= floor, "{canceled:?}");
    }
    stream.create(everything(floor));
    created(&mut stream).await;
    drop(elsewhere);
}

#[tokio::test(start_paused = true)]
async fn a_gap_on_one_store_leaves_the_watches_of_others_alone() {
    let (keyloom, stores, mut stream, _) = with_a_gap().await;
    let mut elsewhere = keyloom.open_watch().await;
    elsewhere.create(one(TENANT, 0));
    created(&mut elsewhere).await;
    stores[1].clear_faults();
    assert!(stream.next().await.compact_revision > 0);
    let next = keyloom.put(TENANT, "2").await.unwrap();
    gets(&mut elsewhere, &[(TENANT, next)]).await;
}

// === progress ===

#[tokio::test(start_paused = true)]
async fn progress_is_told_at_the_interval_and_not_after_an_event() {
    let stores = stores(3);
    let interval = Duration::from_secs(90);
    let watch = WatchOptions {
        progress_interval: interval,
        ..WatchOptions::default()
    };
    let keyloom = Keyloom::start_watching(THREE, &stores, watch).await;
    let mut stream = keyloom.open_watch().await;
    let notified = |key| WatchCreateRequest {
        progress_notify: true,
        ..one(key, 0)
    };
    stream.create(notified(DEFAULT));
    stream.create(notified(TENANT));
    stream.create(one(RBAC, 0));
    for _ in 0..3 {
        created(&mut stream).await;
    }
    let begun = Instant::now();
    let put = keyloom.put(TENANT, "1").await.unwrap();
    gets(&mut stream, &[(TENANT, put)]).await;
    let first = stream.next().await;
    assert_eq!((first.watch_id, revision(&first)), (0, put));
    assert!(begun.elapsed() > interval / 2 && begun.elapsed() <= interval);
    let mut second = [stream.next().await, stream.next().await];
    second.sort_by_key(|response| response.watch_id);
    for (id, progress) in second.iter().enumerate() {
        assert!(progress.events.is_empty(), "{progress:?}");
        assert_eq!(progress.watch_id, i64::try_from(id).unwrap());
        // Also where only another store was written to.
        assert_eq!(revision(progress), put);
    }
    assert!(begun.elapsed() > interval && begun.elapsed() <= interval * 2);
}

#[tokio::test(start_paused = true)]
async fn progress_on_request_is_prompt_also_where_others_write() {
    let (keyloom, _stores) = three().await;
    let mut stream = keyloom.open_watch().await;
    stream.create(one(TENANT, 0));
    created(&mut stream).await;
    for value in 0..20 {
        let last = keyloom.put(DEFAULT, &value.to_string()).await.unwrap();
        let begun = Instant::now();
        stream.ask_progress();
        let progress = stream.next().await;
        assert_eq!((progress.watch_id, revision(&progress)), (-1, last));
        assert!(begun.elapsed() <= Duration::from_millis(100));
    }
}

// === catching up ===

/// A watch of one key that must read the history of a store of this version; what the store was
/// asked for then.
async fn caught_up_from(version: &str) -> Vec<WatchRequest> {
    let stores = stores_of(version, 3);
    let watch = WatchOptions {
        history_revisions: 2,
        ..WatchOptions::default()
    };
    let keyloom = Keyloom::start_watching(THREE, &stores, watch).await;
    let first = keyloom.put(TENANT, "1").await.unwrap();
    for value in 0..20 {
        let key = format!("{TENANT}-{}", value % 3);
        keyloom.put(&key, &value.to_string()).await.unwrap();
    }
    let last = keyloom.put(DEFAULT, "1").await.unwrap();
    tokio::time::sleep(WRITTEN).await;
    drop(stores[2].take_received());
    // What comes late must not come behind a progress that speaks for it.
    stores[2].hold_watches(true);
    let mut stream = keyloom.open_watch().await;
    stream.create(one(TENANT, first));
    created(&mut stream).await;
    stream.ask_progress();
    stream.is_silent(Duration::from_secs(2)).await;
    stores[2].hold_watches(false);
    gets(&mut stream, &[(TENANT, first)]).await;
    assert_eq!(revision(&stream.next().await), last);
    let next = keyloom.put(TENANT, "2").await.unwrap();
    gets(&mut stream, &[(TENANT, next)]).await;
    let received = stores[2].take_received().into_iter();
    received
        .filter(|(rpc, _)| *rpc == Rpc::Watch)
        .map(|(_, message)| WatchRequest::decode(message).unwrap())
        .collect()
}

fn ranges(requests: &[WatchRequest]) -> Vec<Bytes> {
    let keys = requests
        .iter()
        .filter_map(|request| match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(create.key.clone()),
            _ => None,
        });
    keys.collect()
}

#[tokio::test(start_paused = true)]
async fn catching_up_reads_the_range_of_a_store_whose_progress_can_be_trusted() {
    let requests = caught_up_from("3.6.16").await;
    assert_eq!(ranges(&requests), [TENANT]);
    assert!(requests.len() > 1, "it was asked how far it is");
}

#[tokio::test(start_paused = true)]
async fn an_old_etcd_is_not_asked_for_its_progress() {
    for version in ["3.4.23", "3.5.7"] {
        let requests = caught_up_from(version).await;
        assert_eq!(ranges(&requests), ["\0"], "{version}");
        assert_eq!(requests.len(), 1, "{version}");
    }
}

// === what events replaced ===

/// Whether each watch that a store was asked for since the last time wants what events replaced.
fn asked_previous(store: &ModelStore) -> Vec<bool> {
    let received = store.take_received().into_iter();
    let requests = received.filter(|(rpc, _)| *rpc == Rpc::Watch);
    let creates = requests.filter_map(|(_, message)| {
        match WatchRequest::decode(message).unwrap().request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(create.prev_kv),
            _ => None,
        }
    });
    creates.collect()
}

/// The next event, and the revision of what it replaced.
async fn replaced(stream: &mut Stream) -> (i64, Option<i64>) {
    let response = stream.next().await;
    let [event] = &response.events[..] else {
        panic!("{response:?}")
    };
    let previous = event.prev_kv.as_ref().map(|kv| kv.mod_revision);
    (event.kv.as_ref().unwrap().mod_revision, previous)
}

/// It costs a store a read for each event.
#[tokio::test(start_paused = true)]
async fn what_events_replace_is_asked_of_a_store_while_a_watch_wants_it() {
    let (keyloom, stores) = three().await;
    tokio::time::sleep(WRITTEN).await;
    // Clients that come back to a restarted Keyloom may want it.
    assert_eq!(asked_previous(&stores[0]), [true]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(asked_previous(&stores[0]), [false]);
    assert_eq!(asked_previous(&stores[2]), [true, false]);
    // Those that want none have none asked for.
    let mut plain = keyloom.open_watch().await;
    plain.create(one(DEFAULT, 0));
    created(&mut plain).await;
    let before = keyloom.put(DEFAULT, "2").await.unwrap();
    assert_eq!(replaced(&mut plain).await, (before, None));
    assert!(asked_previous(&stores[0]).is_empty());
    // One that comes is never told an event without it: not of those that came without, and not of
    // those that come before the store's watch is open anew.
    stores[0].hold_watches(true);
    let mut stream = keyloom.open_watch().await;
    let wants = |start| WatchCreateRequest {
        prev_kv: true,
        ..one(DEFAULT, start)
    };
    stream.create(wants(before));
    created(&mut stream).await;
    stream.create(wants(0));
    created(&mut stream).await;
    let at = keyloom.put(DEFAULT, "3").await.unwrap();
    stores[0].hold_watches(false);
    let mut told = Vec::new();
    while told.len() < 3 {
        let response = stream.next().await;
        for event in response.events {
            let previous = event.prev_kv.map(|kv| kv.mod_revision);
            told.push((response.watch_id, event.kv.unwrap().mod_revision, previous));
        }
    }
    told.sort_unstable();
    let first = told[0].2.unwrap();
    assert!(first < before);
    let expected = [
        (0, before, Some(first)),
        (0, at, Some(before)),
        (1, at, Some(before)),
    ];
    assert_eq!(told, expected);
    assert!(asked_previous(&stores[0]).contains(&true));
    // Nobody watches the tenant's keys with it.
    assert!(asked_previous(&stores[2]).is_empty());
    // For a while it is asked for though they are gone.
    drop(stream);
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert_eq!(asked_previous(&stores[0]).last(), Some(&false));
    let last = keyloom.put(DEFAULT, "4").await.unwrap();
    assert_eq!(replaced(&mut plain).await, (at, None));
    assert_eq!(replaced(&mut plain).await, (last, None));
}

// === a store that hangs ===

#[tokio::test(start_paused = true)]
async fn a_hung_store_holds_back_only_what_it_owes() {
    let (keyloom, stores) = three().await;
    let mut merged = keyloom.open_watch().await;
    merged.create(everything(0));
    created(&mut merged).await;
    let mut elsewhere = keyloom.open_watch().await;
    elsewhere.create(one(DEFAULT, 0));
    created(&mut elsewhere).await;
    // Everything so far was delivered.
    merged.ask_progress();
    merged.next().await;
    // The store hangs, and owes nothing.
    let gate = Gate::new();
    stores[2].hold_watches(true);
    for rpc in [Rpc::Range, Rpc::Put, Rpc::Txn] {
        stores[2].inject_always(Some(rpc), Fault::HangsBeforeApply(gate.clone()));
    }
    let first = keyloom.put(DEFAULT, "2").await.unwrap();
    let second = keyloom.put(RBAC, "2").await.unwrap();
    gets(&mut merged, &[(DEFAULT, first), (RBAC, second)]).await;
    gets(&mut elsewhere, &[(DEFAULT, first)]).await;
    for stream in [&mut merged, &mut elsewhere] {
        stream.ask_progress();
        assert_eq!(revision(&stream.next().await), second);
    }
    // It answers calls and delivers nothing: a revision is owed.
    stores[2].clear_faults();
    gate.release();
    let owed = keyloom.put(TENANT, "2").await.unwrap();
    let third = keyloom.put(DEFAULT, "3").await.unwrap();
    gets(&mut elsewhere, &[(DEFAULT, third)]).await;
    elsewhere.ask_progress();
    assert_eq!(revision(&elsewhere.next().await), third);
    merged.ask_progress();
    merged.is_silent(Duration::from_secs(120)).await;
    // A stream's progress speaks for all of its watches.
    elsewhere.create(everything(0));
    created(&mut elsewhere).await;
    elsewhere.ask_progress();
    elsewhere.is_silent(Duration::from_secs(120)).await;
    stores[2].hold_watches(false);
    gets(&mut merged, &[(TENANT, owed), (DEFAULT, third)]).await;
    assert_eq!(revision(&merged.next().await), third);
    assert_eq!(revision(&elsewhere.next().await), third);
}

// === the end of the term ===

#[tokio::test(start_paused = true)]
async fn clients_that_need_a_leader_hear_that_there_is_none() {
    let (keyloom, stores) = three().await;
    let mut needs = keyloom.open_watch_that_needs_leader().await.unwrap();
    let mut patient = keyloom.open_watch().await;
    for stream in [&mut needs, &mut patient] {
        stream.create(everything(0));
        created(stream).await;
    }
    needs.is_silent(TERM * 3).await;
    let gate = Gate::new();
    stores[0].inject_always(None, Fault::HangsBeforeApply(gate.clone()));
    let begun = Instant::now();
    let status = needs.end().await;
    assert!(begun.elapsed() <= TERM);
    assert_eq!(EtcdError::of(&status), Some(EtcdError::NoLeader));
    let error = keyloom.open_watch_that_needs_leader().await.err().unwrap();
    assert_eq!(EtcdError::of(&error), Some(EtcdError::NoLeader));
    patient.is_silent(TERM * 3).await;
    // The others are told what is the matter.
    let error = keyloom.ask(&get(TENANT)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().contains("leadership was not renewed"),
        "{error}"
    );
    stores[0].clear_faults();
    gate.release();
    tokio::time::sleep(TERM).await;
    let next = keyloom.put(TENANT, "2").await.unwrap();
    gets(&mut patient, &[(TENANT, next)]).await;
}

// === fragments ===

/// Puts of so many bytes, at one revision.
fn puts(keys: usize, bytes: usize) -> Step {
    let put = |number| {
        Request::RequestPut(PutRequest {
            key: Bytes::from(format!("{RBAC}-{number}")),
            value: Bytes::from(vec![b'v'; bytes]),
            ..PutRequest::default()
        })
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    Step::Txn(TxnRequest {
        success: (0..keys).map(|number| op(put(number))).collect(),
        ..TxnRequest::default()
    })
}

/// etcd's limit for one response to a client that allows fragments.
const LIMIT: usize = (1536 + 512) << 10;

#[tokio::test(start_paused = true)]
async fn large_revisions_come_in_fragments_where_the_client_allows_it() {
    let (keyloom, _stores) = three().await;
    let mut stream = keyloom.open_watch().await;
    for (watch_id, fragment) in [(1, true), (2, false)] {
        stream.create(WatchCreateRequest {
            watch_id,
            fragment,
            ..everything(0)
        });
        created(&mut stream).await;
    }
    // Each has its previous value beside it the second time: about 2.8 MiB.
    for _ in 0..2 {
        keyloom.ask(&puts(14, 100 << 10)).await.unwrap();
    }
    let mut parts = [const { Vec::new() }; 2];
    let count = |parts: &[Vec<WatchResponse>; 2], at: usize| -> usize {
        parts[at].iter().map(|part| part.events.len()).sum()
    };
    while count(&parts, 0) < 28 || count(&parts, 1) < 28 {
        let response = stream.next().await;
        parts[usize::try_from(response.watch_id).unwrap() - 1].push(response);
    }
    let flags: Vec<_> = parts[0].iter().map(|part| part.fragment).collect();
    assert_eq!(flags, [false, true, false]);
    assert!(parts[0].iter().all(|part| part.encoded_len() < LIMIT));
    let flags: Vec<_> = parts[1].iter().map(|part| part.fragment).collect();
    assert_eq!(flags, [false, false]);
    assert!(parts[1][1].encoded_len() > LIMIT);
    let keys = |parts: &[WatchResponse]| -> Vec<Bytes> {
        let events = parts.iter().flat_map(|part| &part.events);
        events.map(|e| e.kv.as_ref().unwrap().key.clone()).collect()
    };
    assert_eq!(keys(&parts[0]), keys(&parts[1]));
}

// === streams ===

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_more_may_go_on_listening() {
    let (keyloom, _stores) = three().await;
    let mut stream = keyloom.open_watch().await;
    stream.create(everything(0));
    stream.close();
    created(&mut stream).await;
    let next = keyloom.put(TENANT, "2").await.unwrap();
    gets(&mut stream, &[(TENANT, next)]).await;
}
