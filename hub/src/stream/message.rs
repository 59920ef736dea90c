//! What waits to be sent, and its encoding.

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    wire::{EncodedEvent, Header},
};
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};
use prost::Message as _;

use super::{HeaderOf, Options};
use crate::{
    Places,
    event::{EncodeError, Entry, Event},
};

/// From where on a response is cut for a client that asked for it: etcd's `--max-request-bytes`
/// and its allowance for gRPC.
const FRAGMENT: usize = (1536 + 512) << 10;

/// Roughly what a response takes beside its events.
const CONTROL: usize = 64;

#[derive(Debug)]
pub(super) enum Message {
    Control(Control),
    Events(Events),
}

/// A response without events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    pub(super) revision: i64,
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) reason: &'static str,
}

/// What one watcher gets in one go.
#[derive(Debug)]
pub(super) struct Events {
    watch_id: i64,
    pub(super) last: UnifiedRev,
    entries: Vec<Entry>,
    options: Options,
    bytes: usize,
}

/// An event as one watch is sent it.
struct Shown<'e> {
    encoded: &'e EncodedEvent,
    /// Whether with what it replaced.
    previous: bool,
}

impl Shown<'_> {
    fn len(&self) -> usize {
        self.encoded.field_len(self.previous)
    }
}

impl Message {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Control(_) => CONTROL,
            Self::Events(events) => events.bytes,
        }
    }

    /// One response, or its fragments.
    pub(super) fn encode(
        &self,
        header: HeaderOf<'_>,
        places: &dyn Places,
    ) -> Result<Vec<Bytes>, EncodeError> {
        match self {
            Self::Control(control) => Ok(vec![control.encode(header)]),
            Self::Events(events) => events.encode(header, places),
        }
    }
}

impl Control {
    fn encode(&self, header: HeaderOf<'_>) -> Bytes {
        let response = WatchResponse {
            header: Some(pb_header(header(self.revision))),
            watch_id: self.watch_id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.reason.to_owned(),
            ..WatchResponse::default()
        };
        response.encode_to_vec().into()
    }
}

impl Events {
    /// `None` where the watch's filters leave nothing.
    pub(super) fn of(watch_id: i64, entries: Vec<Entry>, options: Options) -> Option<Self> {
        let wanted = entries.iter().flat_map(Entry::events);
        let wanted = wanted.filter(|event| options.wants(event));
        let bytes: usize = wanted.map(|event| event.raw.len()).sum();
        let last = entries.last()?.unified();
        (bytes > 0).then_some(Self {
            watch_id,
            last,
            entries,
            options,
            bytes: bytes + CONTROL,
        })
    }

    fn encode(&self, header: HeaderOf<'_>, places: &dyn Places) -> Result<Vec<Bytes>, EncodeError> {
        let mut events = Vec::new();
        let compacted = places.compacted();
        for entry in &self.entries {
            // As in etcd, which looks it up one revision before.
            let previous = self.options.previous && entry.unified() > compacted;
            for event in entry.events().filter(|event| self.options.wants(event)) {
                let encoded = event.encoded(entry.group.slot, places)?;
                events.push(Shown { encoded, previous });
            }
        }
        let header = pb_header(header(self.last.get()));
        let parts = self.parts(&events);
        let last = parts.len().saturating_sub(1);
        let responses = parts.iter().enumerate();
        Ok(responses
            .map(|(number, part)| {
                let fragment = number < last && !planted(Bug::RevisionSplit);
                self.response(header, part, fragment)
            })
            .collect())
    }

    /// One part, or as many as a client that asked for fragments must get.
    fn parts<'e>(&self, events: &'e [Shown<'e>]) -> Vec<&'e [Shown<'e>]> {
        if planted(Bug::RevisionSplit) && events.len() > 1 {
            let (part, behind) = events.split_at(events.len() - 1);
            return vec![part, behind];
        }
        if !self.options.fragment {
            return vec![events];
        }
        let mut parts = Vec::new();
        let mut rest = events;
        while !rest.is_empty() {
            let mut bytes = CONTROL;
            let fits = rest.iter().take_while(|event| {
                bytes += event.len();
                bytes < FRAGMENT
            });
            let (part, behind) = rest.split_at(fits.count().max(1));
            parts.push(part);
            rest = behind;
        }
        parts
    }

    fn response(&self, header: ResponseHeader, events: &[Shown<'_>], fragment: bool) -> Bytes {
        let head = WatchResponse {
            header: Some(header),
            watch_id: self.watch_id,
            fragment,
            ..WatchResponse::default()
        };
        let size: usize = events.iter().map(Shown::len).sum();
        let mut out = Vec::with_capacity(head.encoded_len() + size);
        // The buffer is large enough, so there is nothing to go wrong.
        head.encode(&mut out).ok();
        for event in events {
            event.encoded.put(event.previous, &mut out);
        }
        out.into()
    }
}

impl Options {
    fn wants(self, event: &Event) -> bool {
        if event.raw.is_delete {
            !self.no_delete
        } else {
            !self.no_put
        }
    }
}

fn pb_header(header: Header) -> ResponseHeader {
    ResponseHeader {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    }
}
