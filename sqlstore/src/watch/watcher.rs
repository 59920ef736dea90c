//! One watch of a stream.

use std::sync::Arc;

use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::WatchResponse,
    mvccpb::{Event, event::EventType},
};
use keyloom_etcd_semantics::watch::{Admitted, FRAGMENT_OVERHEAD, Options, fragments};
use prost::{Message as _, encoding::message::encoded_len};

use crate::shared::Shared;

/// The field of `WatchResponse` in which its events are.
const EVENTS: u32 = 11;

/// One watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) range: KeyRange,
    /// The first revision that was not yet looked at for it.
    pub(super) next: i64,
    pub(super) options: Options,
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

impl Watcher {
    /// A watch that begins with what comes next has no place yet: it follows the newest revision.
    pub(super) fn new(admitted: &Admitted, shared: Arc<Shared>) -> Self {
        Self {
            range: admitted.range.clone(),
            next: admitted.start,
            options: admitted.options,
            _counted: Counted::new(shared, admitted.options.prev_kv),
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let is_delete = event.r#type() == EventType::Delete;
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
        self.options.wants(is_delete) && self.range.contains(key)
    }

    /// Those of some events that it is to be sent, as it wants them.
    pub(super) fn select<'e>(
        &self,
        events: impl Iterator<Item = &'e Event>,
        compacted: i64,
    ) -> Vec<Event> {
        let shows_previous = |event: &Event| {
            let kv = event.kv.as_ref();
            kv.is_some_and(|kv| self.options.shows_previous(kv.mod_revision, compacted))
        };
        let wanted = events.filter(|event| self.wants(event));
        let shown = wanted.map(|event| match shows_previous(event) {
            true => event.clone(),
            false => Event {
                prev_kv: None,
                ..event.clone()
            },
        });
        shown.collect()
    }

    /// Cuts an answer as etcd does where the watch wants that, for requests of `most` bytes.
    pub(super) fn fragments(&self, answer: WatchResponse, most: usize) -> Vec<WatchResponse> {
        if !self.options.fragment {
            return vec![answer];
        }
        let sizes = answer.events.iter().map(|event| encoded_len(EVENTS, event));
        let sizes: Vec<_> = sizes.collect();
        let head = WatchResponse {
            events: Vec::new(),
            ..answer.clone()
        };
        let cut = fragments(head.encoded_len(), &sizes, most + FRAGMENT_OVERHEAD);
        let last = cut.len() - 1;
        let mut events = answer.events.into_iter();
        let parts = cut
            .into_iter()
            .enumerate()
            .map(|(number, part)| WatchResponse {
                events: events.by_ref().take(part.len()).collect(),
                fragment: number < last,
                ..head.clone()
            });
        parts.collect()
    }
}
