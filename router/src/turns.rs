//! A page of a merged list, read from few stores: the keys of most pages lie on one or two of them.
//!
//! ```text
//!   the part that begins first: read      ─┐  every key of the page known? ── yes ──► join
//!   the others: their first keys alone    ─┘       │ no
//!                                                  ▼
//!                   the part whose next key is the smallest: read ── known? ── yes ──► join
//!                                                                      │ no
//!                                                                      ▼
//!                                                       all that may have more: read ──► join
//! ```
//!
//! Three rounds at most, and for most pages one. Everything is read at one revision, so it does not
//! matter when. Every part is read at once without a limit, where the order of keys alone does not say
//! what is in a page, and where the stores' keys alternate so often that a page has some of each.

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::RangeRequest;
use keyloom_etcd_semantics::range::{self, Order};
use keyloom_topology::{Cuts, Part};

use crate::read::PartAnswer;

/// Below this a page is no larger than what is asked of every part anyhow.
const SMALL: usize = 16;

/// With more intervals for each part, a page is taken to have keys of every part.
const FEW: usize = 4;

/// The place of the part to read first, where the others can wait until that is known to be too
/// little.
#[must_use]
pub fn first_part(parts: &[Part], query: &RangeRequest) -> Option<usize> {
    let limit = range::limit(query)?;
    let can_wait = parts.len() > 1
        && limit > SMALL
        && !query.count_only
        && !range::has_filters(query)
        && Order::of(query).cuts_by_key()
        // Their keys are found by scans, whose length is not known beforehand.
        && parts.iter().all(|part| part.cuts != Cuts::Filter)
        && parts.iter().map(intervals).sum::<usize>() <= FEW * parts.len();
    let places = parts.iter().enumerate().filter(|_| can_wait);
    let (first, _) = places.min_by_key(|(_, part)| begin(part))?;
    Some(first)
}

fn intervals(part: &Part) -> usize {
    match &part.cuts {
        Cuts::Whole | Cuts::Filter => 1,
        Cuts::Intervals(intervals) => intervals.len(),
    }
}

fn begin(part: &Part) -> &Bytes {
    match &part.cuts {
        Cuts::Intervals(intervals) => intervals.first().map_or(&part.hull.start, |it| &it.start),
        Cuts::Whole | Cuts::Filter => &part.hull.start,
    }
}

/// The query that finds the first keys of a part, and whether there are more.
#[must_use]
pub fn first_keys(query: &RangeRequest) -> RangeRequest {
    RangeRequest {
        limit: 1,
        ..query.clone()
    }
}

/// What is known of a part.
#[derive(Clone, Debug)]
pub struct Known {
    pub answer: PartAnswer,
    /// Whether the whole query was read, instead of [`first_keys`].
    pub whole: bool,
}

impl Known {
    /// Behind this key there may be others that nobody read. A part that is read whole has as many
    /// as can be in the page.
    fn unread_behind(&self) -> Option<&Bytes> {
        let shown = &self.answer.kvs;
        // One more than the limit of `first_keys`.
        let may_have_more = !self.whole && shown.len() > 1;
        shown.last().filter(|_| may_have_more).map(|kv| &kv.key)
    }
}

/// The places of the parts that may have more of the page than is known, the smallest keys first.
#[must_use]
pub fn wanted(known: &[Known], query: &RangeRequest) -> Vec<usize> {
    let last = last_of_page(known, query);
    let unread = known.iter().enumerate().filter_map(|(place, part)| {
        let behind = part.unread_behind()?;
        // What nobody read is larger still.
        last.is_none_or(|last| behind < last)
            .then_some((behind, place))
    });
    let mut unread: Vec<_> = unread.collect();
    unread.sort_unstable();
    unread.into_iter().map(|(_, place)| place).collect()
}

/// The key that shows that there is more than the limit: none behind it matters. `None` where too
/// few are known.
fn last_of_page<'a>(known: &'a [Known], query: &RangeRequest) -> Option<&'a Bytes> {
    let limit = range::limit(query)?;
    let all = known.iter().flat_map(|part| &part.answer.kvs);
    let mut keys: Vec<&Bytes> = all.map(|kv| &kv.key).collect();
    if keys.len() <= limit {
        return None;
    }
    let (_, last, _) = keys.select_nth_unstable(limit);
    Some(*last)
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::{KeyRange, mvccpb::KeyValue, wire::RawKv};
    use keyloom_topology::StoreIndex;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::join;

    fn page(limit: i64) -> RangeRequest {
        RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit,
            ..RangeRequest::default()
        }
    }

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    fn parts(second: Cuts) -> Vec<Part> {
        let intervals = vec![range("c", "d"), range("e", "f")];
        let part = |store, start, cuts| Part {
            store: StoreIndex(store),
            hull: range(start, "z"),
            cuts,
        };
        vec![
            part(0, "a", Cuts::Intervals(intervals)),
            part(1, "b", second),
            part(2, "f", Cuts::Whole),
        ]
    }

    #[test]
    fn the_part_that_begins_first_is_read_first() {
        assert_eq!(first_part(&parts(Cuts::Whole), &page(500)), Some(1));
        let later = Cuts::Intervals(vec![range("d", "e"), range("f", "g")]);
        assert_eq!(first_part(&parts(later), &page(500)), Some(0));
    }

    #[test]
    fn what_cannot_wait_is_read_at_once() {
        let whole = parts(Cuts::Whole);
        assert_eq!(first_part(&parts(Cuts::Filter), &page(500)), None);
        assert_eq!(first_part(&whole[..1], &page(500)), None);
        let many = vec![range("d", "e"); 3 * FEW];
        assert_eq!(first_part(&parts(Cuts::Intervals(many)), &page(500)), None);
        let small = i64::try_from(SMALL).unwrap();
        for query in [
            page(0),
            page(small),
            RangeRequest {
                count_only: true,
                ..page(500)
            },
            RangeRequest {
                min_mod_revision: 1,
                ..page(500)
            },
            RangeRequest {
                sort_order: 2,
                ..page(500)
            },
        ] {
            assert_eq!(first_part(&whole, &query), None, "{query:?}");
        }
    }

    /// What a store answers: one key more than the limit.
    fn read(store: usize, keys: &[u16], query: &RangeRequest) -> PartAnswer {
        let enough = usize::try_from(query.limit).unwrap() + 1;
        let kv = |key: &u16| {
            let kv = KeyValue {
                key: key.to_be_bytes().to_vec().into(),
                ..KeyValue::default()
            };
            RawKv::parse(kv.encode_to_vec().into()).unwrap()
        };
        PartAnswer {
            store: StoreIndex(u16::try_from(store).unwrap()),
            kvs: keys.iter().take(enough).map(kv).collect(),
            count: Some(keys.len().try_into().unwrap()),
        }
    }

    proptest! {
        /// Whichever part is read first, the page is what reading all of them whole gives.
        #[test]
        fn in_three_rounds_the_page_is_whole(
            stores in prop::collection::vec(0..4_usize, 0..60),
            limit in 1..40_i64,
            first in 0..4_usize,
        ) {
            let query = page(limit);
            let keys = |store| -> Vec<u16> {
                let own = (0..).zip(&stores).filter(|(_, other)| **other == store);
                own.map(|(key, _)| key).collect()
            };
            let part = |store, whole| {
                let query = if whole { query.clone() } else { first_keys(&query) };
                Known { answer: read(store, &keys(store), &query), whole }
            };
            let mut known: Vec<_> = (0..4).map(|store| part(store, store == first)).collect();
            for at_once in [1, usize::MAX] {
                for place in wanted(&known, &query).into_iter().take(at_once) {
                    known[place] = part(place, true);
                }
            }
            prop_assert_eq!(wanted(&known, &query), Vec::<usize>::new());
            let found = known.into_iter().map(|known| known.answer).collect();
            let all = (0..4).map(|store| part(store, true).answer).collect();
            prop_assert_eq!(join(found, &query), join(all, &query));
        }
    }
}
