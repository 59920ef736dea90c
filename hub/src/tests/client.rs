//! A client: one stream, several watches, that come back as etcd's own client does; and the
//! checkers, named as in etcd's robustness tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
    mvccpb::Event,
    wire::Header,
};
use prost::Message as _;

use super::world::World;
use crate::ClientStream;

/// One event, its revisions unified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) revision: i64,
    key: Bytes,
    value: Bytes,
    is_delete: bool,
    created: i64,
    previous: Option<(i64, i64, Bytes)>,
}

impl Seen {
    pub(super) fn of(event: &Event, unified: impl Fn(i64) -> i64) -> Self {
        let u = |r: i64| if r == 0 { 0 } else { unified(r) };
        let kv = event.kv.as_ref().unwrap();
        Self {
            revision: u(kv.mod_revision),
            key: kv.key.clone(),
            value: kv.value.clone(),
            is_delete: event.r#type == 1,
            created: u(kv.create_revision),
            previous: event
                .prev_kv
                .as_ref()
                .map(|kv| (u(kv.create_revision), u(kv.mod_revision), kv.value.clone())),
        }
    }

    pub(super) fn without_previous(mut self) -> Self {
        self.previous = None;
        self
    }
}

/// One watch, over all its reconnections.
pub(super) struct Watch {
    pub(super) range: KeyRange,
    previous: bool,
    /// The first revision of interest, once known.
    pub(super) start: i64,
    /// From where it resumes.
    pub(super) next: i64,
    /// The start that the last create asked for.
    pub(super) asked: i64,
    seen: Vec<Seen>,
    /// (revision, how many were seen before)
    progress: Vec<(i64, usize)>,
    created: bool,
    pub(super) cancelled: usize,
}

pub(super) struct Client {
    pub(super) stream: ClientStream,
    pub(super) watches: BTreeMap<i64, Watch>,
    /// Creates that were not answered, in order.
    pending: Vec<i64>,
    last_id: i64,
    pub(super) progressed: Vec<i64>,
}

fn header(revision: i64) -> Header {
    Header {
        cluster_id: 1,
        member_id: 2,
        revision,
        raft_term: 3,
    }
}

impl Client {
    pub(super) fn new(world: &mut World) -> Self {
        Self {
            stream: ClientStream::open(&mut world.hub),
            watches: BTreeMap::new(),
            pending: Vec::new(),
            last_id: 0,
            progressed: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, world: &mut World, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        let request = Bytes::from(request.encode_to_vec());
        self.stream
            .request(&request, &mut world.hub, &world.ledger)
            .unwrap();
        world.follow();
    }

    pub(super) fn watch(&mut self, world: &mut World, range: KeyRange, start: i64, prev_kv: bool) {
        self.last_id += 1;
        let watch = Watch {
            range,
            previous: prev_kv,
            start,
            next: start,
            asked: start,
            seen: Vec::new(),
            progress: Vec::new(),
            created: false,
            cancelled: 0,
        };
        self.watches.insert(self.last_id, watch);
        self.create(world, self.last_id);
    }

    fn create(&mut self, world: &mut World, id: i64) {
        let watch = self.watches.get_mut(&id).unwrap();
        watch.created = false;
        watch.asked = watch.next;
        let create = WatchCreateRequest {
            key: watch.range.start.clone(),
            range_end: watch.range.range_end(),
            start_revision: watch.next,
            prev_kv: watch.previous,
            progress_notify: true,
            watch_id: id,
            ..WatchCreateRequest::default()
        };
        self.pending.push(id);
        self.send(world, RequestUnion::CreateRequest(create));
    }

    pub(super) fn ask(&mut self, world: &mut World) {
        let ask = WatchProgressRequest {};
        self.send(world, RequestUnion::ProgressRequest(ask));
    }

    /// The connection breaks: what was not read is lost.
    pub(super) fn reconnect(&mut self, world: &mut World) {
        self.stream.close(&mut world.hub);
        world.follow();
        self.stream = ClientStream::open(&mut world.hub);
        self.pending.clear();
        let ids: Vec<_> = self.watches.keys().copied().collect();
        for id in ids {
            self.create(world, id);
        }
    }

    /// Reads at most so many responses, only what it was woken for. Says whether there were any.
    pub(super) fn read(&mut self, world: &mut World, most: usize) -> bool {
        for number in 0..most {
            if world.woken.remove(&self.stream.id()) {
                self.stream.pump(&mut world.hub, &world.ledger);
                world.follow();
            }
            let Some(response) = self.stream.next(&header, &world.ledger).unwrap() else {
                return number > 0;
            };
            let response = WatchResponse::decode(response).unwrap();
            self.take(world, &response);
            // Room was made.
            world.woken.insert(self.stream.id());
        }
        true
    }

    pub(super) fn tick(&mut self, world: &mut World) {
        self.stream.tick(&mut world.hub, &world.ledger);
        world.follow();
    }

    fn take(&mut self, world: &mut World, response: &WatchResponse) {
        let revision = response.header.as_ref().unwrap().revision;
        assert!(revision <= world.ledger.head().get());
        if response.watch_id == -1 {
            assert!(!response.created && response.events.is_empty());
            self.progressed.push(revision);
            self.watches.values_mut().for_each(|w| w.bookmark(revision));
            return;
        }
        if response.created {
            assert_eq!(
                self.pending.remove(0),
                response.watch_id,
                "order of creates"
            );
        }
        let Some(watch) = self.watches.get_mut(&response.watch_id) else {
            // The answer to the cancellation of a watch that was cancelled already.
            assert!(response.canceled && response.events.is_empty());
            return;
        };
        if response.canceled {
            assert!(watch.created);
            watch.restart(world, response.compact_revision);
            let id = response.watch_id;
            let cancel = WatchCancelRequest { watch_id: id };
            self.send(world, RequestUnion::CancelRequest(cancel));
            let watch = self.watches.remove(&id).unwrap();
            self.last_id += 1;
            self.watches.insert(self.last_id, watch);
            self.create(world, self.last_id);
        } else {
            watch.take(response, revision);
        }
    }
}

impl Watch {
    fn take(&mut self, response: &WatchResponse, revision: i64) {
        if response.created {
            assert!(!self.created, "created twice");
            self.created = true;
            if self.next == 0 {
                self.next = revision + 1;
                self.start = self.next;
            }
            assert!(revision < self.next, "created above its start");
            return;
        }
        assert!(self.created, "events before created");
        if response.events.is_empty() {
            self.bookmark(revision);
            return;
        }
        let seen = response.events.iter().map(|event| Seen::of(event, |r| r));
        let before = self.seen.last().map_or(0, |seen| seen.revision);
        for seen in seen {
            assert!(self.range.contains(&seen.key), "filter");
            assert!(seen.revision >= self.next, "resumable: {seen:?}");
            let last = self.seen.last().map_or(0, |seen| seen.revision);
            assert!(seen.revision >= last, "ordered");
            assert!(seen.revision > before, "atomic");
            self.seen.push(seen);
        }
        self.next = self.seen.last().unwrap().revision + 1;
        assert_eq!(revision, self.next - 1, "the header is the last event's");
    }

    /// etcd's client resumes behind a progress.
    fn bookmark(&mut self, revision: i64) {
        if !self.created {
            return;
        }
        assert!(revision >= self.asked, "progress below the start");
        assert!(
            revision + 1 >= self.next,
            "progress below an event: {revision} {} {} {}",
            self.next,
            self.start,
            self.asked
        );
        self.progress.push((revision, self.seen.len()));
        self.next = self.next.max(revision + 1);
    }

    /// Its history is gone: what was seen must be whole so far, and the rest begins at the floor.
    fn restart(&mut self, world: &World, floor: i64) {
        assert!(floor > 0);
        self.check(world, false);
        assert!(
            floor >= self.next,
            "cancelled for nothing: {floor} {}",
            self.next
        );
        self.seen.clear();
        self.progress.clear();
        (self.start, self.next) = (floor, floor);
        self.cancelled += 1;
    }

    /// The reference has exactly what was seen, as far as it was seen.
    pub(super) fn check(&self, world: &World, complete: bool) {
        if self.start == 0 {
            return;
        }
        let mut reference = world.reference_known(&self.range, self.start);
        if !self.previous {
            reference = reference.into_iter().map(Seen::without_previous).collect();
        }
        if !complete {
            let upto = self.next;
            reference.retain(|seen| seen.revision < upto);
        }
        assert_eq!(self.seen, reference, "reliable, unique, prev-kv");
        for (revision, count) in &self.progress {
            let held = reference.iter().filter(|s| s.revision <= *revision).count();
            assert_eq!(held, *count, "bookmarkable at {revision}");
        }
    }
}
