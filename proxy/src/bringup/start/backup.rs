//! A default store that came from a backup has an old ledger in it, which knows nothing of what was
//! given out since, and may even say that its end was clean.
//!
//! A default store that was taken back goes on at a revision above all that it had, and everything
//! below is compacted. Nothing else compacts a revision that the ledger does not have yet: Keyloom
//! compacts no store above what it has persisted of it. (Somebody who compacts the store directly
//! can. To take that for a backup costs a hole, and its readers list again.)

use bytes::Bytes;
use keyloom_etcd_api::{Code, EtcdError, Metadata, Rpc, etcdserverpb::RangeRequest};
use keyloom_ledger::{Restored, StoreRev, StoreSlot, UnifiedRev};
use keyloom_store::{Call, CallError, Lane};
use prost::Message as _;
use tokio::time::{Duration, Instant, sleep};
use tracing::warn;

use crate::{bringup::ask::AskedStore, order::RESERVED_AHEAD};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Tells the recovery where the ledger is an old one.
pub(super) async fn look(restored: &mut Restored, asked: &[AskedStore]) {
    let Some(default) = asked.first() else {
        return;
    };
    let known = restored.ledger.frontier(StoreSlot::DEFAULT);
    if !is_compacted(default, known.get() + 1).await {
        return;
    }
    restored.lost = true;
    restored.reserved = restored.reserved.max(bound(restored, asked));
    warn!(
        store = default.name,
        known = known.get(),
        found = default.revision.get(),
        above = restored.reserved.get(),
        "the default store was restored from a backup; revisions go on above all that can have been \
         given out, and clients list again"
    );
}

/// No unified revision above this one was given out. Each was either a revision of a store that the
/// ledger does not have, or a hole that a start made; a start makes one hole at most, no larger
/// than what is reserved ahead, and writes at least once to the default store.
fn bound(restored: &Restored, asked: &[AskedStore]) -> UnifiedRev {
    let ledger = &restored.ledger;
    let mut above = ledger.head().get();
    for (slot, store) in ledger.stores() {
        let Some(found) = asked.iter().find(|asked| asked.name == store.name) else {
            continue;
        };
        let new = since(found.revision, ledger.frontier(slot));
        above = above.saturating_add(new);
        if slot == StoreSlot::DEFAULT {
            above = above.saturating_add(new.saturating_mul(RESERVED_AHEAD + 1));
        }
    }
    UnifiedRev::new(above)
}

fn since(found: StoreRev, known: StoreRev) -> i64 {
    found.get().saturating_sub(known.get()).max(0)
}

/// Asks until it is known: a guess could give revisions out again.
async fn is_compacted(store: &AskedStore, revision: i64) -> bool {
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        revision,
        ..RangeRequest::default()
    };
    loop {
        let call = Call {
            metadata: Metadata::default(),
            rpc: Rpc::Range,
            message: Bytes::from(request.encode_to_vec()),
            lane: Lane::Unary,
            deadline: Some((Instant::now() + TIMEOUT).into_std()),
            idempotent: true,
        };
        match store.store.call(call).await {
            Ok(_) => return false,
            Err(CallError::Refused(status)) if status.code() != Code::Unavailable => {
                return EtcdError::of(&status) == Some(EtcdError::Compacted);
            }
            Err(error) => warn!(store = store.name, %error, "store does not answer; trying again"),
        }
        sleep(PAUSE).await;
    }
}
