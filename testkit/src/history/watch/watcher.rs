//! Takes a recorded stream apart into its watchers.

use std::collections::VecDeque;

use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, event::EventType},
};

use super::{Broken, History, Message, Property};
use crate::history::Stream;

/// One watcher: what was asked for, and what came.
#[derive(Clone, Debug)]
pub struct Watcher {
    pub client: u64,
    pub request: WatchCreateRequest,
    /// When it was asked for.
    pub asked: u64,
    /// `None` until it was created, and where it was refused.
    pub id: Option<i64>,
    /// The revision in the header of `created`.
    pub created: Option<i64>,
    /// Events and announced progress, without `created` and `canceled`.
    pub responses: Vec<Response>,
    pub canceled: Option<Canceled>,
}

/// A response with events, or one that announces progress. Fragments are put together.
#[derive(Clone, Debug)]
pub struct Response {
    /// When it had arrived.
    pub at: u64,
    /// The revision in its header.
    pub revision: i64,
    /// None where it announces progress.
    pub events: Vec<Event>,
    /// Whether more of it is to come.
    pub partial: bool,
}

/// The server's last word on a watcher.
#[derive(Clone, Debug)]
pub struct Canceled {
    pub at: u64,
    /// Not 0 where what it needs was compacted.
    pub compact_revision: i64,
    pub reason: String,
    /// Whether the client had asked for it.
    pub asked: bool,
}

impl Watcher {
    /// Whether it asks for such an event.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let unwanted = match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
        !self.request.filters.contains(&unwanted.into()) && self.range().contains(key)
    }

    fn range(&self) -> KeyRange {
        let first = if self.request.key.is_empty() {
            "\0".into()
        } else {
            self.request.key.clone()
        };
        KeyRange::from_request(&first, &self.request.range_end)
    }

    /// The revision of its first event at the earliest, if that is known.
    #[must_use]
    pub fn start(&self) -> Option<i64> {
        match self.request.start_revision {
            0 => self.created.map(|head| head + 1),
            start => Some(start),
        }
    }

    /// Everything up to here was delivered, as far as the watcher was told.
    #[must_use]
    pub fn complete_up_to(&self) -> i64 {
        let told = self.responses.iter().filter(|told| !told.partial);
        told.map(Response::complete_up_to)
            .chain(self.start().map(|start| start - 1))
            .max()
            .unwrap_or(0)
    }

    /// Where a client goes on that lost the stream: after the last event, and after the last
    /// announced progress.
    #[must_use]
    pub fn resume_at(&self) -> i64 {
        self.complete_up_to() + 1
    }

    /// Every event with the time of its arrival. What came in fragments of which the last did not
    /// come is not among them.
    pub fn events(&self) -> impl Iterator<Item = (u64, &Event)> {
        let whole = self.responses.iter().filter(|told| !told.partial);
        whole.flat_map(|told| told.events.iter().map(|event| (told.at, event)))
    }

    fn is_open(&self) -> bool {
        self.id.is_some() && self.canceled.is_none()
    }

    fn push(&mut self, at: u64, response: &WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let more = Response {
            at,
            revision,
            events: response.events.clone(),
            partial: response.fragment,
        };
        match self.responses.last_mut() {
            Some(begun) if begun.partial => {
                begun.events.extend(more.events);
                begun.partial = more.partial;
                begun.at = at;
            }
            _ => self.responses.push(more),
        }
    }
}

impl Response {
    /// Whether it says that everything up to its revision was delivered.
    #[must_use]
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }

    fn complete_up_to(&self) -> i64 {
        self.events.last().map_or(self.revision, revision_of)
    }
}

/// The revision of an event; 0 where it has none.
pub(super) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl History {
    /// The watchers of all streams.
    ///
    /// # Errors
    /// [`Property::Framed`], where a response belongs to no watcher.
    pub fn watchers(&self) -> Result<Vec<Watcher>, Broken> {
        let mut watchers = Vec::new();
        for stream in &self.streams {
            watchers.extend(Parts::of(stream)?.watchers);
        }
        Ok(watchers)
    }
}

/// A stream on its way to being taken apart.
struct Parts {
    client: u64,
    watchers: Vec<Watcher>,
    /// The places of those that were asked for and not answered yet. etcd answers in order.
    pending: VecDeque<usize>,
    /// The ids whose end the client has asked for.
    unwanted: Vec<i64>,
}

impl Parts {
    fn of(stream: &Stream) -> Result<Self, Broken> {
        let mut parts = Self {
            client: stream.client,
            watchers: Vec::new(),
            pending: VecDeque::new(),
            unwanted: Vec::new(),
        };
        for (at, message) in &stream.messages {
            match message {
                Message::Asked(request) => parts.asked(*at, request),
                Message::Told(response) if response.created => parts.created(*at, response)?,
                Message::Told(response) if response.canceled => parts.canceled(*at, response)?,
                Message::Told(response) => parts.told(*at, response)?,
            }
        }
        Ok(parts)
    }

    fn asked(&mut self, at: u64, request: &WatchRequest) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                self.pending.push_back(self.watchers.len());
                self.watchers.push(Watcher {
                    client: self.client,
                    request: request.clone(),
                    asked: at,
                    id: None,
                    created: None,
                    responses: Vec::new(),
                    canceled: None,
                });
            }
            Some(RequestUnion::CancelRequest(cancel)) => self.unwanted.push(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) | None => {}
        }
    }

    fn created(&mut self, at: u64, response: &WatchResponse) -> Result<(), Broken> {
        let taken = self.open(response.watch_id).is_some();
        let place = self.pending.pop_front();
        let Some(watcher) = place.and_then(|place| self.watchers.get_mut(place)) else {
            return Err(self.stray(response, "was created and not asked for"));
        };
        if response.canceled {
            watcher.canceled = Some(Canceled::of(at, response, false));
            return Ok(());
        }
        watcher.id = Some(response.watch_id);
        watcher.created = response.header.as_ref().map(|header| header.revision);
        let chosen = watcher.request.watch_id;
        if taken || (chosen != 0 && chosen != response.watch_id) {
            return Err(self.stray(response, "was created under a wrong id"));
        }
        if !response.events.is_empty() {
            return Err(self.stray(response, "was created with events"));
        }
        Ok(())
    }

    fn canceled(&mut self, at: u64, response: &WatchResponse) -> Result<(), Broken> {
        let asked = self.unwanted.contains(&response.watch_id);
        let Some(watcher) = self.open(response.watch_id) else {
            // A watcher that is compacted keeps its id until its end is asked for.
            let known = self
                .watchers
                .iter()
                .any(|it| it.id == Some(response.watch_id));
            return if asked && known {
                Ok(())
            } else {
                Err(self.stray(response, "was canceled and not open"))
            };
        };
        watcher.canceled = Some(Canceled::of(at, response, asked));
        if !response.events.is_empty() {
            return Err(self.stray(response, "was canceled with events"));
        }
        Ok(())
    }

    fn told(&mut self, at: u64, response: &WatchResponse) -> Result<(), Broken> {
        if response.watch_id == -1 && response.events.is_empty() {
            let open = self.watchers.iter_mut().filter(|watcher| watcher.is_open());
            open.for_each(|watcher| watcher.push(at, response));
            return Ok(());
        }
        let Some(watcher) = self.open(response.watch_id) else {
            return Err(self.stray(response, "was told something and not open"));
        };
        watcher.push(at, response);
        Ok(())
    }

    fn open(&mut self, id: i64) -> Option<&mut Watcher> {
        let is_it = |watcher: &&mut Watcher| watcher.id == Some(id) && watcher.is_open();
        self.watchers.iter_mut().find(is_it)
    }

    fn stray(&self, response: &WatchResponse, what: &str) -> Broken {
        Broken {
            property: Property::Framed,
            place: format!("client {}", self.client),
            what: format!("watch {} {what}: {response:?}", response.watch_id),
        }
    }
}

impl Canceled {
    fn of(at: u64, response: &WatchResponse, asked: bool) -> Self {
        Self {
            at,
            compact_revision: response.compact_revision,
            reason: response.cancel_reason.clone(),
            asked,
        }
    }
}
