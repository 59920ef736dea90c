//! How many keys the rest of a paged list has.
//!
//! Kubernetes takes `count` of every page to tell whether there are more. Counting the keys of
//! interleaved routes costs a scan of them, but at a pinned revision the count of the next page is
//! known: that of this page less what it held.
//!
//! Bound: [`CAPACITY`] entries with keys of [`LONGEST`] bytes together, the oldest goes first; what is
//! gone, or has longer keys, is counted again.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

const CAPACITY: usize = 4096;

/// The bytes of both keys of an entry: clients may send keys of megabytes.
const LONGEST: usize = 2048;

/// The rest of one list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Page {
    /// The topology that the list was read under.
    pub(super) generation: u64,
    /// The unified revision that the list is pinned at.
    pub(super) at: i64,
    /// The first key of the rest.
    pub(super) start: Bytes,
    pub(super) range_end: Bytes,
}

impl Page {
    /// With keys that hold neither a request nor an answer in memory.
    fn owned(&self) -> Self {
        Self {
            start: Bytes::copy_from_slice(&self.start),
            range_end: Bytes::copy_from_slice(&self.range_end),
            ..*self
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    known: Mutex<KnownCounts>,
}

#[derive(Debug, Default)]
struct KnownCounts {
    counts: HashMap<Page, i64>,
    by_age: VecDeque<Page>,
}

impl Pages {
    pub(super) fn count(&self, page: &Page) -> Option<i64> {
        self.known.lock().counts.get(page).copied()
    }

    pub(super) fn remember(&self, page: &Page, count: i64) {
        if page.start.len() + page.range_end.len() > LONGEST {
            return;
        }
        let page = page.owned();
        let mut known = self.known.lock();
        if known.counts.insert(page.clone(), count).is_none() {
            known.by_age.push_back(page);
        }
        while known.by_age.len() > CAPACITY {
            if let Some(oldest) = known.by_age.pop_front() {
                known.counts.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(at: i64) -> Page {
        Page {
            generation: 1,
            at,
            start: Bytes::from("a"),
            range_end: Bytes::from("b"),
        }
    }

    #[test]
    fn a_count_is_known_for_its_revision_only() {
        let pages = Pages::default();
        pages.remember(&page(5), 7);
        assert_eq!(pages.count(&page(5)), Some(7));
        assert_eq!(pages.count(&page(6)), None);
    }

    #[test]
    fn the_oldest_goes_first() {
        let pages = Pages::default();
        for at in 0..=i64::try_from(CAPACITY).unwrap() {
            pages.remember(&page(at), at);
            pages.remember(&page(at), at);
        }
        assert_eq!(pages.count(&page(0)), None);
        assert_eq!(pages.count(&page(1)), Some(1));
        assert_eq!(pages.known.lock().counts.len(), CAPACITY);
    }

    #[test]
    fn what_is_remembered_holds_no_request() {
        let (pages, request) = (Pages::default(), Bytes::from(vec![b'k'; 8192]));
        let of_request = Page {
            start: request.slice(..10),
            range_end: request.slice(10..20),
            ..page(5)
        };
        pages.remember(&of_request, 7);
        assert_eq!(pages.count(&of_request), Some(7));
        drop(of_request);
        assert!(request.is_unique());
    }

    #[test]
    fn long_keys_are_not_remembered() {
        let pages = Pages::default();
        let long = Page {
            start: Bytes::from(vec![b'k'; LONGEST]),
            ..page(5)
        };
        pages.remember(&long, 7);
        assert_eq!(pages.count(&long), None);
    }
}
