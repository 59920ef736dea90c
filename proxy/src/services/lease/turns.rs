//! One after the other: what changes one lease on one store.
//!
//! The table holds a lock for each lease and store for which a call is under way or waits, and no
//! other: it is as large as there are such calls. A lock is of one store, so that a store that does
//! not answer delays nobody who uses the same lease on another.

use std::{collections::HashMap, sync::Arc};

use keyloom_ledger::StoreSlot;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

type Key = (i64, StoreSlot);

#[derive(Debug, Default)]
pub(super) struct Turns {
    locks: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to change a lease on a store, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(super) async fn turn(&self, id: i64, slot: StoreSlot) -> Turn<'_> {
        let key = (id, slot);
        // Made before it is waited for, so that it cleans up also where the wait is given up.
        let mut turn = Turn {
            turns: self,
            key,
            guard: None,
        };
        let lock = Arc::clone(self.locks.lock().entry(key).or_default());
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    /// The right to change a lease on all of these stores. They are locked in one order, so that
    /// two callers cannot wait for each other.
    pub(super) async fn all(
        &self,
        id: i64,
        slots: impl IntoIterator<Item = StoreSlot>,
    ) -> Vec<Turn<'_>> {
        let mut slots: Vec<_> = slots.into_iter().collect();
        slots.sort_unstable();
        slots.dedup();
        let mut turns = Vec::with_capacity(slots.len());
        for slot in slots {
            turns.push(self.turn(id, slot).await);
        }
        turns
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.turns.locks.lock();
        // Nobody gets hold of a lock but through the table, which is locked here.
        if let Some(lock) = locks.get(&self.key)
            && Arc::strong_count(lock) == 1
        {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const A: StoreSlot = StoreSlot::DEFAULT;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_one_caller_s_at_a_time_and_no_lock_stays() {
        let turns = Turns::default();
        let first = turns.turn(1, A).await;
        let wait = Duration::from_secs(1);
        assert!(timeout(wait, turns.turn(1, A)).await.is_err());
        assert!(timeout(wait, turns.turn(2, A)).await.is_ok());
        assert_eq!(turns.locks.lock().len(), 1);
        drop(first);
        assert!(timeout(wait, turns.turn(1, A)).await.is_ok());
        assert!(turns.locks.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_after_the_holder_leaves_no_lock() {
        let turns = Turns::default();
        let first = turns.turn(1, A).await;
        {
            let mut second = std::pin::pin!(turns.turn(1, A));
            assert!(futures_util::poll!(second.as_mut()).is_pending());
            drop(first);
        }
        assert!(turns.locks.lock().is_empty());
    }
}
