//! One upstream watch: its answers, cut into revisions.
//!
//! A store's own watch covers every key, so that every revision of the store shows itself by an
//! event, and the frontier can move by delivered events alone (headers and progress run ahead of
//! events on some versions of etcd). One that catches a watcher up may cover the watcher's range
//! alone, where the store can be trusted to say by progress how far it has come.
//!
//! Invariant: what comes out has strictly growing revisions above where the feed began, each whole.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, watch_request::RequestUnion,
    },
    wire::{Header, RawEvent, WatchAnswer, WireError},
};
use keyloom_ledger::StoreRev;
use prost::Message as _;

/// All events of one revision of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The store's revision.
    pub revision: StoreRev,
    /// In the order of the store.
    pub events: Vec<RawEvent>,
    /// Whether the store was asked for what the events replaced.
    pub with_previous: bool,
}

/// What one upstream answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Whole revisions, perhaps none.
    Groups(Vec<Group>),
    /// By the store's word, everything of the feed's range up to here was delivered. Only of a feed
    /// of a range ([`Feed::of`]).
    Upto(StoreRev),
    /// The place where the watch wants to go on is compacted: the store has history from here on.
    Compacted(StoreRev),
    /// The store ended the watch for another reason.
    Ended(String),
}

/// One upstream answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Who answered. Its revision says nothing of what was delivered.
    pub header: Header,
    pub step: Step,
}

/// Why an upstream answer cannot be used. The watch must be opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    #[error("unreadable watch answer: {0}")]
    Wire(#[from] WireError),
    /// An event came again, or too late.
    #[error("an event of revision {got} came after revision {delivered}")]
    Backwards { delivered: i64, got: i64 },
}

/// Where one upstream watch stands.
#[derive(Debug)]
pub struct Feed {
    delivered: StoreRev,
    /// `None` is every key.
    range: Option<KeyRange>,
    /// Whether the store is asked for what its events replace.
    with_previous: bool,
    /// A revision of which more is to come.
    open: Option<Group>,
}

impl Feed {
    /// A feed of a range, whose store must be asked how far it has come ([`Feed::ask`]).
    #[must_use]
    pub fn of(range: KeyRange, delivered: StoreRev) -> Self {
        Self {
            delivered,
            range: Some(range),
            with_previous: true,
            open: None,
        }
    }

    /// The same feed, which asks the store for what its events replace only where that is wanted.
    #[must_use]
    pub fn with_previous(self, with_previous: bool) -> Self {
        Self {
            with_previous,
            ..self
        }
    }

    /// Whether the store is asked for what its events replace.
    #[must_use]
    pub fn asks_previous(&self) -> bool {
        self.with_previous
    }

    /// Whether it is of a range.
    #[must_use]
    pub fn is_of_range(&self) -> bool {
        self.range.is_some()
    }

    /// The request for progress.
    #[must_use]
    pub fn ask() -> Bytes {
        let request = WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
        };
        request.encode_to_vec().into()
    }

    /// A feed of everything above `delivered`.
    #[must_use]
    pub fn after(delivered: StoreRev) -> Self {
        Self {
            delivered,
            range: None,
            with_previous: true,
            open: None,
        }
    }

    /// The request that opens the upstream watch.
    #[must_use]
    pub fn request(&self) -> Bytes {
        let (key, range_end) = match &self.range {
            Some(range) => (range.start.clone(), range.range_end()),
            None => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        };
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: self.delivered.get().saturating_add(1),
            prev_kv: self.with_previous,
            // Else etcd puts up to 1,000 revisions of history into one answer, whatever their size.
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        request.encode_to_vec().into()
    }

    /// Takes one upstream answer.
    ///
    /// # Errors
    /// Where it cannot be read or does not follow what came before.
    pub fn take(&mut self, answer: &Bytes) -> Result<Taken, FeedError> {
        let answer = WatchAnswer::parse(answer)?;
        let header = answer.header;
        let step = if answer.canceled && answer.compact_revision > 0 {
            Step::Compacted(StoreRev::new(answer.compact_revision))
        } else if answer.canceled {
            Step::Ended(answer.cancel_reason)
        } else if self.is_progress(&answer) {
            self.delivered = self.delivered.max(StoreRev::new(header.revision));
            Step::Upto(self.delivered)
        } else {
            Step::Groups(self.groups(answer.events, answer.fragment)?)
        };
        Ok(Taken { header, step })
    }

    fn is_progress(&self, answer: &WatchAnswer) -> bool {
        self.is_of_range() && self.open.is_none() && !answer.created && answer.events.is_empty()
    }

    fn groups(&mut self, events: Vec<RawEvent>, fragment: bool) -> Result<Vec<Group>, FeedError> {
        let mut whole = Vec::new();
        for event in events {
            let revision = StoreRev::new(event.mod_revision);
            match &mut self.open {
                Some(open) if open.revision == revision => open.events.push(event),
                _ => {
                    whole.extend(self.close());
                    self.begin(revision, event)?;
                }
            }
        }
        if !fragment {
            whole.extend(self.close());
        }
        Ok(whole)
    }

    fn begin(&mut self, revision: StoreRev, event: RawEvent) -> Result<(), FeedError> {
        if revision <= self.delivered {
            return Err(FeedError::Backwards {
                delivered: self.delivered.get(),
                got: revision.get(),
            });
        }
        let events = vec![event];
        self.open = Some(Group {
            revision,
            events,
            with_previous: self.with_previous,
        });
        Ok(())
    }

    fn close(&mut self) -> Option<Group> {
        let group = self.open.take()?;
        self.delivered = group.revision;
        Some(group)
    }
}
