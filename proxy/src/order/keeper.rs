//! Keeps the ledger in the default store: Keyloom's own, hidden writes.
//!
//! One write is in flight at a time, each compared with the one before, so that of a write whose
//! answer was lost it can always be found out whether it happened:
//!
//! ```text
//!             answered            no answer              compare holds: the lost one never lands
//!   idle ────────────────► idle      │  ┌──────────────► written
//!     └── send ── in flight ─────────┴─ uncertain ── send the same again
//!                    │                                │ compare fails, the stamp is ours: written
//!                    └── compare fails ───────────────┴ compare fails, another's stamp: lost
//! ```
//!
//! While a write is in flight or uncertain, answers of the default store that are newer than the
//! ledger wait (`Merged::sequence`). `lost` stops the instance: another one owns the ledger.

mod running;
mod task;
mod write;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use keyloom_ledger::{StoreSlot, UnifiedRev};
use keyloom_store::Store;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

pub(crate) use running::Keeping;
pub use running::RenewOn;
pub(crate) use task::{KeeperStart, NotWritten, start as start_keeper};
pub(crate) use write::is_accepted;
pub(super) use write::{Outcome, Records, record_of, send_until_known, stamp_key, transaction};

/// How far ahead unified revisions are reserved: minutes at a hundred thousand writes a second.
pub(crate) const RESERVED_AHEAD: i64 = 1 << 24;

/// The keys that belong to Keyloom. No call of a client can see or write them.
pub(crate) const RESERVED_PREFIX: &[u8] = b"/_keyloom/";

/// What was asked of the keeper is not written; it may or may not be later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger could not be written")]
pub(crate) struct NotRecorded;

/// Asks the keeper.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    requests: mpsc::Sender<Wish>,
    reached: Reached,
}

/// How stores are reached now, where that is not as at the start: addresses and credentials change.
#[derive(Clone, Debug, Default)]
struct Reached(Arc<RwLock<BTreeMap<StoreSlot, Arc<dyn Store>>>>);

impl Reached {
    fn now(&self, slot: StoreSlot, at_start: &Arc<dyn Store>) -> Arc<dyn Store> {
        let reached = self.0.read();
        Arc::clone(reached.get(&slot).unwrap_or(at_start))
    }
}

/// Something that must be written before its caller goes on.
#[derive(Debug)]
pub(super) struct Wish {
    /// A compaction to record, besides what the ledger holds already.
    compaction: Option<UnifiedRev>,
    recorded: oneshot::Sender<()>,
}

impl Keeper {
    /// Reaches stores so from now on; the default store also with a write whose answer was lost.
    pub(crate) fn reach(&self, stores: impl IntoIterator<Item = (StoreSlot, Arc<dyn Store>)>) {
        self.reached.0.write().extend(stores);
    }

    /// A store as it is reached now.
    pub(crate) fn reached(&self, slot: StoreSlot, at_start: &Arc<dyn Store>) -> Arc<dyn Store> {
        self.reached.now(slot, at_start)
    }

    /// Records that nothing below `at` is readable any more.
    ///
    /// # Errors
    /// Where it was not written; it may or may not be recorded later.
    pub(crate) async fn compact(&self, at: UnifiedRev) -> Result<(), NotRecorded> {
        self.wish(Some(at)).await
    }

    /// Writes what the ledger holds now.
    ///
    /// # Errors
    /// Where it was not written; it may or may not be later.
    pub(crate) async fn record(&self) -> Result<(), NotRecorded> {
        self.wish(None).await
    }

    async fn wish(&self, compaction: Option<UnifiedRev>) -> Result<(), NotRecorded> {
        let (recorded, answer) = oneshot::channel();
        self.requests
            .send(Wish {
                compaction,
                recorded,
            })
            .await
            .map_err(|_| NotRecorded)?;
        answer.await.map_err(|_| NotRecorded)
    }
}

/// The reserved prefix, as a key.
pub(crate) fn reserved_prefix() -> Bytes {
    Bytes::from_static(RESERVED_PREFIX)
}
