//! The stores that a request concerns, or why it is refused.
//!
//! A request goes to one store as it stands only where that store holds everything that the
//! request can touch, and nothing there is to be hidden. Everything else is merged from parts, read
//! from a snapshot, split, or refused.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request},
};
use keyloom_topology::{Cuts, Part, StoreIndex};

use crate::routes::Routes;

/// Where a range is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangePlan {
    /// On this store, with the request as it is.
    One(StoreIndex),
    /// In these parts, one for each store; none where no key can be in the range.
    Merged(Vec<Part>),
}

/// Where keys are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletePlan {
    /// Nowhere: no key can be in the range.
    Nothing,
    /// On this store, with the request as it is.
    One(StoreIndex),
    /// In these parts, each for itself.
    Split(Vec<Part>),
}

/// Where a transaction runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnPlan {
    /// On this store, as a whole.
    One(StoreIndex),
    /// It only reads, and not whole ranges of one store: it is answered from a snapshot.
    Snapshot,
    Refused(Refused),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A transaction that could write touches two stores.
    #[error("etcdserver: keyloom: transaction spans stores: {0}, {1}")]
    Spans(Box<Segment>, Box<Segment>),
    /// A transaction that could write touches a range in which the store also holds what clients
    /// must not see.
    #[error("etcdserver: keyloom: transaction with writes touches keys reserved for keyloom: {0}")]
    Cut(Box<Segment>),
    /// A key of Keyloom's own. Clients are told no more than `etcdserver: permission denied`.
    #[error("etcdserver: keyloom: {} is reserved for keyloom", Shown(.0))]
    Reserved(KeyRange),
}

/// A range that a request touches, and the store on which it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub range: KeyRange,
    /// The name of the store.
    pub store: String,
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is on store {:?}", Shown(&self.range), self.store)
    }
}

/// A key or range as text, with every byte that is not printable escaped.
struct Shown<'a>(&'a KeyRange);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = self.0.start.escape_ascii();
        match &self.0.end {
            _ if self.0.is_single_key() => write!(f, "key \"{start}\""),
            Some(end) => write!(f, "range \"{start}\" to \"{}\"", end.escape_ascii()),
            None => write!(f, "range from \"{start}\""),
        }
    }
}

/// Where the keys of a range request are.
#[must_use]
pub fn plan_range<R: Routes + ?Sized>(routes: &R, request: &RangeRequest) -> RangePlan {
    match Standing::of(routes, &request.key, &request.range_end) {
        Standing::Nowhere | Standing::Reserved => RangePlan::Merged(Vec::new()),
        Standing::On(store) => RangePlan::One(store),
        Standing::Cut(parts) => RangePlan::Merged(parts),
    }
}

/// Where a key is written.
///
/// # Errors
/// [`Refused::Reserved`].
pub fn plan_put<R: Routes + ?Sized>(routes: &R, key: &Bytes) -> Result<StoreIndex, Refused> {
    routes
        .route(key)
        .ok_or_else(|| Refused::Reserved(KeyRange::key(key.clone())))
}

/// Where the keys of a delete request are.
#[must_use]
pub fn plan_delete<R: Routes + ?Sized>(routes: &R, request: &DeleteRangeRequest) -> DeletePlan {
    match Standing::of(routes, &request.key, &request.range_end) {
        Standing::Nowhere | Standing::Reserved => DeletePlan::Nothing,
        Standing::On(store) => DeletePlan::One(store),
        Standing::Cut(parts) => DeletePlan::Split(parts),
    }
}

/// Where a transaction runs. Both of its branches count, and those of every transaction inside it:
/// which ones run is known only when they do.
#[must_use]
pub fn plan_txn<R: Routes + ?Sized>(routes: &R, txn: &TxnRequest) -> TxnPlan {
    let mut walk = Walk {
        routes,
        writes: writes(txn),
        home: None,
    };
    match walk.txn(txn) {
        Ok(()) => TxnPlan::One(
            walk.home
                .map_or_else(|| routes.default_store(), |home| home.store),
        ),
        Err(plan) => *plan,
    }
}

/// Whether a transaction could write.
fn writes(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => true,
            Some(Request::RequestTxn(txn)) => writes(txn),
            Some(Request::RequestRange(_)) | None => false,
        })
}

/// How a key or range stands to the stores.
enum Standing {
    /// No key can be in it.
    Nowhere,
    /// All of it is Keyloom's own.
    Reserved,
    /// It is one store's, and all of what this store holds in it is the client's.
    On(StoreIndex),
    /// Anything else.
    Cut(Vec<Part>),
}

impl Standing {
    fn of<R: Routes + ?Sized>(routes: &R, key: &Bytes, range_end: &Bytes) -> Self {
        if range_end.is_empty() {
            return routes.route(key).map_or(Self::Reserved, Self::On);
        }
        let range = KeyRange::from_request(key, range_end);
        if range.is_empty() {
            return Self::Nowhere;
        }
        let parts = routes.cover(&range);
        match parts.as_slice() {
            [] => Self::Reserved,
            [
                Part {
                    store,
                    hull,
                    cuts: Cuts::Whole,
                },
            ] if hull.covers(&range) => Self::On(*store),
            _ => Self::Cut(parts),
        }
    }
}

/// The first thing that a transaction was seen to touch; all others must be on its store.
struct Home<'a> {
    store: StoreIndex,
    key: &'a Bytes,
    range_end: &'a Bytes,
}

/// A walk over everything that a transaction could touch. It stops with the plan as soon as that
/// cannot be [`TxnPlan::One`] any more.
struct Walk<'a, R: ?Sized> {
    routes: &'a R,
    writes: bool,
    home: Option<Home<'a>>,
}

type Stop = Result<(), Box<TxnPlan>>;

impl<'a, R: Routes + ?Sized> Walk<'a, R> {
    fn txn(&mut self, txn: &'a TxnRequest) -> Stop {
        for compare in &txn.compare {
            self.touch(&compare.key, &compare.range_end)?;
        }
        let mut ops = txn.success.iter().chain(&txn.failure);
        ops.try_for_each(|op| self.op(op))
    }

    fn op(&mut self, op: &'a RequestOp) -> Stop {
        match &op.request {
            Some(Request::RequestRange(range)) => self.touch(&range.key, &range.range_end),
            Some(Request::RequestPut(put)) => self.touch(&put.key, &EMPTY),
            Some(Request::RequestDeleteRange(delete)) => self.touch(&delete.key, &delete.range_end),
            Some(Request::RequestTxn(txn)) => self.txn(txn),
            None => Ok(()),
        }
    }

    fn touch(&mut self, key: &'a Bytes, range_end: &'a Bytes) -> Stop {
        if let Some(home) = &self.home
            && (home.key, home.range_end) == (key, range_end)
        {
            // Kubernetes compares, writes and reads the same key.
            return Ok(());
        }
        match Standing::of(self.routes, key, range_end) {
            Standing::Nowhere => Ok(()),
            Standing::On(store) => self.on(store, key, range_end),
            Standing::Reserved => {
                Err(self.stop(|_| Refused::Reserved(KeyRange::from_request(key, range_end))))
            }
            Standing::Cut(parts) => Err(self.stop(|walk| {
                let place = |part: &Part| walk.segment(part.store, key, range_end);
                match (parts.first(), parts.get(1)) {
                    (Some(a), Some(b)) => Refused::Spans(place(a), place(b)),
                    (Some(only), None) => Refused::Cut(place(only)),
                    (None, _) => Refused::Reserved(KeyRange::from_request(key, range_end)),
                }
            })),
        }
    }

    fn on(&mut self, store: StoreIndex, key: &'a Bytes, range_end: &'a Bytes) -> Stop {
        match &self.home {
            Some(home) if home.store != store => Err(self.stop(|walk| {
                Refused::Spans(
                    walk.segment(home.store, home.key, home.range_end),
                    walk.segment(store, key, range_end),
                )
            })),
            Some(_) => Ok(()),
            None => {
                self.home = Some(Home {
                    store,
                    key,
                    range_end,
                });
                Ok(())
            }
        }
    }

    fn stop(&self, why: impl FnOnce(&Self) -> Refused) -> Box<TxnPlan> {
        Box::new(if self.writes {
            TxnPlan::Refused(why(self))
        } else {
            TxnPlan::Snapshot
        })
    }

    fn segment(&self, store: StoreIndex, key: &Bytes, range_end: &Bytes) -> Box<Segment> {
        Box::new(Segment {
            range: KeyRange::from_request(key, range_end),
            store: self.routes.name(store).to_owned(),
        })
    }
}

/// The `range_end` of a single key.
static EMPTY: Bytes = Bytes::new();

#[cfg(test)]
mod tests;
