//! Taking the leadership, the right of one instance to order and to answer (rule 8).
//!
//! The record is the stamp that every own write puts: whose it is, which write it was, whether it
//! was the last, and how long its owner's leadership lasts. A successor takes it over at once where it was the last, and
//! else when it has not changed for the longer of both durations by the successor's own clock. The
//! owner's clock runs from before a renewal was sent, and nothing leaves past [`LeadershipOptions::safe`] of it.
//!
//! The clock is looked at when a message is complete, not when its last byte is on the wire. That
//! is enough, because everything that a message says was put into the ledger, or read from it,
//! before the look, so before any successor asked the stores where they stand. What a pause, a slow
//! client or the network delays after the look says what it would have said in time: the answer to
//! a request that began before, or an event whose place the successor finds as it was, or as a hole.
//! A request that is read after the deadline is refused before it reaches a store.
//!
//! ```text
//!   none ──────────────────────────────────────► free
//!   last ("clean") ─────────────────────────────► free
//!   open ── unchanged for the duration ─────────► free ── compared write ──► ours
//!     ▲ changed                                             │ somebody was faster
//!     └─────────────────────────────────────────────────────┘
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use keyloom_etcd_api::{
    Metadata, Rpc,
    etcdserverpb::{RangeRequest, RangeResponse},
};
use keyloom_ledger::{RestoreError, Stamp, StoreRev};
use keyloom_store::{Call, Lane, Store};
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::LeadershipOptions;
use crate::order::keeper::{Outcome, Records, send_until_known, stamp_key, transaction};

/// How often a successor looks.
const LOOK: Duration = Duration::from_millis(200);

/// How many takings are remembered that were never served from; older ones take a unified revision.
const UNSERVED: usize = 1000;

/// A leadership that was taken.
#[derive(Clone, Debug)]
pub(crate) struct TakenLeadership {
    /// The write that took it; 0 where there was no ledger, and none is written yet.
    pub(crate) at: StoreRev,
    /// Own writes before it that the ledger's head record may not know of, oldest first.
    pub(crate) before: Vec<StoreRev>,
}

/// Waits until the leadership is free and takes it.
///
/// # Errors
/// Where the record of the leadership is a newer program's.
pub(crate) async fn take(
    store: &Arc<dyn Store>,
    nonce: u64,
    options: LeadershipOptions,
) -> Result<TakenLeadership, RestoreError> {
    loop {
        let seen = until_free(store.as_ref(), options).await?;
        if seen.revision == StoreRev::new(0) {
            return Ok(TakenLeadership {
                at: seen.revision,
                before: Vec::new(),
            });
        }
        let unserved = seen.unserved();
        let stamp = Stamp {
            nonce,
            write: 0,
            clean: false,
            lasts_ms: options.millis(),
            unserved: unserved.iter().map(|at| at.get()).collect(),
        }
        .to_record()
        .into();
        let message = transaction(&Records::default(), seen.revision, &stamp);
        match send_until_known(|| Arc::clone(store), message, &stamp, options.renewal()).await {
            Outcome::Written(at) => {
                return Ok(TakenLeadership {
                    at,
                    before: unserved,
                });
            }
            Outcome::NotWritten(error) => {
                warn!(%error, "the leadership could not be taken; trying again")
            }
            Outcome::Lost => info!("another instance took the leadership first; waiting for it"),
        }
        sleep(LOOK).await;
    }
}

/// The stamp as it stood at one moment.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    /// 0 where there is none.
    revision: StoreRev,
    stamp: Option<Stamp>,
}

impl Seen {
    /// This write, if it took the leadership, and those before it since the ledger was written.
    fn unserved(&self) -> Vec<StoreRev> {
        let Some(stamp) = self.stamp.as_ref().filter(|stamp| stamp.write == 0) else {
            return Vec::new();
        };
        let mut takings: Vec<_> = stamp.unserved.iter().copied().map(StoreRev::new).collect();
        takings.push(self.revision);
        takings.drain(..takings.len().saturating_sub(UNSERVED));
        takings
    }
}

async fn until_free(store: &dyn Store, options: LeadershipOptions) -> Result<Seen, RestoreError> {
    let mut seen = look(store).await?;
    let mut since = Instant::now();
    let mut told = false;
    loop {
        let Some(owner) = seen.stamp.as_ref().filter(|stamp| !stamp.clean) else {
            return Ok(seen);
        };
        // The owner counts by its own duration, which may be longer than ours.
        let wait = options.duration.max(Duration::from_millis(owner.lasts_ms));
        if since.elapsed() >= wait {
            return Ok(seen);
        }
        if !told {
            info!(
                ?wait,
                "the last instance did not shut down cleanly; waiting until its leadership has expired"
            );
            told = true;
        }
        sleep(LOOK).await;
        let now = look(store).await?;
        if now != seen {
            seen = now;
            since = Instant::now();
        }
    }
}

/// Asks until the store answers.
async fn look(store: &dyn Store) -> Result<Seen, RestoreError> {
    let request = RangeRequest {
        key: stamp_key(),
        ..RangeRequest::default()
    };
    loop {
        let call = Call {
            metadata: Metadata::default(),
            rpc: Rpc::Range,
            message: Bytes::from(request.encode_to_vec()),
            lane: Lane::Unary,
            deadline: Some((Instant::now() + LOOK * 10).into_std()),
            idempotent: true,
        };
        match store.call(call).await.map(RangeResponse::decode) {
            Ok(Ok(answer)) => {
                let Some(kv) = answer.kvs.into_iter().next() else {
                    return Ok(Seen {
                        revision: StoreRev::new(0),
                        stamp: None,
                    });
                };
                let revision = StoreRev::new(kv.mod_revision);
                return Ok(Seen {
                    revision,
                    stamp: Some(Stamp::from_record(&kv.value)?),
                });
            }
            Ok(Err(error)) => {
                warn!(%error, "the default store's answer is unreadable; asking again")
            }
            Err(error) => warn!(%error, "the default store does not answer; trying again"),
        }
        sleep(LOOK).await;
    }
}
