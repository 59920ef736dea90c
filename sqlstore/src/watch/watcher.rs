//! One watch of a stream.

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{WatchCreateRequest, WatchResponse, watch_create_request::FilterType},
    mvccpb::{Event, event::EventType},
};
use prost::Message as _;

use crate::shared::Shared;

/// What etcd allows a message beyond `--max-request-bytes`.
const OVERHEAD: usize = 512 * 1024;

/// One watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) range: KeyRange,
    /// The first revision that was not yet looked at for it.
    pub(super) next: i64,
    pub(super) prev_kv: bool,
    pub(super) progress_notify: bool,
    /// Whether it was sent nothing since the last tick of the progress clock.
    pub(super) quiet: bool,
    fragment: bool,
    no_put: bool,
    no_delete: bool,
    /// Counts it as long as it lives.
    _counted: Counted,
}

#[derive(Debug)]
struct Counted {
    shared: Arc<Shared>,
    prev_kv: bool,
}

impl Counted {
    fn new(shared: Arc<Shared>, prev_kv: bool) -> Self {
        shared.metrics.watchers.inc();
        if prev_kv {
            shared.feed.more_want_prev();
        }
        Self { shared, prev_kv }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.metrics.watchers.dec();
        if self.prev_kv {
            self.shared.feed.fewer_want_prev();
        }
    }
}

/// The range that a watch is asked for; `None` where there can be no key in it.
pub(super) fn range_of(request: &WatchCreateRequest) -> Option<KeyRange> {
    // etcd's `\x00`: from the first key on.
    let key = if request.key.is_empty() {
        Bytes::from_static(b"\0")
    } else {
        request.key.clone()
    };
    let range = KeyRange::from_request(&key, &request.range_end);
    (!range.is_empty()).then_some(range)
}

impl Watcher {
    pub(super) fn new(
        id: i64,
        range: KeyRange,
        request: &WatchCreateRequest,
        shared: Arc<Shared>,
    ) -> Self {
        let filters = |filter: FilterType| request.filters.contains(&(filter as i32));
        Self {
            id,
            range,
            next: request.start_revision,
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            quiet: true,
            fragment: request.fragment,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            _counted: Counted::new(shared, request.prev_kv),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let filtered = match event.r#type() {
            EventType::Put => self.no_put,
            EventType::Delete => self.no_delete,
        };
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
        !filtered && self.range.contains(key)
    }

    /// Those of some events that it is to be sent, as it wants them. As in etcd, what an event
    /// replaced is missing where the revision before the event's is compacted.
    pub(super) fn select<'e>(
        &self,
        events: impl Iterator<Item = &'e Event>,
        compacted: i64,
    ) -> Vec<Event> {
        let is_kept = |event: &Event| {
            let kv = event.kv.as_ref();
            kv.is_some_and(|kv| kv.mod_revision > compacted)
        };
        let wanted = events.filter(|event| self.wants(event));
        let shown = wanted.map(|event| match self.prev_kv && is_kept(event) {
            true => event.clone(),
            false => Event {
                prev_kv: None,
                ..event.clone()
            },
        });
        shown.collect()
    }

    /// Cuts an answer as etcd does where the watch wants that: `fragment` on all but the last.
    pub(super) fn fragments(&self, answer: WatchResponse, limit: usize) -> Vec<WatchResponse> {
        let limit = limit + OVERHEAD;
        if !self.fragment || answer.events.len() < 2 || answer.encoded_len() < limit {
            return vec![answer];
        }
        let empty = WatchResponse {
            events: Vec::new(),
            fragment: true,
            ..answer.clone()
        };
        let around = empty.encoded_len();
        let (mut parts, mut part, mut size) = (Vec::new(), empty.clone(), around);
        for event in answer.events {
            // A tag and at most five bytes of length.
            let takes = event.encoded_len() + 6;
            if !part.events.is_empty() && size + takes >= limit {
                parts.push(std::mem::replace(&mut part, empty.clone()));
                size = around;
            }
            size += takes;
            part.events.push(event);
        }
        part.fragment = false;
        parts.push(part);
        parts
    }
}
