//! One watch stream of an etcd: requests in, responses out, no clock, no socket.
//!
//! ```text
//!  create ──> created ──> catching up ──> synced ──> (canceled on request)
//!                │             └────────────┴──> compacted: says so once, then keeps its id and
//!                └──> refused                    lets no progress be announced, as in etcd
//! ```
//!
//! Unlike in etcd, what a watcher has to catch up with is sent at once; as in etcd it is sent
//! under a header with the current revision, while events that happen later have their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, event::EventType},
};
use prost::Message as _;

use super::Etcd;

/// How many revisions etcd puts into one response to a watcher that catches up.
const REVISIONS_PER_RESPONSE: usize = 1000;

/// From this size on etcd divides responses to watchers that allow it.
const FRAGMENT_BYTES: usize = 2 * 1024 * 1024;

/// The id in responses that are for no watcher, or for all.
const NO_ID: i64 = -1;

/// The watchers of one stream.
#[derive(Debug, Default)]
pub struct WatchStream {
    watchers: BTreeMap<i64, ModelWatcher>,
    next_id: i64,
}

#[derive(Debug)]
struct ModelWatcher {
    range: KeyRange,
    start: i64,
    /// The lowest revision that was not looked at for this watcher.
    next: i64,
    synced: bool,
    compacted: bool,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    progress: bool,
    /// Whether nothing was sent since the last announcement of progress was due.
    quiet: bool,
}

impl WatchStream {
    /// How many watchers there are.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// Answers one request.
    pub fn request(&mut self, etcd: &Etcd, request: WatchRequest) -> Vec<WatchResponse> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(etcd, create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(etcd, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress(etcd).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn create(&mut self, etcd: &Etcd, mut create: WatchCreateRequest) -> Vec<WatchResponse> {
        if create.key.is_empty() {
            create.key = Bytes::from_static(b"\0");
        }
        let created = |watch_id, reason: &str| WatchResponse {
            watch_id,
            created: true,
            canceled: watch_id == NO_ID,
            cancel_reason: reason.to_owned(),
            ..answer(etcd, etcd.revision())
        };
        let id = match self.admit(&create) {
            Err(reason) => return vec![created(NO_ID, reason)],
            Ok(id) => id,
        };
        self.watchers.insert(id, ModelWatcher::new(etcd, &create));
        let mut responses = vec![created(id, "")];
        responses.extend(self.deliver(etcd));
        responses
    }

    /// The id of a new watcher, or why there is none.
    fn admit(&mut self, create: &WatchCreateRequest) -> Result<i64, &'static str> {
        if create.start_revision < 0 {
            return Err(EtcdError::Compacted.text());
        }
        let endless = create.range_end[..] == *b"\0";
        if !create.range_end.is_empty() && !endless && create.key >= create.range_end {
            return Err("mvcc: watcher range is empty");
        }
        match create.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                Ok(self.next_id - 1)
            }
            id if self.watchers.contains_key(&id) => {
                Err("mvcc: duplicate watch ID provided on the WatchStream")
            }
            id => Ok(id),
        }
    }

    /// Unknown ids are not answered.
    fn cancel(&mut self, etcd: &Etcd, watch_id: i64) -> Vec<WatchResponse> {
        let canceled = self.watchers.remove(&watch_id).map(|_| WatchResponse {
            watch_id,
            canceled: true,
            ..answer(etcd, etcd.revision())
        });
        canceled.into_iter().collect()
    }

    /// Announces that every watcher has everything, if it is so.
    fn progress(&self, etcd: &Etcd) -> Option<WatchResponse> {
        let all = self
            .watchers
            .values()
            .all(|watcher| watcher.is_current(etcd));
        (all && !self.watchers.is_empty()).then(|| WatchResponse {
            watch_id: NO_ID,
            ..answer(etcd, etcd.revision())
        })
    }

    /// What etcd sends each time its interval for progress has passed: a response to each watcher
    /// that asked for it and was sent nothing since the last time.
    pub fn progress_due(&mut self, etcd: &Etcd) -> Vec<WatchResponse> {
        let due = |watcher: &mut ModelWatcher| {
            let quiet = std::mem::replace(&mut watcher.quiet, true);
            watcher.progress && quiet && watcher.is_current(etcd)
        };
        self.watchers
            .iter_mut()
            .filter_map(|(id, watcher)| due(watcher).then_some(*id))
            .map(|watch_id| WatchResponse {
                watch_id,
                ..answer(etcd, etcd.revision())
            })
            .collect()
    }

    /// Sends what has happened since the last time.
    pub fn deliver(&mut self, etcd: &Etcd) -> Vec<WatchResponse> {
        let mut responses = Vec::new();
        for (id, watcher) in &mut self.watchers {
            if !watcher.compacted && watcher.next < etcd.compacted() {
                watcher.compacted = true;
                // etcd leaves the revision of this header at 0.
                responses.push(WatchResponse {
                    watch_id: *id,
                    canceled: true,
                    compact_revision: etcd.compacted(),
                    ..answer(etcd, 0)
                });
            } else if !watcher.compacted && !watcher.synced {
                responses.extend(watcher.catch_up(etcd, *id));
            }
        }
        let behind = self.watchers.values().filter(|watcher| !watcher.compacted);
        let from = behind.map(|watcher| watcher.next).min().unwrap_or(i64::MAX);
        for revision in from..=etcd.revision() {
            for (id, watcher) in &mut self.watchers {
                responses.extend(watcher.follow(etcd, *id, revision));
            }
        }
        responses
    }
}

impl ModelWatcher {
    fn new(etcd: &Etcd, create: &WatchCreateRequest) -> Self {
        let start = create.start_revision;
        let synced = start == 0 || start > etcd.revision();
        let filtered = |filter: FilterType| create.filters.contains(&filter.into());
        Self {
            range: KeyRange::from_request(&create.key, &create.range_end),
            start,
            next: if synced {
                start.max(etcd.revision() + 1)
            } else {
                start
            },
            synced,
            compacted: false,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress: create.progress_notify,
            quiet: true,
        }
    }

    /// Whether it has everything up to the current revision.
    fn is_current(&self, etcd: &Etcd) -> bool {
        !self.compacted && self.synced && etcd.revision() >= self.start
    }

    /// Everything from the start on, at most so many revisions in one response.
    fn catch_up(&mut self, etcd: &Etcd, id: i64) -> Vec<WatchResponse> {
        let (from, current) = (self.next, etcd.revision());
        let mut batches = vec![(0, Vec::new())];
        for revision in from..=current {
            let events = self.events(etcd, revision);
            match batches.last_mut() {
                Some((revisions, batch)) if *revisions < REVISIONS_PER_RESPONSE => {
                    *revisions += usize::from(!events.is_empty());
                    batch.extend(events);
                }
                _ => batches.push((usize::from(!events.is_empty()), events)),
            }
        }
        self.synced = true;
        self.next = current + 1;
        let responses = batches.into_iter().map(|(_, events)| events);
        responses
            .flat_map(|events| self.send(etcd, id, current, events))
            .collect()
    }

    /// What happened at one revision.
    fn follow(&mut self, etcd: &Etcd, id: i64, revision: i64) -> Vec<WatchResponse> {
        if self.compacted || revision < self.next {
            return Vec::new();
        }
        self.next = revision + 1;
        let events = self.events(etcd, revision);
        self.send(etcd, id, revision, events)
    }

    fn send(
        &mut self,
        etcd: &Etcd,
        watch_id: i64,
        revision: i64,
        events: Vec<Event>,
    ) -> Vec<WatchResponse> {
        if events.is_empty() {
            return Vec::new();
        }
        self.quiet = false;
        let whole = WatchResponse {
            watch_id,
            events,
            ..answer(etcd, revision)
        };
        if self.fragment {
            fragments(whole)
        } else {
            vec![whole]
        }
    }

    fn events(&self, etcd: &Etcd, revision: i64) -> Vec<Event> {
        let wanted = |event: &&Event| {
            let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key[..]);
            let filtered = match event.r#type() {
                EventType::Put => self.no_put,
                EventType::Delete => self.no_delete,
            };
            !filtered && self.range.contains(key)
        };
        let events = etcd.keyspace().changes(revision).iter().filter(wanted);
        events
            .map(|event| self.with_previous(etcd, event))
            .collect()
    }

    /// The value before is looked up one revision before, and missing where that is compacted.
    fn with_previous(&self, etcd: &Etcd, event: &Event) -> Event {
        let mut event = event.clone();
        if let Some(kv) = &event.kv
            && self.prev_kv
            && (event.r#type() == EventType::Delete || kv.create_revision != kv.mod_revision)
            && kv.mod_revision > etcd.compacted()
        {
            event.prev_kv = etcd.keyspace().get(&kv.key, kv.mod_revision - 1).cloned();
        }
        event
    }
}

fn answer(etcd: &Etcd, revision: i64) -> WatchResponse {
    let mut header = etcd.header();
    header.revision = revision;
    WatchResponse {
        header: Some(header),
        ..WatchResponse::default()
    }
}

/// Divides a response that is too large; all but the last are marked.
fn fragments(whole: WatchResponse) -> Vec<WatchResponse> {
    if whole.encoded_len() < FRAGMENT_BYTES {
        return vec![whole];
    }
    let empty = WatchResponse {
        fragment: true,
        events: Vec::new(),
        ..whole.clone()
    };
    let mut fragments = vec![empty.clone()];
    let mut size = empty.encoded_len();
    for event in whole.events {
        // The tag and the length of an event take at most six bytes.
        let more = event.encoded_len() + 6;
        let begin =
            |fragment: &WatchResponse| !fragment.events.is_empty() && size + more >= FRAGMENT_BYTES;
        if fragments.last().is_some_and(begin) {
            fragments.push(empty.clone());
            size = empty.encoded_len();
        }
        size += more;
        if let Some(fragment) = fragments.last_mut() {
            fragment.events.push(event);
        }
    }
    if let Some(last) = fragments.last_mut() {
        last.fragment = false;
    }
    fragments
}

#[cfg(test)]
mod tests;
