//! Range: which keys an answer holds, in which order (`server/etcdserver/txn/range.go`).

use keyloom_etcd_api::{EtcdError, KeyRange, etcdserverpb::RangeRequest, mvccpb::KeyValue};
use keyloom_etcd_semantics::range::{Order, Sorting, has_filters, limit, passes};

use crate::{
    error::Stop,
    key_counts::{Glance, KeyCounts},
    session::{At, Marks, Row, Session, Sql, Values},
    wire::Sink,
};

/// What a range may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// As committed, or as the transactions before this one in its batch left them.
    pub(crate) marks: &'a Marks,
    /// The newest revision that the reader sees: one above the marks' for a transaction that
    /// has changed something.
    pub(crate) seen: i64,
    /// Counts without looking at every key. The writer, inside of a transaction, has none.
    pub(crate) glance: Option<(&'a KeyCounts, &'a Glance)>,
}

/// What an answer says beside its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranged {
    pub(crate) more: bool,
    pub(crate) count: i64,
}

impl Scope<'_> {
    /// The revision to read at for a request that names `revision`.
    fn read_at(&self, revision: i64) -> Result<i64, EtcdError> {
        if revision > self.seen {
            return Err(EtcdError::FutureRev);
        }
        let at = if revision <= 0 { self.seen } else { revision };
        if at < self.marks.compacted {
            return Err(EtcdError::Compacted);
        }
        Ok(at)
    }

    fn place<S: Session>(&self, session: &mut S, revision: i64) -> Result<At, Stop> {
        let at = self.read_at(revision)?;
        Ok(if at == self.seen {
            At::Now
        } else {
            At::After(session.seq_at(at, self.marks)?)
        })
    }

    fn count<S: Session>(&self, session: &mut S, keys: &KeyRange, at: At) -> Sql<i64> {
        match self.glance {
            Some((key_counts, glance)) => glance.count(key_counts, session, keys, at, self.marks),
            None => session.count(keys, at),
        }
    }
}

/// Answers a request that passed its checks.
pub(crate) fn range<S: Session>(
    session: &mut S,
    scope: &Scope<'_>,
    request: &RangeRequest,
    sink: &mut impl Sink,
) -> Result<Ranged, Stop> {
    let at = scope.place(session, request.revision)?;
    let keys = KeyRange::from_request(&request.key, &request.range_end);
    if request.count_only {
        let count = scope.count(session, &keys, at)?;
        return Ok(Ranged { more: false, count });
    }
    let (more, counted) = match Order::of(request) {
        Order::ByKey => streamed(session, &keys, at, request, sink)?,
        Order::CutThenSorted(sorting) | Order::Sorted(sorting) => {
            sorted(session, &keys, at, request, sorting, sink)?
        }
    };
    let count = match counted {
        Some(count) => count,
        None => scope.count(session, &keys, at)?,
    };
    Ok(Ranged { more, count })
}

/// In the order of keys: the scan ends with the first key that is one too many. The count is
/// known where it did not.
fn streamed<S: Session>(
    session: &mut S,
    keys: &KeyRange,
    at: At,
    request: &RangeRequest,
    sink: &mut impl Sink,
) -> Result<(bool, Option<i64>), Stop> {
    let limit = limit(request).unwrap_or(usize::MAX);
    let values = if request.keys_only {
        Values::Leave
    } else {
        Values::Read
    };
    let (filters, single) = (has_filters(request), keys.is_single_key());
    let (mut given, mut met, mut more) = (0, 0, false);
    session.scan(keys, at, values, &mut |row| {
        if filters && !passes(request, row) {
            met += 1;
            return true;
        }
        if given == limit {
            more = true;
            return false;
        }
        sink.push(row);
        given += 1;
        met += 1;
        !single
    })?;
    Ok((more, (!more).then_some(met)))
}

/// In another order: everything that is looked at has to be there before the first can be given.
fn sorted<S: Session>(
    session: &mut S,
    keys: &KeyRange,
    at: At,
    request: &RangeRequest,
    sorting: Sorting,
    sink: &mut impl Sink,
) -> Result<(bool, Option<i64>), Stop> {
    let (order, limit) = (Order::of(request), limit(request));
    // With an order or a filter etcd looks at every key, otherwise only at one more than asked.
    let looked_at = match limit {
        Some(limit) if order.cuts_by_key() => limit.saturating_add(1),
        _ => usize::MAX,
    };
    let values = if request.keys_only && !order.reads_values() {
        Values::Leave
    } else {
        Values::Read
    };
    let (mut kvs, mut met) = (Vec::new(), 0_usize);
    session.scan(keys, at, values, &mut |row| {
        met += 1;
        if passes(request, row) {
            kvs.push(row.to_key_value());
        }
        met < looked_at
    })?;
    sorting.sort(&mut kvs);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    for kv in kvs.iter().take(limit.unwrap_or(usize::MAX)) {
        sink.push(&borrow(kv, request.keys_only));
    }
    let all = (met < looked_at).then(|| i64::try_from(met).unwrap_or(i64::MAX));
    Ok((more, all))
}

fn borrow(kv: &KeyValue, keys_only: bool) -> Row<'_> {
    Row {
        key: &kv.key,
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
        value: if keys_only { &[] } else { &kv.value },
    }
}
