//! The newest events in memory, for watches: what the writer commits is there at once, in the
//! order of commits.
//!
//! Invariants:
//! 1. `revisions` holds every revision from its first up to `head`, each whole.
//! 2. `head` moves after the commit and before anybody hears of it: who was answered finds
//!    everything up to that answer here, or here again what to read from the database.
//! 3. Bounded in bytes. Who is too slow for it reads the history instead; nothing is dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use keyloom_etcd_api::mvccpb::{Event, KeyValue};
use parking_lot::RwLock;
use tokio::sync::watch;

/// All events of one revision.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub(crate) revision: i64,
    pub(crate) events: Vec<Event>,
    /// Whether the events carry what was before. Nobody looks it up while nobody wants it.
    pub(crate) with_prev: bool,
}

impl Revision {
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(event_bytes).sum()
    }
}

/// What an event costs beside its keys and values: it and the revision that it mostly has for
/// itself, each in an allocation, and a place in the feed, which may have as many again free.
const EVENT: usize =
    size_of::<Event>() + size_of::<Revision>() + 4 * size_of::<usize>() + 2 * ALLOCATION;

/// What a key and its value cost beside their bytes: the allocation in which they are, and the one
/// that counts who has it.
const KEY_VALUE: usize = 3 * size_of::<usize>() + 2 * ALLOCATION;

/// What an allocation costs beside its bytes, roughly.
const ALLOCATION: usize = 16;

/// About what an event takes in memory.
pub(crate) fn event_bytes(event: &Event) -> usize {
    let kvs = [&event.kv, &event.prev_kv].into_iter().flatten();
    let kvs = kvs.map(|kv| kv.key.len() + kv.value.len() + KEY_VALUE);
    EVENT + kvs.sum::<usize>()
}

/// The same in memory of its own: what came with a request shares a buffer with other requests,
/// and would keep it for as long as the feed has it.
pub(crate) fn apart(mut kv: KeyValue) -> KeyValue {
    let bytes = Bytes::from([&kv.key[..], &kv.value[..]].concat());
    let value = kv.key.len();
    kv.key = bytes.slice(..value);
    kv.value = bytes.slice(value..);
    kv
}

#[derive(Debug)]
struct State {
    head: i64,
    compacted: i64,
    revisions: VecDeque<Arc<Revision>>,
    bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Feed {
    state: RwLock<State>,
    head: watch::Sender<i64>,
    limit: usize,
    /// How many watches want to know what was before.
    want_prev: AtomicUsize,
}

/// What a watch finds in the feed.
#[derive(Debug)]
pub(crate) enum Recent {
    /// Every revision from the one asked for up to the head, or as much as was allowed.
    Here(Vec<Arc<Revision>>),
    /// It has to be read from the database.
    Gone,
}

impl Feed {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            head: 0,
            compacted: -1,
            revisions: VecDeque::new(),
            bytes: 0,
        };
        Self {
            state: RwLock::new(state),
            head: watch::Sender::new(0),
            limit,
            want_prev: AtomicUsize::new(0),
        }
    }

    pub(crate) fn head(&self) -> i64 {
        self.state.read().head
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.state.read().compacted
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// Begins anew at a revision, of which the database knows more than the feed.
    pub(crate) fn jump(&self, head: i64, compacted: i64) {
        {
            let mut state = self.state.write();
            *state = State {
                head,
                compacted,
                revisions: VecDeque::new(),
                bytes: 0,
            };
        }
        self.head.send_replace(head);
    }

    /// Follows a commit.
    pub(crate) fn follow(&self, revisions: Vec<Revision>, compacted: i64) {
        let head = {
            let mut state = self.state.write();
            state.compacted = compacted;
            for revision in revisions {
                state.head = revision.revision;
                state.bytes += revision.bytes();
                state.revisions.push_back(Arc::new(revision));
            }
            while state.bytes > self.limit
                && let Some(oldest) = state.revisions.pop_front()
            {
                state.bytes -= oldest.bytes();
            }
            state.head
        };
        self.head
            .send_if_modified(|before| std::mem::replace(before, head) != head);
    }

    /// The revisions from `from` on, as many as fit `bytes`, at least one; none above `to`.
    pub(crate) fn take(&self, from: i64, to: i64, with_prev: bool, bytes: usize) -> Recent {
        let state = self.state.read();
        let first = state
            .revisions
            .front()
            .map_or(state.head + 1, |first| first.revision);
        let Ok(skip) = usize::try_from(from - first) else {
            return Recent::Gone;
        };
        let (mut taken, mut size) = (Vec::new(), 0);
        for revision in state.revisions.range(skip.min(state.revisions.len())..) {
            if revision.revision > to || (size > bytes && !taken.is_empty()) {
                break;
            }
            if with_prev && !revision.with_prev {
                break;
            }
            size += revision.bytes();
            taken.push(revision.clone());
        }
        if taken.is_empty() && from <= to.min(state.head) {
            return Recent::Gone;
        }
        Recent::Here(taken)
    }

    pub(crate) fn wants_prev(&self) -> bool {
        self.want_prev.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn more_want_prev(&self) {
        self.want_prev.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fewer_want_prev(&self) {
        self.want_prev.fetch_sub(1, Ordering::Relaxed);
    }
}
