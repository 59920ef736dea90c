//! One answer from the parts of a range.

use bytes::Bytes;
use keyloom_etcd_api::{etcdserverpb::RangeRequest, wire::RawKv};
use keyloom_etcd_semantics::range::{self, Order};
use keyloom_planted::{Bug, planted};

use crate::read::PartAnswer;

/// The answer to a range that was read in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    pub kvs: Vec<RawKv>,
    /// Whether the limit kept keys out.
    pub more: bool,
    /// The keys in the range, whatever the limit and the filters. Only as good as the parts':
    /// those that were read without a count add nothing.
    pub count: i64,
}

/// Leaves out the keys that [`join`] would leave out for the limit, where the order of keys alone says
/// which: what follows is then done for the others only. Revisions are not looked at.
pub fn trim(parts: &mut [PartAnswer], query: &RangeRequest) {
    let Some(limit) = range::limit(query).filter(|_| Order::of(query).cuts_by_key()) else {
        return;
    };
    let all = parts.iter().flat_map(|part| &part.kvs);
    let mut keys: Vec<&Bytes> = all.map(|kv| &kv.key).collect();
    if keys.len() <= limit {
        return;
    }
    // One more than the limit stays, which shows that there is more.
    let (_, first_out, _) = keys.select_nth_unstable(limit);
    let first_out = Bytes::clone(first_out);
    for part in parts {
        let keeps = |key: &Bytes| *key < first_out || !planted(Bug::MoreWrong);
        part.kvs.retain(|kv| kv.key <= first_out && keeps(&kv.key));
    }
}

/// Joins the parts of a range as etcd would have answered it from one store.
///
/// `query` is the client's request, and the revisions in `parts` are unified ones.
#[must_use]
pub fn join(parts: Vec<PartAnswer>, query: &RangeRequest) -> Joined {
    let count = parts
        .iter()
        .filter_map(|part| part.count)
        .take(if planted(Bug::CountWrong) {
            1
        } else {
            usize::MAX
        })
        .fold(0, i64::saturating_add);
    if query.count_only {
        return Joined {
            count,
            ..Joined::default()
        };
    }
    let mut kvs: Vec<RawKv> = parts.into_iter().flat_map(|part| part.kvs).collect();
    // Sorted runs, one for each store: the sort finds and merges them.
    kvs.sort_by(|a, b| a.key.cmp(&b.key));
    let order = Order::of(query);
    let limit = range::limit(query).unwrap_or(usize::MAX);
    match order {
        Order::ByKey => {}
        Order::CutThenSorted(sorting) => {
            kvs.truncate(limit.saturating_add(1));
            sorting.sort(&mut kvs);
        }
        Order::Sorted(sorting) => sorting.sort(&mut kvs),
    }
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if planted(Bug::PageDropsKey) && more {
        kvs.pop();
    }
    if query.keys_only && order.reads_values() {
        kvs = kvs.into_iter().map(|kv| kv.without_value()).collect();
    }
    Joined { kvs, more, count }
}

#[cfg(test)]
mod tests;
