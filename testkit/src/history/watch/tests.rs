//! The checkers accept what an etcd sends, and find what was planted.

use super::*;
use crate::{
    Step,
    history::{Recorder, StreamRecording},
    model::{Etcd, Keyspace, WatchStream},
};
use keyloom_etcd_api::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        request_op::Request, watch_create_request::FilterType, watch_request::RequestUnion,
    },
    mvccpb::{Event, event::EventType},
};

mod random;

/// An etcd with watch streams that are recorded.
struct Scene {
    recorder: Recorder,
    etcd: Etcd,
    before: Keyspace,
    streams: Vec<(StreamRecording, WatchStream)>,
}

impl Scene {
    fn new() -> Self {
        let etcd = Etcd::default();
        Self {
            recorder: Recorder::default(),
            before: etcd.keyspace().clone(),
            etcd,
            streams: Vec::new(),
        }
    }

    fn open(&mut self) {
        let recording = self.recorder.open(1);
        self.streams.push((recording, WatchStream::default()));
    }

    fn ask(&mut self, stream: usize, asked: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(asked),
        };
        let (recording, served) = &mut self.streams[stream];
        recording.asked(&request);
        let told = served.request(&self.etcd, request);
        told.iter().for_each(|response| recording.told(response));
    }

    fn deliver(&mut self, stream: usize) {
        let (recording, served) = &mut self.streams[stream];
        let told = served.deliver(&self.etcd);
        told.iter().for_each(|response| recording.told(response));
    }

    fn deliver_all(&mut self) {
        (0..self.streams.len()).for_each(|stream| self.deliver(stream));
    }

    fn step(&mut self, step: Step) {
        let answer = self.etcd.apply(&step).map_err(Into::into);
        self.recorder.begin(0, step).end(answer);
    }

    fn put(&mut self, key: &'static str, value: &'static str) {
        self.step(Step::Put(PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        }));
    }

    fn delete(&mut self, key: &'static str, end: &'static str) {
        self.step(Step::DeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: end.into(),
            ..DeleteRangeRequest::default()
        }));
    }

    fn compact(&mut self, revision: i64) {
        self.step(Step::Compact(CompactionRequest {
            revision,
            physical: false,
        }));
    }

    /// The recorded history, to be spoiled.
    fn history(&self) -> History {
        self.recorder.history()
    }

    fn broken(&self, history: &History) -> Vec<Broken> {
        let watchers = match history.watchers() {
            Ok(watchers) => watchers,
            Err(broken) => return vec![broken],
        };
        match Facts::gather(history, &watchers, self.before.clone()) {
            Ok(facts) => check_watches(&watchers, &facts),
            Err(broken) => vec![broken],
        }
    }

    #[track_caller]
    fn holds(&self) {
        let broken = self.broken(&self.history());
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// What is found after a history was spoiled.
    #[track_caller]
    fn found(&self, spoil: impl FnOnce(&mut History)) -> Vec<Property> {
        self.holds();
        let mut history = self.history();
        spoil(&mut history);
        let broken = self.broken(&history);
        broken.into_iter().map(|broken| broken.property).collect()
    }
}

fn all(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision,
        prev_kv: true,
        progress_notify: true,
        ..WatchCreateRequest::default()
    }
}

fn create(request: WatchCreateRequest) -> RequestUnion {
    RequestUnion::CreateRequest(request)
}

fn progress() -> RequestUnion {
    RequestUnion::ProgressRequest(WatchProgressRequest {})
}

/// Revisions 2 to 6 with two watchers that see all of it, and one of keys `b` that does not want
/// deletes: a=1, b=1, a=2, then a and b are deleted together, then a=3.
fn scene() -> Scene {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.open();
    }
    scene.ask(0, create(all(0)));
    scene.ask(1, create(all(1)));
    scene.ask(
        2,
        create(WatchCreateRequest {
            key: "b".into(),
            filters: vec![FilterType::Nodelete.into()],
            ..WatchCreateRequest::default()
        }),
    );
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        scene.put(key, value);
        scene.deliver_all();
    }
    scene.delete("a", "c");
    scene.deliver_all();
    scene.put("a", "3");
    scene.deliver_all();
    (0..3).for_each(|stream| scene.ask(stream, progress()));
    scene
}

/// What a stream was told, to be spoiled. The first is `created`, then come the five responses
/// with events, then one that announces progress; the third stream has one with events.
fn told(history: &mut History, stream: usize) -> Vec<&mut WatchResponse> {
    let messages = history.streams[stream].messages.iter_mut();
    let told = messages.filter_map(|(_, message)| match message {
        Message::Told(response) => Some(response),
        Message::Asked(_) => None,
    });
    told.collect()
}

/// Takes what a stream was told at a place out of it.
fn take(history: &mut History, stream: usize, place: usize) -> (u64, Message) {
    let messages = &mut history.streams[stream].messages;
    let told = |(_, message): &&(u64, Message)| matches!(message, Message::Told(_));
    let at = *messages
        .iter()
        .filter(told)
        .nth(place)
        .map(|(at, _)| at)
        .unwrap();
    let index = messages.iter().position(|(other, _)| *other == at).unwrap();
    messages.remove(index)
}

fn header(response: &mut WatchResponse) -> &mut i64 {
    &mut response.header.as_mut().unwrap().revision
}

fn event(response: &mut WatchResponse) -> &mut Event {
    &mut response.events[0]
}

#[test]
fn what_nobody_asked_for_is_found() {
    let other_key = scene().found(|history| {
        let stray = told(history, 0)[1].events[0].clone();
        told(history, 2)[1].events.insert(0, stray);
    });
    assert_eq!(other_key[0], Property::Filter);
    let filtered = scene().found(|history| {
        let delete = told(history, 0)[4].events[1].clone();
        assert_eq!(delete.kv.as_ref().unwrap().key[..], *b"b");
        told(history, 2)[1].events.push(Event {
            prev_kv: None,
            ..delete
        });
    });
    assert_eq!(filtered, [Property::Filter, Property::Reliable]);
}

#[test]
fn what_goes_back_is_found() {
    let found = scene().found(|history| {
        let (at, early) = take(history, 0, 1);
        history.streams[0].messages.insert(3, (at, early));
    });
    assert_eq!(found[0], Property::Ordered);
}

#[test]
fn what_comes_twice_is_found() {
    let found = scene().found(|history| {
        let again = history.streams[0].messages[3].clone();
        history.streams[0].messages.insert(4, again);
    });
    assert!(found.contains(&Property::Unique), "{found:?}");
    assert!(!found.contains(&Property::Ordered), "{found:?}");
}

#[test]
fn what_is_torn_is_found() {
    let tear = |history: &mut History, fragment: bool| {
        let (at, torn) = take(history, 0, 4);
        let Message::Told(mut first) = torn else {
            panic!()
        };
        let mut second = first.clone();
        (first.fragment, first.events) = (fragment, vec![first.events[0].clone()]);
        second.events.remove(0);
        for (place, part) in [first, second].into_iter().enumerate() {
            history.streams[0]
                .messages
                .insert(5 + place, (at, Message::Told(part)));
        }
    };
    assert_eq!(
        scene().found(|history| tear(history, false)),
        [Property::Atomic]
    );
    assert_eq!(scene().found(|history| tear(history, true)), []);
}

#[test]
fn what_is_missing_is_found() {
    // In the middle, and at the end where progress says that there is nothing more.
    for place in [2, 5] {
        let found = scene().found(|history| drop(take(history, 0, place)));
        assert_eq!(found, [Property::Reliable]);
    }
    let one_of_two = scene().found(|history| drop(told(history, 0)[4].events.pop()));
    assert_eq!(one_of_two, [Property::Reliable]);
    // Nothing says that there is nothing more.
    let unfinished = scene().found(|history| {
        drop(take(history, 0, 6));
        drop(take(history, 0, 5));
    });
    assert_eq!(unfinished, []);
}

#[test]
fn what_was_told_differently_is_found() {
    let found = scene().found(|history| {
        event(told(history, 1)[2]).kv.as_mut().unwrap().value = "2".into();
    });
    assert_eq!(found, [Property::Reliable]);
}

#[test]
fn progress_that_is_ahead_or_behind_is_found() {
    // Announced before the event that it covers.
    let ahead = scene().found(|history| {
        let (at, progress) = take(history, 0, 6);
        let before_last = history.streams[0].messages.len() - 2;
        history.streams[0]
            .messages
            .insert(before_last, (at, progress));
    });
    assert_eq!(ahead, [Property::Bookmarkable]);
    let behind = scene().found(|history| *header(told(history, 0)[6]) = 5);
    assert_eq!(behind, [Property::Bookmarkable]);
    // Below what a watcher of the future asked for: a client would go on there.
    let mut scene = scene();
    scene.open();
    scene.ask(3, create(all(9)));
    for value in ["4", "5", "6"] {
        scene.put("a", value);
    }
    scene.deliver_all();
    scene.ask(3, progress());
    let early = scene.found(|history| *header(told(history, 3)[2]) = 7);
    assert!(early.contains(&Property::Bookmarkable), "{early:?}");
}

#[test]
fn headers_are_bookmarks_where_that_is_asked() {
    let scene = scene();
    let mut history = scene.history();
    *header(told(&mut history, 0)[2]) = 4;
    assert_eq!(scene.broken(&history), []);
    let watchers = history.watchers().unwrap();
    let mut facts = Facts::gather(&history, &watchers, scene.before.clone()).unwrap();
    facts.headers_are_bookmarks = true;
    let broken = check_watches(&watchers, &facts);
    assert_eq!(broken.len(), 1, "{broken:#?}");
    assert_eq!(broken[0].property, Property::Bookmarkable);
}

#[test]
fn a_start_that_is_not_where_it_was_asked_is_found() {
    let mut scene = scene();
    scene.open();
    scene.ask(3, create(all(4)));
    let late = scene.found(|history| event_at(history, 3, |events| drop(events.remove(0))));
    assert_eq!(late, [Property::Reliable, Property::Resumable]);
    let early = scene.found(|history| {
        let before = told(history, 0)[2].events[0].clone();
        event_at(history, 3, |events| events.insert(0, before));
    });
    assert_eq!(early, [Property::Resumable]);
}

fn event_at(history: &mut History, stream: usize, change: impl FnOnce(&mut Vec<Event>)) {
    change(&mut told(history, stream)[1].events);
}

#[test]
fn compacted_is_said_only_of_what_is() {
    let mut scene = scene();
    scene.compact(4);
    scene.open();
    scene.open();
    scene.ask(3, create(all(3)));
    scene.ask(4, create(all(4)));
    scene.holds();
    let refused = &scene.history().watchers().unwrap()[3];
    assert_eq!(refused.canceled.as_ref().unwrap().compact_revision, 4);
    // More than was compacted.
    let found = scene.found(|history| told(history, 3)[1].compact_revision = 5);
    assert_eq!(found, [Property::Resumable]);
    // What the watcher needed was there.
    let found = scene.found(|history| {
        for (_, message) in &mut history.streams[3].messages {
            if let Message::Asked(WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            }) = message
            {
                create.start_revision = 4;
            }
        }
    });
    assert_eq!(found, [Property::Resumable]);
}

#[test]
fn a_wrong_value_before_is_found() {
    let spoils: [fn(&mut Event); 4] = [
        |event| event.prev_kv = None,
        |event| event.prev_kv.as_mut().unwrap().value = "2".into(),
        |event| event.prev_kv.as_mut().unwrap().mod_revision += 1,
        |event| event.prev_kv.as_mut().unwrap().lease = 7,
    ];
    for spoil in spoils {
        let found = scene().found(|history| spoil(event(told(history, 0)[3])));
        assert_eq!(found, [Property::PrevKv]);
    }
    // Missing ones may be let through, and are counted.
    let spoiled = scene();
    let mut history = spoiled.history();
    event(told(&mut history, 0)[3]).prev_kv = None;
    let watchers = history.watchers().unwrap();
    let mut facts = Facts::gather(&history, &watchers, spoiled.before.clone()).unwrap();
    assert_eq!(check_watches(&watchers, &facts).len(), 1);
    facts.values_may_be_lost = true;
    assert_eq!(check_watches(&watchers, &facts), []);
    assert_eq!(lost_values(&watchers[0], &facts), [4]);
    // Where there was none, and where it was not asked for.
    for (stream, place) in [(0, 1), (2, 1)] {
        let found = scene().found(|history| {
            let value = told(history, 0)[3].events[0].prev_kv.clone();
            event(told(history, stream)[place]).prev_kv = value;
        });
        assert_eq!(found, [Property::PrevKv]);
    }
}

#[test]
fn a_value_before_may_be_missing_where_it_was_compacted() {
    let mut scene = scene();
    scene.compact(4);
    scene.open();
    scene.ask(3, create(all(4)));
    scene.holds();
    let history = &mut scene.history();
    assert!(event(told(history, 3)[1]).prev_kv.is_none());
    let found = scene.found(|history| told(history, 3)[1].events[1].prev_kv = None);
    assert_eq!(found, [Property::PrevKv]);
}

#[test]
fn a_wrong_creation_or_version_is_found() {
    let spoils: [fn(&mut Event); 3] = [
        |event| event.kv.as_mut().unwrap().create_revision = 4,
        |event| event.kv.as_mut().unwrap().version = 1,
        |event| event.kv.as_mut().unwrap().version = 3,
    ];
    for spoil in spoils {
        let found = scene().found(|history| spoil(event(told(history, 0)[3])));
        assert_eq!(found, [Property::IsCreate]);
    }
    // Everybody is told of a delete of what is not there.
    let found = scene().found(|history| {
        for stream in 0..2 {
            let mut told = told(history, stream);
            let first = event(told[1]);
            first.set_type(EventType::Delete);
            let kv = first.kv.as_mut().unwrap();
            (kv.create_revision, kv.version, kv.value) = (0, 0, "".into());
        }
    });
    assert!(found.contains(&Property::IsCreate), "{found:?}");
}

#[test]
fn responses_that_are_nobodys_are_found() {
    let spoils: [fn(&mut History); 4] = [
        |history| told(history, 0)[2].watch_id = 5,
        |history| drop(take(history, 0, 0)),
        |history| {
            let created = told(history, 0)[0].clone();
            history.streams[0]
                .messages
                .push((99, Message::Told(created)));
        },
        |history| told(history, 0)[2].canceled = true,
    ];
    for spoil in spoils {
        assert_eq!(scene().found(spoil), [Property::Framed]);
    }
}

#[test]
fn a_round_ends_where_it_was_taken_and_the_next_goes_on_there() {
    let mut scene = scene();
    let first = scene.recorder.take();
    let watchers = first.watchers().unwrap();
    let facts = Facts::gather(&first, &watchers, scene.before.clone()).unwrap();
    scene.before = facts.replay.into_keyspace();
    assert_eq!(watchers[0].resume_at(), 7);
    scene.streams.clear();
    for stream in 0..2 {
        scene.open();
        scene.ask(stream, create(all(7)));
    }
    scene.put("a", "4");
    scene.deliver_all();
    scene.ask(0, progress());
    assert_eq!(scene.history().operations.len(), 1);
    scene.holds();
    let found = scene.found(|history| drop(take(history, 0, 1)));
    assert_eq!(found, [Property::Reliable]);
}

/// etcd does not see that one nested transaction puts what the next one deletes.
#[test]
fn a_key_may_be_put_and_deleted_at_one_revision() {
    let mut scene = scene();
    let nested = |request| {
        let op = |request| RequestOp {
            request: Some(request),
        };
        op(Request::RequestTxn(TxnRequest {
            success: vec![op(request)],
            ..TxnRequest::default()
        }))
    };
    let put = PutRequest {
        key: "c".into(),
        ..PutRequest::default()
    };
    let delete = DeleteRangeRequest {
        key: "c".into(),
        ..DeleteRangeRequest::default()
    };
    scene.step(Step::Txn(TxnRequest {
        success: vec![
            nested(Request::RequestPut(put)),
            nested(Request::RequestDeleteRange(delete)),
        ],
        ..TxnRequest::default()
    }));
    scene.deliver_all();
    let mut history = scene.history();
    assert_eq!(told(&mut history, 0).last().unwrap().events.len(), 2);
    scene.holds();
}

#[test]
fn watches_that_end_are_no_fault() {
    let mut scene = scene();
    scene.compact(4);
    scene.ask(0, create(all(2)));
    // The first was told to end, the second is compacted already.
    for watch_id in [0, 1, 5] {
        scene.ask(
            0,
            RequestUnion::CancelRequest(WatchCancelRequest { watch_id }),
        );
    }
    scene.put("a", "4");
    scene.deliver_all();
    scene.holds();
    let watchers = scene.history().watchers().unwrap();
    assert!(watchers[0].canceled.as_ref().unwrap().asked);
    assert_eq!(watchers[1].canceled.as_ref().unwrap().compact_revision, 4);
    let found = scene.found(|history| told(history, 0).last_mut().unwrap().watch_id = 2);
    assert_eq!(found, [Property::Framed]);
}
