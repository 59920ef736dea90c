//! One client's Watch stream on the hub: requests in, encoded responses out. What etcd says to
//! which request is [`keyloom_etcd_semantics::watch`]'s; here is where the events come from, and
//! which revisions may be told.
//!
//! # Invariants
//! 1. `created` of an id comes before everything else of it; creates are answered in order.
//! 2. No header is above what was delivered: events carry the revision of their last event,
//!    progress the revision up to which every watcher that it speaks for has everything.
//! 3. What waits is bounded: with a full queue nothing more is taken from the hub. The caller reads
//!    no further request while [`ClientStream::is_full`].

mod create;
mod message;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{WatchRequest, watch_request::RequestUnion},
    wire::Header,
};
use keyloom_etcd_semantics::watch::{Reply, Watches};
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};
use prost::Message as _;

use crate::{
    Hub, OrderView, StreamId, WatcherId,
    hub::Pulled,
    stream::message::{Events, Message},
};

/// Makes the header of a response at a unified revision.
pub type HeaderOf<'a> = &'a dyn Fn(i64) -> Header;

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

/// How many watchers of a stream are looked at for one request of progress, on average.
const LOOKS: usize = 1024;

/// See the module's page.
#[derive(Debug)]
pub struct ClientStream {
    id: StreamId,
    watches: Watches<WatcherId>,
    ids: HashMap<WatcherId, i64>,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    /// Encoded and next to go.
    encoded: VecDeque<Bytes>,
    /// The largest revision that a watcher was told. A client resumes every watch of the stream
    /// behind a progress that speaks for all, so that must not be below.
    told: UnifiedRev,
    /// Looks at watchers that were more than is due at once, and are to be made up for before the
    /// next ones: else a client with very many watches could have all of them looked at with each
    /// of its messages.
    looks_ahead: usize,
}

impl ClientStream {
    /// A stream without watchers. It must be closed ([`ClientStream::close`]).
    #[must_use]
    pub fn open(hub: &mut Hub) -> Self {
        Self {
            id: hub.open_stream(),
            watches: Watches::default(),
            ids: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            encoded: VecDeque::new(),
            told: UnifiedRev::default(),
            looks_ahead: 0,
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
        self.watches.asked().is_some()
    }

    /// Takes everything of the stream out of the hub.
    pub fn close(&mut self, hub: &mut Hub) {
        while !self.close_some(hub) {}
    }

    /// Takes a bounded part of the stream out of the hub. Says whether nothing is left.
    pub fn close_some(&mut self, hub: &mut Hub) -> bool {
        self.watches.clear();
        let some: Vec<_> = self.ids.keys().copied().take(LOOKS).collect();
        for watcher in some {
            self.ids.remove(&watcher);
            hub.unwatch(watcher);
        }
        let is_closed = self.ids.is_empty();
        if is_closed {
            hub.close_stream(self.id);
        }
        is_closed
    }

    /// Takes one request.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn request(
        &mut self,
        request: &Bytes,
        hub: &mut Hub,
        order: &dyn OrderView,
    ) -> Result<(), StreamError> {
        let request = WatchRequest::decode(&request[..]).map_err(|_| StreamError::Request)?;
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create, hub, order),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id, hub, order),
            Some(RequestUnion::ProgressRequest(_)) => self.ask(hub, order),
            None => {}
        }
        Ok(())
    }

    fn cancel(&mut self, id: i64, hub: &mut Hub, order: &dyn OrderView) {
        let Some(watcher) = self.watches.remove(id) else {
            return;
        };
        let head = order.head();
        let mut revision = head;
        if let Some(watcher) = watcher {
            revision = hub.cursor(watcher).map_or(head, |cursor| cursor.min(head));
            self.ids.remove(&watcher);
            hub.unwatch(watcher);
        }
        self.reply(Reply::canceled(id, revision.get()));
    }

    fn ask(&mut self, hub: &mut Hub, order: &dyn OrderView) {
        self.watches.ask(order.head().get());
        hub.set_restless(self.id, self.is_asked());
    }

    /// Takes from the hub what there is room for.
    pub fn pump(&mut self, hub: &mut Hub, order: &dyn OrderView) {
        while !self.is_full(hub)
            && let Some(watcher) = hub.next_ready(self.id)
        {
            self.pull(watcher, hub, order);
        }
        if !self.is_full(hub) {
            self.answer_progress(hub, order);
        }
    }

    /// Whether so much waits that nothing more is taken.
    #[must_use]
    pub fn is_full(&self, hub: &Hub) -> bool {
        self.waiting_bytes >= hub.bounds.stream_bytes
    }

    fn pull(&mut self, watcher: WatcherId, hub: &mut Hub, order: &dyn OrderView) {
        let Some(id) = self.ids.get(&watcher).copied() else {
            return;
        };
        match hub.pull(watcher, order) {
            Pulled::Nothing => {}
            Pulled::Compacted(floor) => self.lose(id, floor, hub),
            Pulled::Entries(entries) => {
                let Some(options) = self.watches.options(id) else {
                    return;
                };
                if let Some(events) = Events::of(id, entries, options) {
                    self.watches.sent(id);
                    self.told = self.told.max(events.last);
                    self.push(Message::Events(events));
                }
            }
        }
    }

    /// The history that the watch needs is gone below `floor`.
    fn lose(&mut self, id: i64, floor: UnifiedRev, hub: &mut Hub) {
        let Some(watcher) = self.watches.lose(id) else {
            return;
        };
        self.ids.remove(&watcher);
        hub.unwatch(watcher);
        self.reply(Reply::compacted(id, floor.get()));
    }

    /// Answers a progress request once every watcher has everything that was there when it came.
    fn answer_progress(&mut self, hub: &mut Hub, order: &dyn OrderView) {
        let Some(asked) = self.watches.asked() else {
            return;
        };
        if self.ids.is_empty() {
            self.progress_answered(hub);
            return;
        }
        if self.looks_ahead > 0 {
            self.looks_ahead = self.looks_ahead.saturating_sub(LOOKS);
            return;
        }
        self.looks_ahead = self.ids.len().saturating_sub(LOOKS);
        let mut least: Option<UnifiedRev> = None;
        for watcher in self.ids.keys() {
            let ahead = planted(Bug::ProgressAhead).then(|| order.head());
            let Some(synced) = ahead.or_else(|| hub.synced(*watcher, order)) else {
                return;
            };
            least = Some(least.map_or(synced, |least| least.min(synced)));
        }
        let asked = UnifiedRev::new(asked);
        let least = least.filter(|least| {
            *least >= asked.max(self.told) && self.watches.may_tell_all(least.get())
        });
        if let Some(revision) = least {
            self.progress_answered(hub);
            self.told = self.told.max(revision);
            self.reply(Reply::progress_of_all(revision.get()));
        }
    }

    fn progress_answered(&mut self, hub: &mut Hub) {
        self.watches.answered();
        hub.set_restless(self.id, false);
    }

    /// Tells the progress of every watcher that asked for it and had no event since the last tick.
    pub fn tick(&mut self, hub: &mut Hub, order: &dyn OrderView) {
        self.pump(hub, order);
        for (id, start) in self.watches.due() {
            let watcher = self.watches.get(id).copied();
            let synced = watcher.and_then(|watcher| hub.synced(watcher, order));
            if let Some(synced) = synced.filter(|synced| synced.get() >= start) {
                self.told = self.told.max(synced);
                self.reply(Reply::progress(id, synced.get()));
            }
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.push(Message::Reply(reply));
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
        order: &dyn OrderView,
    ) -> Result<Option<Bytes>, StreamError> {
        if self.encoded.is_empty()
            && let Some(message) = self.waiting.pop_front()
        {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(message.bytes());
            let encoded = message.encode(header, order).map_err(EventError)?;
            self.encoded.extend(encoded);
        }
        Ok(self.encoded.pop_front())
    }
}
