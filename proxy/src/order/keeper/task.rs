//! The task that writes the ledger's tail a few times a second.

use std::{sync::Arc, time::Duration};

use keyloom_ledger::{Mark, Seal, Stamp, StoreRev, StoreSlot, UnifiedRev};
use keyloom_store::Store;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Keeper, Keeping, RESERVED_AHEAD, Reached, RenewOn, Wish,
    running::OwnConnections,
    write::{Outcome, Records, send_until_known, transaction},
};
use crate::order::{
    LeadershipOptions,
    merged::{Merged, Ordered},
    sequence::Sequence,
};

/// Between two writes of the tail, where there is something to write.
const EVERY: Duration = Duration::from_millis(250);

/// After a write that did not happen.
const PAUSE: Duration = Duration::from_millis(50);

/// Wishes that wait for the keeper; a further one waits at the caller.
const WAITING: usize = 64;

/// What the keeper begins with.
#[derive(Debug)]
pub(crate) struct KeeperStart {
    pub(crate) order: Arc<Merged>,
    /// The default store.
    pub(crate) store: Arc<dyn Store>,
    /// What is persisted already.
    pub(crate) mark: Mark,
    /// The revision of the last own write; 0 where there is none.
    pub(crate) after: StoreRev,
    /// Tells this instance's writes from all others'.
    pub(crate) nonce: u64,
    pub(crate) leadership: LeadershipOptions,
}

/// Why the first write did not happen.
#[derive(Debug)]
pub(crate) enum NotWritten {
    /// Another instance wrote since the leadership was taken, or began the ledger first.
    Overtaken,
    /// The default store did not take it.
    Failed(String),
}

/// Writes the ledger once, so that what is answered from now on is covered by a reservation, and
/// then keeps it until `stop` is cancelled; the last write then says that the end was clean.
///
/// # Errors
/// Where the first write did not happen.
pub(crate) async fn start(
    start: KeeperStart,
    stop: CancellationToken,
) -> Result<(Keeper, Keeping), NotWritten> {
    let KeeperStart {
        order,
        store,
        mark,
        after,
        nonce,
        leadership,
    } = start;
    let reached = Reached::default();
    let mut task = Task {
        order,
        store,
        reached: reached.clone(),
        // The first write is made where the start is.
        connections: OwnConnections::of_runtime(RenewOn::ThisRuntime),
        mark,
        after,
        nonce,
        leadership,
        writes: 0,
        renewed: Instant::now(),
    };
    if let Err(error) = task.flush_all(false).await {
        return Err(match task.is_overtaken() {
            true => NotWritten::Overtaken,
            false => NotWritten::Failed(error),
        });
    }
    let (requests, inbox) = mpsc::channel(WAITING);
    let renew_on = leadership.renew_on;
    task.connections = OwnConnections::of_runtime(renew_on);
    let keeping = Keeping::start(renew_on, task.run(inbox, stop))
        .map_err(|error| NotWritten::Failed(format!("no thread: {error}")))?;
    Ok((Keeper { requests, reached }, keeping))
}

struct Task {
    order: Arc<Merged>,
    /// The default store, as it was reached at the start.
    store: Arc<dyn Store>,
    reached: Reached,
    connections: OwnConnections,
    mark: Mark,
    after: StoreRev,
    nonce: u64,
    leadership: LeadershipOptions,
    writes: u64,
    /// When the last write that happened was sent.
    renewed: Instant,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Wish>, stop: CancellationToken) {
        let merged = &Arc::clone(&self.order);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wish = tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => None,
                () = merged.nudge.notified() => None,
                Some(wish) = inbox.recv() => Some(wish),
            };
            if let Some(at) = wish.as_ref().and_then(|wish| wish.compaction) {
                merged.change(|ordered| ordered.sequence.ledger.compact(at));
            }
            if wish.is_none() && !self.is_due(merged) {
                continue;
            }
            match self.flush_all(false).await {
                Ok(()) => {
                    if let Some(wish) = wish {
                        // The caller may have gone away; what it wished is recorded all the same.
                        let _gone = wish.recorded.send(());
                    }
                }
                Err(error) => {
                    warn!(%error, "the ledger could not be written to the default store; trying again");
                    // Whoever waits for it asks at once, and so would this.
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(PAUSE) => {}
                    }
                }
            }
            if merged.stopped().is_some() {
                return;
            }
        }
        // What the last write does not hold must not leave any more.
        merged.stop("this instance ends");
        if let Err(error) = self.flush_all(true).await {
            error!(%error, "the last write of the ledger failed; the next start recovers the order");
        }
    }

    /// Whether there is something that a crash would lose, the reservation is half used, or the
    /// leadership wants renewing.
    fn is_due(&self, merged: &Merged) -> bool {
        let ordered = merged.read();
        let (ledger, leadership) = (&ordered.sequence.ledger, &ordered.leadership);
        let left = leadership.reserved.get() - ledger.head().get();
        leadership.accepted.is_some()
            || ledger.needs_flush(&self.mark)
            || left < RESERVED_AHEAD / 2
            || self.renewed.elapsed() >= self.leadership.renewal()
    }

    /// Whether the last write found another instance's.
    fn is_overtaken(&self) -> bool {
        self.order.stopped().is_some()
    }

    async fn flush_all(&mut self, clean: bool) -> Result<(), String> {
        while !self.flush(clean).await? {}
        Ok(())
    }

    /// One own write. `true` when everything is written.
    async fn flush(&mut self, clean: bool) -> Result<bool, String> {
        let merged = &Arc::clone(&self.order);
        let (flush, reserved, accepted) = merged.change(|ordered| {
            let (ledger, leadership) = (&ordered.sequence.ledger, &mut ordered.leadership);
            let reserved = UnifiedRev::new(ledger.head().get() + RESERVED_AHEAD);
            let seal = Seal {
                reserved,
                clean,
                ..Seal::default()
            };
            leadership.own_write = true;
            let accepted = leadership.accepted.clone();
            (ledger.flush(&self.mark, &seal), reserved, accepted)
        });
        let puts = flush
            .puts
            .into_iter()
            .map(|(name, record)| (name, record.into()))
            .collect();
        let records = Records {
            puts,
            deletes: flush.deletes,
            // The change that it belongs to is written when the flush is complete.
            accepted: accepted.filter(|_| flush.complete),
        };
        self.writes += 1;
        let clean = clean && flush.complete;
        let stamp = Stamp {
            nonce: self.nonce,
            write: self.writes,
            clean,
            lasts_ms: self.leadership.millis(),
            unserved: Vec::new(),
        }
        .to_record()
        .into();
        let message = transaction(&records, self.after, &stamp);
        let default = || {
            let default = self.reached.now(StoreSlot::DEFAULT, &self.store);
            self.connections.to(default)
        };
        let sent = Instant::now();
        let patience = self.leadership.renewal();
        match send_until_known(default, message, &stamp, patience).await {
            Outcome::Written(revision) => {
                let until = sent + self.leadership.safe();
                merged.change(|ordered| {
                    let Ordered {
                        sequence: Sequence { ledger, .. },
                        leadership,
                    } = ordered;
                    ledger.hide(revision);
                    leadership.own_write = false;
                    if records.accepted.is_some() && leadership.accepted == records.accepted {
                        leadership.accepted = None;
                    }
                    // A change that came while this was on its way is not in it.
                    leadership.must_record =
                        leadership.accepted.is_some() || ledger.must_flush(&flush.mark);
                    leadership.reserved = reserved;
                    leadership.until = until;
                });
                self.renewed = sent;
                self.after = revision;
                self.mark = flush.mark;
                Ok(flush.complete)
            }
            Outcome::NotWritten(error) => {
                merged.change(|ordered| ordered.leadership.own_write = false);
                Err(error.to_string())
            }
            Outcome::Lost => {
                let why = "another instance has written it; only one can own it";
                merged.stop(why);
                Err(why.to_owned())
            }
        }
    }
}
