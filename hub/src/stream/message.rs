//! What waits to be sent, and its encoding.

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{ResponseHeader, WatchResponse},
    wire::{EncodedEvent, Header},
};
use keyloom_etcd_semantics::watch::{FRAGMENT_OVERHEAD, Options, Reply, fragments};
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};
use prost::Message as _;

use super::HeaderOf;
use crate::{
    OrderView,
    event::{EncodeError, Entry},
};

/// From where on a response is cut for a client that asked for it, in bytes: etcd's default for
/// `--max-request-bytes` and its allowance for gRPC.
const FRAGMENT: usize = (1536 << 10) + FRAGMENT_OVERHEAD;

/// Roughly what a response takes beside its events, in bytes.
const REPLY: usize = 64;

#[derive(Debug)]
pub(super) enum Message {
    Reply(Reply),
    Events(Events),
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
            Self::Reply(_) => REPLY,
            Self::Events(events) => events.bytes,
        }
    }

    /// One response, or its fragments.
    pub(super) fn encode(
        &self,
        header: HeaderOf<'_>,
        order: &dyn OrderView,
    ) -> Result<Vec<Bytes>, EncodeError> {
        match self {
            Self::Reply(reply) => {
                let response = reply.response(|revision| pb_header(header(revision)));
                Ok(vec![response.encode_to_vec().into()])
            }
            Self::Events(events) => events.encode(header, order),
        }
    }
}

impl Events {
    /// `None` where the watch's filters leave nothing.
    pub(super) fn of(watch_id: i64, entries: Vec<Entry>, options: Options) -> Option<Self> {
        let wanted = entries.iter().flat_map(Entry::events);
        let wanted = wanted.filter(|event| options.wants(event.raw.is_delete));
        let bytes: usize = wanted.map(|event| event.raw.len()).sum();
        let last = entries.last()?.unified();
        (bytes > 0).then_some(Self {
            watch_id,
            last,
            entries,
            options,
            bytes: bytes + REPLY,
        })
    }

    fn encode(
        &self,
        header: HeaderOf<'_>,
        order: &dyn OrderView,
    ) -> Result<Vec<Bytes>, EncodeError> {
        let mut events = Vec::new();
        let compacted = order.compacted().get();
        for entry in &self.entries {
            let previous = self
                .options
                .shows_previous(entry.unified().get(), compacted);
            for event in entry
                .events()
                .filter(|event| self.options.wants(event.raw.is_delete))
            {
                let encoded = event.encoded(entry.group.slot, order)?;
                events.push(Shown { encoded, previous });
            }
        }
        let header = pb_header(header(self.last.get()));
        let parts = self.parts(header, &events);
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
    fn parts<'e>(&self, header: ResponseHeader, events: &'e [Shown<'e>]) -> Vec<&'e [Shown<'e>]> {
        if planted(Bug::RevisionSplit) && events.len() > 1 {
            let (part, behind) = events.split_at(events.len() - 1);
            return vec![part, behind];
        }
        if !self.options.fragment {
            return vec![events];
        }
        let head = self.head(header, false);
        let sizes: Vec<_> = events.iter().map(Shown::len).collect();
        let cut = fragments(head.encoded_len(), &sizes, FRAGMENT);
        cut.into_iter()
            .filter_map(|part| events.get(part))
            .collect()
    }

    fn head(&self, header: ResponseHeader, fragment: bool) -> WatchResponse {
        WatchResponse {
            header: Some(header),
            watch_id: self.watch_id,
            fragment,
            ..WatchResponse::default()
        }
    }

    fn response(&self, header: ResponseHeader, events: &[Shown<'_>], fragment: bool) -> Bytes {
        let head = self.head(header, fragment);
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

fn pb_header(header: Header) -> ResponseHeader {
    ResponseHeader {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        revision: header.revision,
        raft_term: header.raft_term,
    }
}
