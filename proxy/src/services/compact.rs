//! Compact over several stores: recorded first, then done on each.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use keyloom_etcd_api::{
    Rpc, check_compaction,
    etcdserverpb::{CompactionRequest, CompactionResponse},
};
use keyloom_ledger::{StoreRev, UnifiedRev};
use prost::Message as _;
use tokio::time::timeout;
use tracing::warn;

use super::{
    Request,
    forward::{CallOptions, send},
};
use crate::{failure::Failure, snapshot::ServingStore};

/// How long a compaction waits for a store's watch.
const PATIENCE: Duration = Duration::from_secs(1);

impl Request<'_> {
    /// From the moment that the compaction is recorded nothing below it is readable; a store that
    /// cannot be reached then keeps its history until the next compaction.
    pub(super) async fn compact(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = CompactionRequest::decode(message)?;
        check_compaction(
            &request,
            self.order.compacted().get(),
            self.order.head().get(),
        )?;
        let at = UnifiedRev::new(request.revision);
        if let Some(runtime) = &self.services.runtime {
            let recorded = runtime.keeper.compact(at).await;
            recorded.map_err(|error| Failure::Stopped(error.to_string()))?;
        }
        let stores = self.snapshot.stores();
        join_all(stores.map(|member| self.compact_store(member, at, request.physical))).await;
        let header = self
            .services
            .identity
            .response_header(self.order.head().get());
        Ok(CompactionResponse {
            header: Some(header),
        }
        .encode_to_vec()
        .into())
    }

    /// Whether the store's own watch has delivered everything up to a revision. Compacting above it
    /// would take from watchers what they have not been sent.
    async fn is_delivered(self, member: &ServingStore, revision: StoreRev) -> bool {
        let Some(runtime) = &self.services.runtime else {
            return true;
        };
        let delivered = runtime.feeds().until(|hub, _| {
            let delivered = hub.delivered(member.slot)?;
            (delivered >= revision).then_some(())
        });
        timeout(PATIENCE, delivered).await.is_ok()
    }

    async fn compact_store(self, member: &ServingStore, at: UnifiedRev, physical: bool) {
        // Nothing is below the first revision, and a store takes no 0 for it.
        if at.get() < 1 {
            return;
        }
        let revision = self.order.store_to_compact(member.slot, at);
        if !self.is_delivered(member, revision).await {
            warn!(
                store = member.name,
                revision = revision.get(),
                "store not compacted, because its watch has not delivered the revision yet; the next compaction does it"
            );
            return;
        }
        let request = CompactionRequest {
            revision: revision.get(),
            physical,
        };
        let message = Bytes::from(request.encode_to_vec());
        match send(
            member,
            CallOptions::write(Rpc::Compact),
            message,
            self.context,
        )
        .await
        {
            Ok(_) => {}
            // Nothing of the store was written since the last compaction.
            Err(failure) if failure.is_compacted() => {}
            Err(failure) => warn!(
                store = member.name, revision = revision.get(), %failure,
                "store not compacted, because it failed; the next compaction does it"
            ),
        }
    }
}
