//! Whether watches kept etcd's promises, by the names of etcd's own robustness tests.
//!
//! | property | what it says |
//! |---|---|
//! | [`filter`] | every event is one that was asked for |
//! | [`ordered`] | events never go back in revision |
//! | [`unique`] | no event twice |
//! | [`atomic`] | the events of one revision come in one response (fragments are one response) |
//! | [`bookmarkable`] | nothing at or below an announced revision comes after it |
//! | [`reliable`] | between its start and what it was told last, a watcher misses nothing |
//! | [`resumable`] | a watcher gets everything from its start revision on and nothing before, or is told `compacted` where that was compacted |
//! | [`prev_kv`] | the value before is the value before |
//! | [`is_create`] | create revisions and versions are right |
//!
//! The first five look at a watcher alone, the others hold it against a [`Replay`] of what
//! happened. [`check_watches`] applies all of them.
//!
//! ```
//! use keyloom_testkit::{
//!     history::{Facts, Recorder, check_watches},
//!     model::{Etcd, Keyspace, WatchStream},
//! };
//! use keyloom_etcd_api::etcdserverpb::{
//!     PutRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion,
//! };
//!
//! let (recorder, mut etcd) = (Recorder::default(), Etcd::default());
//! let (stream, mut served) = (recorder.open(7), WatchStream::default());
//! let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
//! let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
//! stream.asked(&request);
//! served.request(&etcd, request).iter().for_each(|response| stream.told(response));
//! etcd.put(&PutRequest { key: "a".into(), ..Default::default() }).unwrap();
//! served.deliver(&etcd).iter().for_each(|response| stream.told(response));
//!
//! let history = recorder.history();
//! let watchers = history.watchers().unwrap();
//! let facts = Facts::gather(&history, &watchers, Keyspace::default()).unwrap();
//! assert!(check_watches(&watchers, &facts).is_empty());
//! ```

mod report;
mod watcher;

mod replay;

mod alone;
mod replayed;

pub use alone::{atomic, bookmarkable, filter, ordered, unique};
pub use replay::{Facts, Replay};
pub use replayed::{is_create, lost_values, prev_kv, reliable, resumable};
pub use report::{Broken, Property};
pub use watcher::{Canceled, Response, Watcher};

use super::{History, Message, Operation, Outcome};

/// Applies every checker to every watcher, and gives back all that is broken.
#[must_use]
pub fn check_watches(watchers: &[Watcher], facts: &Facts) -> Vec<Broken> {
    let check = |watcher: &Watcher| {
        [
            filter(watcher),
            ordered(watcher),
            unique(watcher),
            atomic(watcher),
            bookmarkable(watcher, facts.headers_are_bookmarks),
            reliable(watcher, facts),
            resumable(watcher, facts),
            prev_kv(watcher, facts),
            is_create(watcher, facts),
        ]
    };
    let checked = watchers.iter().flat_map(check);
    checked.filter_map(Result::err).collect()
}

#[cfg(test)]
mod tests;
