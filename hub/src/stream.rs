//! One client's Watch stream: requests in, encoded responses out, as etcd has them
//! (`etcdserver/api/v3rpc/watch.go` and `storage/mvcc/watcher.go` of etcd 3.6).
//!
//! ```text
//!   create ─► created ─► events, progress ─┬─ cancelled by the client ─► canceled
//!         └─► created+canceled, id -1      └─ history gone ─► canceled, compact_revision
//! ```
//!
//! # Invariants
//! 1. `created` of an id comes before everything else of it; creates are answered in order.
//! 2. No header is above what was delivered: events carry the revision of their last event,
//!    progress the revision up to which every watcher that it speaks for has everything.
//! 3. What waits is bounded: with a full queue nothing more is taken from the hub. The caller reads
//!    no further request while [`ClientStream::is_full`].

mod create;
mod message;

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{WatchRequest, watch_request::RequestUnion},
    wire::Header,
};
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};
use prost::Message as _;

use crate::{
    Hub, Places, StreamId, WatcherId,
    hub::Pulled,
    stream::message::{Control, Events, Message},
};

/// Makes the header of a response at a unified revision.
pub type HeaderOf<'a> = &'a dyn Fn(i64) -> Header;

/// The id of what speaks for no watcher, or for all.
const NO_ID: i64 = -1;

/// Why the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("unreadable watch request")]
    Request,
    #[error("{0}")]
    Event(#[from] EventError),
}

/// A store sent an event that cannot be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct EventError(#[from] crate::event::EncodeError);

/// See the module's page.
#[derive(Debug)]
pub struct ClientStream {
    id: StreamId,
    watches: BTreeMap<i64, Watch>,
    ids: HashMap<WatcherId, i64>,
    /// Where to look for the next id that nobody chose.
    next_id: i64,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    /// Encoded and next to go.
    encoded: VecDeque<Bytes>,
    /// The largest revision that a watcher was told. A client resumes every watch of the stream
    /// behind a progress that speaks for all, so that must not be below.
    told: UnifiedRev,
    /// Progress was asked for when the head was here.
    asked: Option<UnifiedRev>,
}

#[derive(Debug)]
struct Watch {
    /// `None` once its history was gone: the id stays taken until the client cancels it, as in
    /// etcd.
    watcher: Option<WatcherId>,
    /// Nothing below is ever told; 0 is none.
    start: i64,
    options: Options,
    /// Whether the next tick tells its progress.
    tick: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Options {
    previous: bool,
    no_put: bool,
    no_delete: bool,
    fragment: bool,
    progress: bool,
}

impl ClientStream {
    /// A stream without watchers. It must be closed ([`ClientStream::close`]).
    #[must_use]
    pub fn open(hub: &mut Hub) -> Self {
        Self {
            id: hub.open_stream(),
            watches: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            encoded: VecDeque::new(),
            told: UnifiedRev::default(),
            asked: None,
        }
    }

    /// Which stream [`crate::Signals::woken`] means.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Whether [`ClientStream::next`] has something.
    #[must_use]
    pub fn has_responses(&self) -> bool {
        !self.encoded.is_empty() || !self.waiting.is_empty()
    }

    /// Whether a progress request waits for an answer.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes everything of the stream out of the hub.
    pub fn close(&mut self, hub: &mut Hub) {
        for watcher in self.ids.drain().map(|(watcher, _)| watcher) {
            hub.unwatch(watcher);
        }
        self.watches.clear();
        hub.close_stream(self.id);
    }

    /// Takes one request.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn request(
        &mut self,
        request: &Bytes,
        hub: &mut Hub,
        places: &dyn Places,
    ) -> Result<(), StreamError> {
        let request = WatchRequest::decode(&request[..]).map_err(|_| StreamError::Request)?;
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create, hub, places),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id, hub, places),
            Some(RequestUnion::ProgressRequest(_)) => self.ask(hub, places),
            None => {}
        }
        Ok(())
    }

    fn cancel(&mut self, id: i64, hub: &mut Hub, places: &dyn Places) {
        let Some(watch) = self.watches.remove(&id) else {
            return;
        };
        let revision = self.least(hub, places);
        if let Some(watcher) = watch.watcher {
            self.ids.remove(&watcher);
            hub.unwatch(watcher);
        }
        self.control(Control {
            revision,
            watch_id: id,
            canceled: true,
            ..Control::default()
        });
    }

    /// As in etcd, only while something is watched; and a watch that begins in the future has
    /// nothing to tell.
    fn ask(&mut self, hub: &mut Hub, places: &dyn Places) {
        let head = places.head();
        let is_future = |watch: &Watch| watch.start > head.get();
        if !self.ids.is_empty() && !self.watches.values().any(is_future) {
            self.asked = self.asked.or(Some(head));
        }
        hub.set_restless(self.id, self.asked.is_some());
    }

    /// Takes from the hub what there is room for.
    pub fn pump(&mut self, hub: &mut Hub, places: &dyn Places) {
        while !self.is_full(hub)
            && let Some(watcher) = hub.next_ready(self.id)
        {
            self.pull(watcher, hub, places);
        }
        if !self.is_full(hub) {
            self.answer_progress(hub, places);
        }
    }

    /// Whether so much waits that nothing more is taken.
    #[must_use]
    pub fn is_full(&self, hub: &Hub) -> bool {
        self.waiting_bytes >= hub.bounds.stream_bytes
    }

    fn pull(&mut self, watcher: WatcherId, hub: &mut Hub, places: &dyn Places) {
        let Some(id) = self.ids.get(&watcher).copied() else {
            return;
        };
        match hub.pull(watcher, places) {
            Pulled::Nothing => {}
            Pulled::Compacted(floor) => self.lose(id, floor, hub, places),
            Pulled::Entries(entries) => {
                let Some(watch) = self.watches.get_mut(&id) else {
                    return;
                };
                if let Some(events) = Events::of(id, entries, watch.options) {
                    watch.tick = false;
                    self.told = self.told.max(events.last);
                    self.push(Message::Events(events));
                }
            }
        }
    }

    /// The history that the watch needs is gone below `floor`.
    fn lose(&mut self, id: i64, floor: UnifiedRev, hub: &mut Hub, places: &dyn Places) {
        let revision = self.least(hub, places);
        let Some(watcher) = self.watches.get_mut(&id).and_then(|w| w.watcher.take()) else {
            return;
        };
        self.ids.remove(&watcher);
        hub.unwatch(watcher);
        self.control(Control {
            revision,
            watch_id: id,
            canceled: true,
            compact_revision: floor.get(),
            ..Control::default()
        });
    }

    /// Answers a progress request once every watcher has everything that was there when it came.
    fn answer_progress(&mut self, hub: &mut Hub, places: &dyn Places) {
        let Some(asked) = self.asked else { return };
        if self.ids.is_empty() {
            self.settle_progress(hub);
            return;
        }
        let mut least: Option<UnifiedRev> = None;
        for watcher in self.ids.keys() {
            let ahead = planted(Bug::ProgressAhead).then(|| places.head());
            let Some(synced) = ahead.or_else(|| hub.synced(*watcher, places)) else {
                return;
            };
            least = Some(least.map_or(synced, |least| least.min(synced)));
        }
        let least = least.filter(|least| {
            let is_future = |watch: &Watch| watch.start > least.get();
            *least >= asked.max(self.told) && !self.watches.values().any(is_future)
        });
        if let Some(revision) = least {
            self.settle_progress(hub);
            self.progress(NO_ID, revision);
        }
    }

    fn settle_progress(&mut self, hub: &mut Hub) {
        self.asked = None;
        hub.set_restless(self.id, false);
    }

    /// Tells the progress of every watcher that asked for it and had no event since the last tick.
    pub fn tick(&mut self, hub: &mut Hub, places: &dyn Places) {
        self.pump(hub, places);
        let mut due = Vec::new();
        for (id, watch) in &mut self.watches {
            if !watch.options.progress {
                continue;
            }
            if let (true, Some(watcher)) = (watch.tick, watch.watcher)
                && let Some(synced) = hub.synced(watcher, places)
                && synced.get() >= watch.start
            {
                due.push((*id, synced));
            }
            watch.tick = true;
        }
        for (watch_id, revision) in due {
            self.progress(watch_id, revision);
        }
    }

    /// Up to where every watcher of the stream has everything for certain.
    fn least(&self, hub: &Hub, places: &dyn Places) -> i64 {
        let head = places.head();
        let cursors = self.ids.keys().filter_map(|watcher| hub.cursor(*watcher));
        cursors.min().map_or(head, |least| least.min(head)).get()
    }

    fn progress(&mut self, watch_id: i64, revision: UnifiedRev) {
        self.told = self.told.max(revision);
        self.control(Control {
            revision: revision.get(),
            watch_id,
            ..Control::default()
        });
    }

    fn control(&mut self, control: Control) {
        self.push(Message::Control(control));
    }

    fn push(&mut self, message: Message) {
        self.waiting_bytes += message.bytes();
        self.waiting.push_back(message);
    }

    /// The next response; needs the hub no more.
    ///
    /// # Errors
    /// Where a store's event cannot be sent on: the stream must end.
    pub fn next(
        &mut self,
        header: HeaderOf<'_>,
        places: &dyn Places,
    ) -> Result<Option<Bytes>, StreamError> {
        if self.encoded.is_empty()
            && let Some(message) = self.waiting.pop_front()
        {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(message.bytes());
            let encoded = message.encode(header, places).map_err(EventError)?;
            self.encoded.extend(encoded);
        }
        Ok(self.encoded.pop_front())
    }
}
