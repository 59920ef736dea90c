//! The ledger under its lock, and what may wait for it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keyloom_etcd_api::EtcdError;
use keyloom_ledger::{Ledger, StoreRev, StoreSlot, UnifiedRev, WentBack};
use keyloom_planted::{Bug, planted};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// A store revision this far above the last known one is not believed: the ledger would count
/// every number in between. A restore with `etcdutl --bump-revision` moves by 2^30 by default.
const LARGEST_STEP: i64 = 1 << 36;

const DEFAULT_STORE: StoreSlot = StoreSlot::DEFAULT;

/// Why the order cannot take an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    /// The store lost revisions that clients have seen.
    #[error(
        "went back: it answered at revision {answered} after revision {known} was seen. It was \
         restored or lost data, and takes no calls until Keyloom is restarted on a mended store"
    )]
    WentBack { known: i64, answered: i64 },
    /// The answer cannot be true.
    #[error("answered at revision {answered}, which cannot follow revision {known}")]
    Nonsense { known: i64, answered: i64 },
    /// Another cluster answers under the store's name.
    #[error("is cluster {known:x}, and cluster {answered:x} answers under its name")]
    Stranger { known: u64, answered: u64 },
    /// The store has not answered since the start, when the order of its last writes was lost.
    #[error("has not answered since the start, and cannot be read before it is known what it has")]
    Absent,
    /// A store has just returned, or its floor was raised.
    #[error("waits until a change of a store's place is written to the ledger")]
    Recording,
    /// The right to answer was not renewed in time.
    #[error("the term was not renewed in time: the default store does not answer")]
    TermOver,
    /// This instance no longer owns the ledger.
    #[error("the ledger can no longer be written: {0}")]
    Stopped(String),
}

/// What an answer of a store says of its revisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) slot: StoreSlot,
    /// The header's revision.
    pub(crate) revision: StoreRev,
    /// Whether the call wrote, so that `revision` is its own.
    pub(crate) wrote: bool,
    /// What [`Merged::admit`] gave before the call; `None` for a serializable read, which may be
    /// behind.
    pub(crate) known: Option<StoreRev>,
    /// Whether the store's own watch says so, and not an answer to a call.
    pub(crate) is_delivery: bool,
}

/// Where an answer has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) slot: StoreSlot,
    /// The store revision of the answer's header.
    pub(crate) revision: StoreRev,
    /// The header revision to send.
    pub(crate) unified: UnifiedRev,
}

/// A consistent cut through all stores.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// The unified revision of the cut.
    pub(crate) at: UnifiedRev,
    vector: BTreeMap<StoreSlot, StoreRev>,
}

impl Cut {
    /// The revision at which the cut reads a store.
    pub(crate) fn of(&self, slot: StoreSlot) -> Option<StoreRev> {
        self.vector.get(&slot).copied()
    }
}

/// The order of several stores.
#[derive(Debug)]
pub(crate) struct Merged {
    inner: RwLock<Inner>,
    /// Told when an own write ended, the reservation grew or the order stopped.
    changed: Notify,
    /// Told when the keeper should write soon.
    pub(super) nudge: Notify,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ledger: Ledger,
    /// Whether one of Keyloom's own writes is in flight, its revision unknown.
    pub(super) own_write: bool,
    /// No unified revision above this one may leave.
    pub(super) reserved: UnifiedRev,
    /// Whether the ledger holds a change that must be written before anything leaves: a crash in
    /// between could give the same numbers another meaning.
    pub(super) must_record: bool,
    /// The accepted topology, where it is not written yet; it goes with the ledger's next whole
    /// write, so that a crash leaves both as they were or both as they are.
    pub(super) accepted: Option<Bytes>,
    /// When the term ends: nothing leaves from then on.
    pub(super) until: Instant,
    /// Why nothing may leave any more.
    stopped: Option<String>,
    shut_out: BTreeMap<StoreSlot, OrderError>,
    /// Stores whose revisions take their places when their watches deliver them.
    pub(super) by_delivery: BTreeSet<StoreSlot>,
}

impl Merged {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            inner: RwLock::new(Inner {
                ledger,
                own_write: false,
                must_record: false,
                accepted: None,
                reserved: UnifiedRev::new(0),
                // Nothing leaves before the first own write reserved its revisions.
                until: Instant::now(),
                stopped: None,
                shut_out: BTreeMap::new(),
                by_delivery: BTreeSet::new(),
            }),
            changed: Notify::new(),
            nudge: Notify::new(),
        }
    }

    /// The ledger, for translations; hold it for no longer than one message takes.
    pub(super) fn ledger(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read()
    }

    /// The newest unified revision that may be told.
    pub(crate) fn head(&self) -> UnifiedRev {
        self.inner.read().head()
    }

    /// The unified revision below which nothing can be read.
    pub(crate) fn compacted(&self) -> UnifiedRev {
        self.inner.read().ledger.compacted()
    }

    /// Where a store is compacted for a compaction at `at`. A watch may still begin there: of the
    /// store's revision at `at` itself nothing must go, and the cut at `at` may be above it, on one
    /// of Keyloom's own writes.
    pub(crate) fn store_to_compact(&self, slot: StoreSlot, at: UnifiedRev) -> StoreRev {
        let inner = self.inner.read();
        if planted(Bug::CompactsAhead) {
            return inner.ledger.frontier(slot);
        }
        let exact = inner.ledger.store_exact(slot, at);
        exact.unwrap_or_else(|| inner.ledger.store_at(slot, at))
    }

    /// Allows a call to a store and returns the revision that its answer must reach.
    ///
    /// # Errors
    /// Where the store was shut out.
    pub(crate) fn admit(&self, slot: StoreSlot) -> Result<StoreRev, OrderError> {
        let inner = self.inner.read();
        match inner.alive() {
            // The answer waits for that.
            Ok(()) | Err(OrderError::Recording) => {}
            Err(error) => return Err(error),
        }
        match inner.shut_out.get(&slot) {
            Some(error) => Err(error.clone()),
            None => Ok(inner.ledger.frontier(slot)),
        }
    }

    /// Gives an answer its place, waiting until the ledger can cover it (invariants 1 to 3).
    ///
    /// # Errors
    /// Where the store went back, where the answer cannot be true, or where this instance lost
    /// the ledger.
    pub(crate) async fn sequence(&self, answered: Answered) -> Result<Sequenced, OrderError> {
        // Nearly every answer has its place at once.
        if let Some(sequenced) = self.inner.write().try_sequence(answered)? {
            return Ok(sequenced);
        }
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(sequenced) = self.inner.write().try_sequence(answered)? {
                return Ok(sequenced);
            }
            self.nudge.notify_one();
            changed.await;
        }
    }

    /// The cut at `revision`, or at the head where that is 0 or less, for the given stores.
    ///
    /// # Errors
    /// [`EtcdError::FutureRev`] and [`EtcdError::Compacted`], as etcd.
    pub(crate) fn cut(
        &self,
        revision: i64,
        slots: impl IntoIterator<Item = StoreSlot>,
    ) -> Result<Cut, EtcdError> {
        let inner = self.inner.read();
        let head = inner.head();
        let at = if revision <= 0 {
            head
        } else {
            UnifiedRev::new(revision)
        };
        if at > head {
            return Err(EtcdError::FutureRev);
        }
        if at < inner.ledger.compacted() {
            return Err(EtcdError::Compacted);
        }
        let mut vector = BTreeMap::new();
        for slot in slots {
            if at < inner.ledger.floor(slot) {
                return Err(EtcdError::Compacted);
            }
            vector.insert(slot, inner.ledger.store_at(slot, at));
        }
        Ok(Cut { at, vector })
    }

    /// Changes the ledger, and wakes whatever waits for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let result = change(&mut self.inner.write());
        self.changed.notify_waiters();
        result
    }

    /// Waits while a change of the ledger is being written, and then says whether an answer may
    /// leave.
    ///
    /// # Errors
    /// As [`Self::may_leave`].
    pub(crate) async fn until_may_leave(&self) -> Result<(), OrderError> {
        loop {
            match self.may_leave() {
                Err(OrderError::Recording) => {}
                other => return other,
            }
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = {
                let inner = self.inner.read();
                match inner.alive() {
                    Err(OrderError::Recording) => inner.until,
                    other => return other,
                }
            };
            self.nudge.notify_one();
            tokio::select! {
                () = changed => {}
                // (Whoever ignores the end of the term does not wait for it either.)
                () = sleep_until(until), if !planted(Bug::TermIgnored) => {}
            }
        }
    }

    /// Waits until the term is over.
    pub(crate) async fn until_term_over(&self) {
        loop {
            let until = self.inner.read().until;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Lets nothing leave any more.
    pub(crate) fn stop(&self, why: &str) {
        self.change(|inner| {
            inner.stopped.get_or_insert_with(|| why.to_owned());
        });
    }

    /// Why nothing may leave any more.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.inner.read().stopped.clone()
    }

    /// Whether an answer may leave now.
    ///
    /// # Errors
    /// Where the term is over, the order has stopped, or a change is being written.
    pub(crate) fn may_leave(&self) -> Result<(), OrderError> {
        self.inner.read().alive()
    }

    /// A store that was absent when the order was lost stands at `revision`. Where it has something
    /// new, nothing leaves until that is written.
    ///
    /// # Errors
    /// Where it went back.
    pub(super) fn return_of(
        &self,
        slot: StoreSlot,
        revision: StoreRev,
    ) -> Result<Option<UnifiedRev>, WentBack> {
        self.change(|inner| {
            let returned = inner.ledger.return_of(slot, revision);
            // Another store's return may wait to be written.
            inner.must_record |= matches!(returned, Ok(Some(_)));
            returned
        })
    }

    /// Takes calls to a store again.
    pub(super) fn let_in(&self, slot: StoreSlot) {
        self.inner.write().shut_out.remove(&slot);
    }

    /// Takes no further calls to a store.
    pub(crate) fn shut_out(&self, slot: StoreSlot, why: OrderError) {
        self.inner.write().shut_out.insert(slot, why);
    }
}

impl Inner {
    /// The newest unified revision that is reserved.
    pub(super) fn head(&self) -> UnifiedRev {
        self.ledger.head().min(self.reserved)
    }

    fn alive(&self) -> Result<(), OrderError> {
        match &self.stopped {
            Some(why) => Err(OrderError::Stopped(why.clone())),
            None if Instant::now() >= self.until && !planted(Bug::TermIgnored) => {
                Err(OrderError::TermOver)
            }
            None if self.must_record => Err(OrderError::Recording),
            None => Ok(()),
        }
    }

    /// One step of [`Merged::sequence`]: the observation and the header come from the same moment.
    /// `None` is "not yet".
    fn try_sequence(&mut self, answered: Answered) -> Result<Option<Sequenced>, OrderError> {
        if self.must_record {
            return Ok(None);
        }
        self.alive()?;
        let Answered {
            slot,
            revision,
            wrote,
            known,
            is_delivery,
        } = answered;
        let frontier = self.ledger.frontier(slot);
        self.believable(answered, frontier)?;
        // A write takes a revision above everything that was there when it was sent.
        let is_below = |known: &StoreRev| revision < *known || wrote && revision == *known;
        if let Some(known) = known.filter(is_below) {
            let error = OrderError::WentBack {
                known: known.get(),
                answered: revision.get(),
            };
            self.shut_out.insert(slot, error.clone());
            return Err(error);
        }
        if revision > frontier {
            if slot == DEFAULT_STORE && self.own_write {
                return Ok(None);
            }
            if !is_delivery && self.by_delivery.contains(&slot) {
                return Ok(None);
            }
            self.ledger.observe(slot, revision);
        }
        if self.ledger.head() > self.reserved {
            return Ok(None);
        }
        let unified = if wrote {
            self.ledger
                .unified(slot, revision)
                .ok_or(OrderError::Nonsense {
                    known: frontier.get(),
                    answered: revision.get(),
                })?
        } else {
            self.ledger.below_next(slot, revision)
        };
        Ok(Some(Sequenced {
            slot,
            revision,
            unified,
        }))
    }

    fn believable(&self, answered: Answered, frontier: StoreRev) -> Result<(), OrderError> {
        let revision = answered.revision.get();
        if revision <= 0 || revision.saturating_sub(frontier.get()) > LARGEST_STEP {
            return Err(OrderError::Nonsense {
                known: frontier.get(),
                answered: revision,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
