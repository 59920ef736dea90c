//! One client's watch stream as etcd has it (`server/etcdserver/api/v3rpc/watch.go` and
//! `server/storage/mvcc/watcher.go` of etcd 3.6): which creates are refused, the ids, when progress
//! is told, what is said in answers without events, and how large answers are cut.
//!
//! ```text
//!   create ─► created ─► events, progress ─┬─ cancelled by the client ─► canceled
//!         └─► created+canceled, id -1      └─ history gone ─► canceled, compact_revision
//! ```
//!
//! Where the events come from is not known here: a `W` stands for that, one for each watch.

mod fragment;
mod reply;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{EtcdError, KeyRange, etcdserverpb::WatchCreateRequest};

pub use fragment::{FRAGMENT_OVERHEAD, fragments};
pub use reply::Reply;

/// The id of what speaks for no watch, or for all.
const NO_ID: i64 = -1;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// `WatchCreateRequest.FilterType`.
const NO_PUT: i32 = 0;
const NO_DELETE: i32 = 1;

/// What a client wants of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
    pub fragment: bool,
    pub progress_notify: bool,
}

impl Options {
    fn of(create: &WatchCreateRequest) -> Self {
        Self {
            prev_kv: create.prev_kv,
            no_put: create.filters.contains(&NO_PUT),
            no_delete: create.filters.contains(&NO_DELETE),
            fragment: create.fragment,
            progress_notify: create.progress_notify,
        }
    }

    /// Whether the filters let an event through.
    #[must_use]
    pub fn wants(self, is_delete: bool) -> bool {
        if is_delete {
            !self.no_delete
        } else {
            !self.no_put
        }
    }

    /// Whether an event is sent with what it replaced. etcd looks that up one revision before the
    /// event's, and there is nothing to find below what is kept.
    #[must_use]
    pub fn shows_previous(self, mod_revision: i64, compacted: i64) -> bool {
        self.prev_kv && mod_revision > compacted
    }
}

/// A watch that may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub id: i64,
    pub range: KeyRange,
    /// The first revision that is wanted; 0 is whatever comes next.
    pub start: i64,
    pub options: Options,
}

impl Admitted {
    /// The last revision of which the watch hears nothing, where the newest one is `head`.
    #[must_use]
    pub fn cursor(&self, head: i64) -> i64 {
        match self.start {
            0 => head,
            start => start - 1,
        }
    }
}

#[derive(Debug)]
struct Watch<W> {
    /// 0 is none.
    start: i64,
    options: Options,
    /// Whether it was sent nothing since the last tick.
    quiet: bool,
    /// `None` once its history was gone: as in etcd, the id stays taken until the client cancels.
    source: Option<W>,
}

/// The watches of one stream. A request costs O(log n) of them, a tick O(n).
#[derive(Debug)]
pub struct Watches<W> {
    by_id: BTreeMap<i64, Watch<W>>,
    /// Where to look for the next id that nobody chose.
    next_id: i64,
    /// How many watches begin at each revision; those that begin with what comes next left aside.
    starts: BTreeMap<i64, usize>,
    /// How many have no source any more.
    lost: usize,
    asked: Option<i64>,
}

impl<W> Default for Watches<W> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            next_id: 0,
            starts: BTreeMap::new(),
            lost: 0,
            asked: None,
        }
    }
}

impl<W> Watches<W> {
    /// Checks what a client asks for, and chooses an id where it has not.
    ///
    /// # Errors
    /// The reason that etcd gives for refusing it; [`Reply::refused`] tells it.
    pub fn admit(&mut self, create: &WatchCreateRequest) -> Result<Admitted, &'static str> {
        if create.start_revision < 0 {
            return Err(EtcdError::Compacted.text());
        }
        // No key is etcd's `\x00`: from the first key on.
        let key = match create.key.is_empty() {
            true => Bytes::from_static(b"\0"),
            false => create.key.clone(),
        };
        let range = KeyRange::from_request(&key, &create.range_end);
        if range.is_empty() {
            return Err(EMPTY_RANGE);
        }
        let id = match create.watch_id {
            0 => self.free_id(),
            taken if self.by_id.contains_key(&taken) => return Err(DUPLICATE_ID),
            chosen => chosen,
        };
        Ok(Admitted {
            id,
            range,
            start: create.start_revision,
            options: Options::of(create),
        })
    }

    fn free_id(&mut self) -> i64 {
        while self.by_id.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Adds a watch; without a source it is one whose history is gone already.
    pub fn insert(&mut self, admitted: &Admitted, source: Option<W>) {
        let start = admitted.start;
        if start > 0 {
            *self.starts.entry(start).or_default() += 1;
        }
        self.lost += usize::from(source.is_none());
        let watch = Watch {
            start,
            options: admitted.options,
            quiet: true,
            source,
        };
        self.by_id.insert(admitted.id, watch);
    }

    /// Removes a watch. Its source is `None` where its history was gone.
    pub fn remove(&mut self, id: i64) -> Option<Option<W>> {
        let watch = self.by_id.remove(&id)?;
        self.lost -= usize::from(watch.source.is_none());
        if let Some(count) = self.starts.get_mut(&watch.start) {
            *count -= 1;
            if *count == 0 {
                self.starts.remove(&watch.start);
            }
        }
        Some(watch.source)
    }

    /// The history of a watch is gone: takes its source, and keeps its id. `None` where that
    /// happened before.
    pub fn lose(&mut self, id: i64) -> Option<W> {
        let source = self.by_id.get_mut(&id)?.source.take()?;
        self.lost += 1;
        Some(source)
    }

    #[must_use]
    pub fn get(&self, id: i64) -> Option<&W> {
        self.by_id.get(&id)?.source.as_ref()
    }

    pub fn get_mut(&mut self, id: i64) -> Option<&mut W> {
        self.by_id.get_mut(&id)?.source.as_mut()
    }

    #[must_use]
    pub fn options(&self, id: i64) -> Option<Options> {
        self.by_id.get(&id).map(|watch| watch.options)
    }

    /// Forgets every watch.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    // === progress ===

    /// Notes that events of a watch were sent.
    pub fn sent(&mut self, id: i64) {
        if let Some(watch) = self.by_id.get_mut(&id) {
            watch.quiet = false;
        }
    }

    /// At each tick: the watches that asked for progress and were sent nothing since the last one,
    /// each with the lowest revision that it may be told.
    pub fn due(&mut self) -> Vec<(i64, i64)> {
        let mut due = Vec::new();
        for (id, watch) in &mut self.by_id {
            let quiet = std::mem::replace(&mut watch.quiet, true);
            if watch.options.progress_notify && quiet && watch.source.is_some() {
                due.push((*id, watch.start));
            }
        }
        due
    }

    /// Takes a request for progress, made when the newest revision was `head`. As in etcd it counts
    /// for nothing where it could not be answered even with everything sent.
    pub fn ask(&mut self, head: i64) {
        if self.asked.is_none() && self.may_tell_all(head) {
            self.asked = Some(head);
        }
    }

    /// The newest revision at the time of a request for progress that was not answered yet.
    #[must_use]
    pub fn asked(&self) -> Option<i64> {
        self.asked
    }

    /// It was answered, or needs no answer.
    pub fn answered(&mut self) {
        self.asked = None;
    }

    /// Whether every watch may be told that it has everything up to `upto`. Of no watch there is no
    /// progress, a watch whose history is gone never has everything, and one from the future must
    /// not hear of anything before.
    #[must_use]
    pub fn may_tell_all(&self, upto: i64) -> bool {
        let last_start = self.starts.last_key_value().map(|(start, _)| *start);
        self.lost == 0 && !self.by_id.is_empty() && last_start.is_none_or(|start| start <= upto)
    }
}
