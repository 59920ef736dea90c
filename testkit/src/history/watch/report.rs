//! What a checker found, for people.

use std::fmt;

use super::Watcher;

/// What a watch promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Responses belong to watchers that were created and are not canceled, and every response to
    /// a create request comes in the order of the requests.
    Framed,
    Filter,
    Ordered,
    Unique,
    Atomic,
    Bookmarkable,
    Reliable,
    Resumable,
    PrevKv,
    IsCreate,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property:?} is broken, {place}: {what}")]
pub struct Broken {
    pub property: Property,
    /// Which watcher, in words.
    pub place: String,
    pub what: String,
}

impl Broken {
    pub(super) fn at(property: Property, watcher: &Watcher, what: fmt::Arguments<'_>) -> Self {
        let request = &watcher.request;
        Self {
            property,
            place: format!(
                "client {}, watch {:?} of {:?} to {:?} from {} (asked at {})",
                watcher.client,
                watcher.id,
                request.key,
                request.range_end,
                request.start_revision,
                watcher.asked
            ),
            what: what.to_string(),
        }
    }
}
