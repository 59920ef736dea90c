//! The order of several stores: sequence and leadership under one lock, and what may wait for them.

use std::collections::BTreeMap;

use keyloom_etcd_api::EtcdError;
use keyloom_ledger::{Ledger, StoreRev, StoreSlot, UnifiedRev, WentBack};
use keyloom_planted::{Bug, planted};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

use super::{
    OrderError,
    leadership::{Leadership, MayLeave},
    sequence::{Answered, Sequence, Sequenced},
};
use crate::telemetry;

const DEFAULT_STORE: StoreSlot = StoreSlot::DEFAULT;

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
    ordered: RwLock<Ordered>,
    may_leave: MayLeave,
    /// Told when an own write ended, the reservation grew or the order stopped.
    changed: Notify,
    /// Told when the keeper should write soon.
    pub(super) nudge: Notify,
}

/// What the order's lock guards.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) sequence: Sequence,
    pub(super) leadership: Leadership,
}

impl Merged {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self {
            ordered: RwLock::new(Ordered {
                sequence: Sequence::new(ledger),
                leadership: Leadership::new(),
            }),
            may_leave: MayLeave::new(),
            changed: Notify::new(),
            nudge: Notify::new(),
        }
    }

    /// For translations; hold it for no longer than one message takes.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Ordered> {
        self.ordered.read()
    }

    /// The newest unified revision that may be told.
    pub(crate) fn head(&self) -> UnifiedRev {
        self.ordered.read().head()
    }

    /// The unified revision below which nothing can be read.
    pub(crate) fn compacted(&self) -> UnifiedRev {
        self.ordered.read().sequence.ledger.compacted()
    }

    /// Where a store is compacted for a compaction at `at`. A watch may still begin there: of the
    /// store's revision at `at` itself nothing must go, and the cut at `at` may be above it, on one
    /// of Keyloom's own writes.
    pub(crate) fn store_to_compact(&self, slot: StoreSlot, at: UnifiedRev) -> StoreRev {
        let ordered = self.ordered.read();
        if planted(Bug::CompactsAhead) {
            return ordered.sequence.ledger.frontier(slot);
        }
        let exact = ordered.sequence.ledger.store_exact(slot, at);
        exact.unwrap_or_else(|| ordered.sequence.ledger.store_at(slot, at))
    }

    /// Allows a call to a store and returns the revision that its answer must reach.
    ///
    /// # Errors
    /// Where the store was shut out.
    pub(crate) fn admit(&self, slot: StoreSlot) -> Result<StoreRev, OrderError> {
        let ordered = self.ordered.read();
        if !self.may_leave.is_certain() {
            match ordered.leadership.may_leave() {
                // The answer waits for that.
                Ok(()) | Err(OrderError::Recording) => {}
                Err(error) => return Err(error),
            }
        }
        ordered.sequence.admit(slot)
    }

    /// Gives an answer its place, waiting until the ledger can cover it (invariants 1 to 3).
    ///
    /// # Errors
    /// Where the store went back, where the answer cannot be true, or where this instance lost
    /// the ledger.
    pub(crate) async fn sequence(&self, answered: Answered) -> Result<Sequenced, OrderError> {
        // Most of what was read changes nothing, so that readers need not wait for each other.
        if !answered.wrote
            && let Some(sequenced) = self.ordered.read().look_up(answered)?
        {
            return Ok(sequenced);
        }
        // Nearly every answer has its place at once.
        if let Some(sequenced) = self.ordered.write().try_sequence(answered)? {
            return Ok(sequenced);
        }
        let waiting = self.until_sequenced(answered);
        waiting.instrument(telemetry::revision_wait()).await
    }

    async fn until_sequenced(&self, answered: Answered) -> Result<Sequenced, OrderError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(sequenced) = self.ordered.write().try_sequence(answered)? {
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
        let ordered = self.ordered.read();
        let head = ordered.head();
        let at = if revision <= 0 {
            head
        } else {
            UnifiedRev::new(revision)
        };
        if at > head {
            return Err(EtcdError::FutureRev);
        }
        if at < ordered.sequence.ledger.compacted() {
            return Err(EtcdError::Compacted);
        }
        let mut vector = BTreeMap::new();
        for slot in slots {
            if at < ordered.sequence.ledger.floor(slot) {
                return Err(EtcdError::Compacted);
            }
            vector.insert(slot, ordered.sequence.ledger.store_at(slot, at));
        }
        Ok(Cut { at, vector })
    }

    /// Changes the ledger, and wakes whatever waits for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Ordered) -> T) -> T {
        let result = {
            let mut ordered = self.ordered.write();
            let result = change(&mut ordered);
            self.may_leave.publish(&ordered.leadership);
            result
        };
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
                let ordered = self.ordered.read();
                match ordered.leadership.may_leave() {
                    Err(OrderError::Recording) => ordered.leadership.until,
                    other => return other,
                }
            };
            self.nudge.notify_one();
            tokio::select! {
                () = changed => {}
                // (Whoever ignores the end of the leadership does not wait for it either.)
                () = sleep_until(until), if !planted(Bug::LeadershipIgnored) => {}
            }
        }
    }

    /// Waits until the leadership is over.
    pub(crate) async fn until_leadership_over(&self) {
        loop {
            let until = self.ordered.read().leadership.until;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Lets nothing leave any more.
    pub(crate) fn stop(&self, why: &str) {
        self.change(|ordered| {
            ordered
                .leadership
                .stopped
                .get_or_insert_with(|| why.to_owned());
        });
    }

    /// Waits until nothing may ever leave any more, and says why.
    pub(crate) async fn until_stopped(&self) -> String {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(why) = self.stopped() {
                return why;
            }
            changed.await;
        }
    }

    /// Why nothing may leave any more.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.ordered.read().leadership.stopped.clone()
    }

    /// Whether an answer may leave now.
    ///
    /// # Errors
    /// Where the leadership is over, the order has stopped, or a change is being written.
    pub(crate) fn may_leave(&self) -> Result<(), OrderError> {
        if self.may_leave.is_certain() {
            return Ok(());
        }
        self.ordered.read().leadership.may_leave()
    }

    /// A store that was absent when the order was lost stands at `revision`. Where it has something
    /// new, nothing leaves until that is written.
    ///
    /// # Errors
    /// Where it went back.
    pub(crate) fn return_of(
        &self,
        slot: StoreSlot,
        revision: StoreRev,
    ) -> Result<Option<UnifiedRev>, WentBack> {
        self.change(|ordered| {
            let returned = ordered.sequence.ledger.return_of(slot, revision);
            // Another store's return may wait to be written.
            ordered.leadership.must_record |= matches!(returned, Ok(Some(_)));
            returned
        })
    }

    /// Takes calls to a store again.
    pub(crate) fn let_in(&self, slot: StoreSlot) {
        self.ordered.write().sequence.let_in(slot);
    }

    /// Takes no further calls to a store.
    pub(crate) fn shut_out(&self, slot: StoreSlot, why: OrderError) {
        self.ordered.write().sequence.shut_out(slot, why);
    }
}

impl Ordered {
    /// The newest unified revision that is reserved.
    pub(super) fn head(&self) -> UnifiedRev {
        self.sequence.ledger.head().min(self.leadership.reserved)
    }

    /// The place of an answer that the ledger covers already; `None` where something would change, or
    /// has to be waited for.
    fn look_up(&self, answered: Answered) -> Result<Option<Sequenced>, OrderError> {
        let (sequence, leadership) = (&self.sequence, &self.leadership);
        let is_at_rest = !leadership.must_record && sequence.ledger.head() <= leadership.reserved;
        if !is_at_rest || !sequence.covers(answered) || sequence.check(answered).is_err() {
            return Ok(None);
        }
        leadership.may_leave()?;
        sequence.place(answered).map(Some)
    }

    /// One step of [`Merged::sequence`]: the observation and the header come from the same moment.
    /// `None` is "not yet".
    fn try_sequence(&mut self, answered: Answered) -> Result<Option<Sequenced>, OrderError> {
        let (sequence, leadership) = (&mut self.sequence, &self.leadership);
        if leadership.must_record {
            return Ok(None);
        }
        leadership.may_leave()?;
        if let Err(error) = sequence.check(answered) {
            if matches!(error, OrderError::WentBack { .. }) {
                sequence.shut_out(answered.slot, error.clone());
            }
            return Err(error);
        }
        if !sequence.covers(answered) {
            let is_own_write_open = answered.slot == DEFAULT_STORE && leadership.own_write;
            if is_own_write_open || sequence.waits_for_delivery(answered) {
                return Ok(None);
            }
            sequence.ledger.observe(answered.slot, answered.revision);
        }
        if sequence.ledger.head() > leadership.reserved {
            return Ok(None);
        }
        sequence.place(answered).map(Some)
    }
}

#[cfg(test)]
mod tests;
