//! Watches: from every past revision, under load, slow, and by the letter of the protocol.

mod previous;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use keyloom_etcd_api::{
    EtcdError, KeyRange, Rpc,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
        LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse, WatchCancelRequest,
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_create_request::FilterType, watch_request::RequestUnion,
    },
    mvccpb::{Event, event::EventType},
};
use keyloom_sqlstore::SqliteStore;
use keyloom_store::{Answers, Store as _};
use keyloom_testkit::{
    model::Etcd,
    program::{Generator, Group, Settings},
};
use prost::Message as _;
use tokio::sync::mpsc;

use crate::support::{Place, call, put, step};

/// One stream.
struct Stream {
    requests: mpsc::UnboundedSender<Bytes>,
    answers: Answers,
}

impl Stream {
    async fn open(store: &SqliteStore) -> Self {
        let (requests, received) = mpsc::unbounded_channel::<Bytes>();
        let received = futures_util::stream::unfold(received, |mut received| async {
            received.recv().await.map(|request| (request, received))
        });
        let answers = store.stream(Rpc::Watch, received.boxed()).await.unwrap();
        Self { requests, answers }
    }

    fn send(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests.send(request.encode_to_vec().into()).unwrap();
    }

    fn create(&self, create: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(create));
    }

    fn progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(Duration::from_secs(20), self.answers.next());
        let answer = next
            .await
            .expect("an answer in time")
            .expect("an open stream")
            .unwrap();
        WatchResponse::decode(answer).unwrap()
    }

    /// Whether the stream has said everything that it had to say.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.answers.next())
            .await
            .is_err()
    }

    /// Everything up to the next progress, by watch.
    async fn until_progress(&mut self) -> (i64, BTreeMap<i64, Vec<Event>>) {
        self.progress();
        let mut events: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        loop {
            let answer = self.next().await;
            if answer.watch_id == -1 {
                return (answer.header.unwrap().revision, events);
            }
            assert!(!answer.canceled, "{answer:?}");
            let header = answer.header.unwrap().revision;
            if let Some(last) = answer.events.last() {
                assert!(header >= last.kv.as_ref().unwrap().mod_revision);
            }
            events
                .entry(answer.watch_id)
                .or_default()
                .extend(answer.events);
        }
    }
}

fn everything(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

/// What the model says that a watch from `start` has to be sent.
fn expected(model: &Etcd, range: &KeyRange, start: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for revision in start..=model.revision() {
        for event in model.keyspace().changes(revision) {
            let kv = event.kv.as_ref().unwrap();
            if !range.contains(&kv.key) {
                continue;
            }
            let mut event = event.clone();
            let created = event.r#type() == EventType::Put && kv.version == 1;
            if !created {
                event.prev_kv = model.keyspace().get(&kv.key, revision - 1).cloned();
            }
            events.push(event);
        }
    }
    events
}

async fn same_program(store: &SqliteStore, seed: u64, compactions: bool) -> Etcd {
    let mut model = Etcd::default();
    let mut settings = Settings::new(vec![Group::numbered("/a/", 5), Group::numbered("/b/", 3)]);
    settings.compactions = compactions;
    let mut generator = Generator::new(seed, settings);
    for _ in 0..400 {
        let next = generator.next_step();
        let answer = model.apply(&next).map_err(keyloom_etcd_api::Status::from);
        assert_eq!(answer.is_ok(), step(store, &next).await.is_ok());
        generator.learn(&next, &answer);
    }
    assert_eq!(store.revision(), model.revision());
    model
}

/// From memory, from the history, and from both one after the other.
#[tokio::test]
async fn a_watch_from_every_past_revision_replays_exactly_what_happened() {
    for (seed, feed_bytes, compactions) in [
        (1, 32 << 20, false),
        (2, 0, false),
        (3, 20_000, false),
        (4, 0, true),
        (5, 32 << 20, true),
    ] {
        let mut place = Place::new();
        place.options.store.feed_bytes = feed_bytes;
        let store = place.open().await;
        let model = same_program(&store, seed, compactions).await;
        let range = KeyRange::prefix("/a/".into());
        let first = if compactions {
            model.compacted() + 1
        } else {
            1
        };
        for all in [true, false] {
            let mut stream = Stream::open(&store).await;
            for start in first..=model.revision() {
                let narrow = WatchCreateRequest {
                    key: range.start.clone(),
                    range_end: range.range_end(),
                    ..everything(start)
                };
                stream.create(if all { everything(start) } else { narrow });
            }
            let mut got = BTreeMap::new();
            for id in 0..=model.revision() - first {
                // Created answers come in order; events of earlier watches may be between.
                loop {
                    let answer = stream.next().await;
                    if answer.created {
                        assert_eq!((answer.watch_id, answer.canceled), (id, false));
                        break;
                    }
                    got.entry(answer.watch_id)
                        .or_insert_with(Vec::new)
                        .extend(answer.events);
                }
            }
            let (revision, rest) = stream.until_progress().await;
            assert_eq!(revision, model.revision());
            for (id, events) in rest {
                got.entry(id).or_default().extend(events);
            }
            let whole = KeyRange::all();
            for (id, start) in (first..=model.revision()).enumerate() {
                let expected = expected(&model, if all { &whole } else { &range }, start);
                let got = got.remove(&i64::try_from(id).unwrap()).unwrap_or_default();
                assert_eq!(got, expected, "seed {seed} from {start}");
            }
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_concurrent_writers_nothing_is_missed_or_repeated() {
    let mut place = Place::new();
    place.options.store.feed_bytes = 50_000;
    let store = place.open().await;
    let watch = |start| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut stream = Stream::open(&store).await;
            stream.create(everything(start));
            let created = stream.next().await;
            let from = if start > 0 {
                start
            } else {
                created.header.unwrap().revision + 1
            };
            let mut revisions = Vec::new();
            while revisions.last() != Some(&1601) {
                let answer = stream.next().await;
                for event in &answer.events {
                    let kv = event.kv.as_ref().unwrap();
                    assert_eq!(event.prev_kv.is_some(), kv.version > 1);
                    revisions.push(kv.mod_revision);
                }
            }
            assert_eq!(revisions, (from..=1601).collect::<Vec<_>>());
        })
    };
    let mut watches = vec![watch(0), watch(2), watch(100), watch(1600)];
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let key = format!("/{}/{}", writer % 3, number % 10);
                    put(&store, &key, &"v".repeat(100)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
        watches.push(watch(0));
        watches.push(watch(2));
        if store.revision() == 1601 {
            // A watch from now on would wait for ever.
            watches.remove(watches.len() - 2).abort();
        }
    }
    for watch in watches {
        if let Err(error) = watch.await {
            assert!(error.is_cancelled() || store.revision() == 1601, "{error}");
        }
    }
    store.close().await;
}

/// Who does not read holds up nobody, is not dropped, and finds everything later.
#[tokio::test]
async fn a_slow_watch_falls_behind_and_catches_up() {
    let mut place = Place::new();
    place.options.store.feed_bytes = 10_000;
    let store = place.open().await;
    let mut slow = Stream::open(&store).await;
    slow.create(everything(0));
    assert!(slow.next().await.created);
    for number in 0..300 {
        put(&store, &format!("/k/{number}"), &"v".repeat(1000))
            .await
            .unwrap();
    }
    let (revision, events) = slow.until_progress().await;
    assert_eq!(revision, 301);
    let revisions: Vec<i64> = events[&0]
        .iter()
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    assert_eq!(revisions, (2..=301).collect::<Vec<_>>());
    store.close().await;
}

#[tokio::test]
async fn creating_is_answered_as_by_etcd() {
    let place = Place::new();
    let store = place.open().await;
    for value in ["1", "2", "3"] {
        put(&store, "a", value).await.unwrap();
    }
    let mut stream = Stream::open(&store).await;
    let named = WatchCreateRequest {
        key: "a".into(),
        watch_id: 1,
        ..Default::default()
    };
    let unnamed = WatchCreateRequest {
        key: "a".into(),
        ..Default::default()
    };
    for (request, id, refusal) in [
        (unnamed.clone(), 0, ""),
        (named.clone(), 1, ""),
        // 1 is taken.
        (unnamed.clone(), 2, ""),
        (
            named.clone(),
            -1,
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
        (
            WatchCreateRequest {
                range_end: "a".into(),
                ..unnamed.clone()
            },
            -1,
            "mvcc: watcher range is empty",
        ),
        (
            WatchCreateRequest {
                start_revision: -1,
                ..unnamed.clone()
            },
            -1,
            EtcdError::Compacted.text(),
        ),
        (WatchCreateRequest::default(), 3, ""),
    ] {
        stream.create(request);
        let answer = stream.next().await;
        assert!(answer.created && answer.events.is_empty());
        assert_eq!((answer.watch_id, &answer.cancel_reason[..]), (id, refusal));
        assert_eq!(answer.canceled, id == -1);
        assert_eq!(answer.header.unwrap().revision, 4);
    }
    // Canceling one that is there, one that is not.
    for id in [1, 77] {
        stream.send(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: id,
        }));
    }
    let answer = stream.next().await;
    assert!(answer.canceled && !answer.created && answer.cancel_reason.is_empty());
    assert_eq!(answer.watch_id, 1);
    // The id is free again.
    stream.create(named);
    assert_eq!(stream.next().await.watch_id, 1);
    assert!(stream.is_quiet().await);
    store.close().await;
}

#[tokio::test]
async fn what_is_compacted_cannot_be_watched_and_its_edge_can() {
    let place = Place::new();
    let store = place.open().await;
    for value in ["1", "2", "3", "4"] {
        put(&store, "a", value).await.unwrap();
    }
    let compact = CompactionRequest {
        revision: 4,
        physical: true,
    };
    let _done: CompactionResponse = call(&store, Rpc::Compact, &compact).await.unwrap();
    let mut stream = Stream::open(&store).await;
    // Also where memory still has it, which is so without the values before.
    let plain = WatchCreateRequest {
        prev_kv: false,
        watch_id: 70,
        ..everything(3)
    };
    for (create, id) in [(everything(3), 0), (plain, 70)] {
        stream.create(create);
        assert!(stream.next().await.created);
        let canceled = stream.next().await;
        assert!(canceled.canceled && !canceled.created);
        assert_eq!((canceled.watch_id, canceled.compact_revision), (id, 4));
    }
    stream.create(everything(4));
    assert!(stream.next().await.created);
    // As in etcd, they keep their ids until they are canceled.
    stream.create(WatchCreateRequest {
        watch_id: 70,
        ..everything(4)
    });
    for watch_id in [0, 70] {
        stream.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }
    let (mut refused, mut canceled, mut told) = (0, Vec::new(), 0);
    while canceled.len() < 2 {
        let answer = stream.next().await;
        told += answer.events.len();
        refused += usize::from(answer.created && answer.canceled);
        if answer.canceled && !answer.created {
            assert_eq!(answer.compact_revision, 0);
            canceled.push(answer.watch_id);
        }
    }
    assert_eq!((refused, canceled), (1, vec![0, 70]));
    let (revision, mut events) = stream.until_progress().await;
    told += events.remove(&1).unwrap_or_default().len();
    assert_eq!((revision, told), (5, 2));
    // A deletion at the edge is still told, and gone with the next compaction.
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    };
    let _done: DeleteRangeResponse = call(&store, Rpc::DeleteRange, &delete).await.unwrap();
    let compact = CompactionRequest {
        revision: 6,
        physical: true,
    };
    let _done: CompactionResponse = call(&store, Rpc::Compact, &compact).await.unwrap();
    // From the history, not from memory.
    store.close().await;
    let store = place.open().await;
    let mut late = Stream::open(&store).await;
    late.create(everything(6));
    assert!(late.next().await.created);
    let (_, events) = late.until_progress().await;
    let kinds: Vec<EventType> = events[&0].iter().map(Event::r#type).collect();
    assert_eq!(kinds, [EventType::Delete]);
    store.close().await;
}

#[tokio::test]
async fn a_watch_from_the_future_hears_nothing_before_it() {
    let mut place = Place::new();
    place.options.store.progress_interval = Duration::from_millis(20);
    let store = place.open().await;
    let mut stream = Stream::open(&store).await;
    stream.create(WatchCreateRequest {
        progress_notify: true,
        ..everything(4)
    });
    let created = stream.next().await;
    assert_eq!(created.header.unwrap().revision, 1);
    stream.progress();
    put(&store, "a", "2").await.unwrap();
    assert!(
        stream.is_quiet().await,
        "neither events nor progress below its start"
    );
    put(&store, "a", "3").await.unwrap();
    stream.progress();
    assert!(
        stream.is_quiet().await,
        "as in etcd (`progressIfSync`), not just below its start either"
    );
    put(&store, "a", "4").await.unwrap();
    let answer = stream.next().await;
    let revisions = answer.events.iter().map(|event| {
        let kv = event.kv.as_ref().unwrap();
        kv.mod_revision
    });
    assert_eq!(revisions.collect::<Vec<_>>(), [4]);
    // And then, as nothing happens, that nothing happens.
    let idle = stream.next().await;
    assert_eq!((idle.watch_id, idle.header.unwrap().revision), (0, 4));
    store.close().await;
}

#[tokio::test]
async fn filters_and_fragments() {
    let mut place = Place::new();
    place.options.store.max_request_bytes = 100_000;
    let store = place.open().await;
    let mut stream = Stream::open(&store).await;
    let filtered = |filter: FilterType| WatchCreateRequest {
        filters: vec![filter.into()],
        ..everything(0)
    };
    stream.create(filtered(FilterType::Noput));
    stream.create(filtered(FilterType::Nodelete));
    stream.create(WatchCreateRequest {
        fragment: true,
        ..everything(0)
    });
    for id in 0..3 {
        assert_eq!(stream.next().await.watch_id, id);
    }
    put(&store, "a", "1").await.unwrap();
    let delete = DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let _done: DeleteRangeResponse = call(&store, Rpc::DeleteRange, &delete).await.unwrap();
    let (_, events) = stream.until_progress().await;
    let kinds = |id| -> Vec<EventType> { events[&id].iter().map(Event::r#type).collect() };
    assert_eq!(kinds(0), [EventType::Delete]);
    assert_eq!(kinds(1), [EventType::Put]);
    assert_eq!(kinds(2), [EventType::Put, EventType::Delete]);

    // Twelve values of 90 kB that go at one revision do not fit one answer of 600 kB.
    for number in 10..22 {
        put(&store, &format!("f{number}"), &"v".repeat(90_000))
            .await
            .unwrap();
    }
    stream.until_progress().await;
    let delete = DeleteRangeRequest {
        key: "f".into(),
        range_end: "g".into(),
        prev_kv: false,
    };
    let _done: DeleteRangeResponse = call(&store, Rpc::DeleteRange, &delete).await.unwrap();
    stream.progress();
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    loop {
        let answer = stream.next().await;
        match answer.watch_id {
            0 => whole.push((answer.events.len(), answer.fragment)),
            2 => parts.push((answer.events.len(), answer.fragment)),
            _ => break,
        }
    }
    assert_eq!(whole, [(12, false)]);
    assert_eq!(parts, [(6, true), (6, false)]);
    store.close().await;
}

#[tokio::test]
async fn a_lease_takes_its_keys_at_one_revision_also_after_a_restart() {
    let place = Place::new();
    let mut store = place.open().await;
    let grant = |id| LeaseGrantRequest { id, ttl: 10 };
    for lease in [1, 2] {
        let _done: LeaseGrantResponse = call(&store, Rpc::LeaseGrant, &grant(lease)).await.unwrap();
        for key in ["a", "b"] {
            let request = PutRequest {
                key: format!("{key}{lease}").into(),
                value: "v".into(),
                lease,
                ..Default::default()
            };
            let _done: PutResponse = call(&store, Rpc::Put, &request).await.unwrap();
        }
    }
    place.clock.advance(6);
    store.clone().close().await;
    place.clock.advance(3);
    store = place.open().await;
    let mut stream = Stream::open(&store).await;
    stream.create(everything(6));
    assert!(stream.next().await.created);
    assert!(stream.is_quiet().await, "9 seconds are not 10");
    place.clock.advance(1);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        for event in stream.next().await.events {
            assert_eq!(event.r#type(), EventType::Delete);
            let (kv, prev) = (event.kv.unwrap(), event.prev_kv.unwrap());
            assert_eq!(&prev.value[..], b"v");
            seen.push((String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision));
        }
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|(key, revision)| (key.as_str(), *revision))
        .collect();
    assert_eq!(seen, [("a1", 6), ("b1", 6), ("a2", 7), ("b2", 7)]);
    store.close().await;
}

/// etcd goes on until the client leaves the stream or cancels its watches.
#[tokio::test]
async fn a_client_that_sends_no_more_may_go_on_listening() {
    let place = Place::new();
    let store = place.open().await;
    let mut stream = Stream::open(&store).await;
    stream.create(everything(0));
    assert!(stream.next().await.created);
    // The client's half of the stream ends.
    let Stream { requests, answers } = stream;
    drop(requests);
    let (requests, _never_read) = mpsc::unbounded_channel();
    let mut stream = Stream { requests, answers };
    for value in ["1", "2"] {
        put(&store, "a", value).await.unwrap();
        assert_eq!(stream.next().await.events.len(), 1);
    }
}
