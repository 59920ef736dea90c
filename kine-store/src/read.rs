//! Ranges: always at a place that our own watch has delivered.

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{RangeRequest, RangeResponse},
    mvccpb::KeyValue,
};

use super::{
    Asked, Core,
    tail::{END, FIRST, Place},
};
use keyloom_store::CallError;

/// In a request the end of what has no end.
const NO_END: &[u8] = b"\0";

impl Core {
    pub(super) async fn range(
        self: &Arc<Self>,
        asked: Asked,
        request: RangeRequest,
    ) -> Result<RangeResponse, CallError> {
        let place = self.place(asked).await?;
        self.range_within(asked, request, place).await
    }

    /// A range, refused where kine cannot do it, no newer than a place.
    pub(super) async fn range_within(
        self: &Arc<Self>,
        asked: Asked,
        request: RangeRequest,
        place: Place,
    ) -> Result<RangeResponse, CallError> {
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if request.sort_order != 0 || request.sort_target != 0 || filters != [0; 4] {
            return Err(self.cannot("sort or filter by revision"));
        }
        if request.revision > place.revision {
            return Err(CallError::Refused(EtcdError::FutureRev.into()));
        }
        self.range_at(asked, request, place).await
    }

    async fn range_at(
        self: &Arc<Self>,
        asked: Asked,
        request: RangeRequest,
        place: Place,
    ) -> Result<RangeResponse, CallError> {
        let header = Some(self.header_at(place));
        let Some((key, range_end)) = within(&request.key, &request.range_end) else {
            return Ok(RangeResponse {
                header,
                ..RangeResponse::default()
            });
        };
        let revision = match request.revision {
            revision if revision > 0 => revision,
            _ => place.revision,
        };
        // Of one key there is at most one.
        let limit = if range_end.is_empty() {
            0
        } else {
            request.limit.max(0)
        };
        let count_only = request.count_only;
        let request = RangeRequest {
            key,
            range_end,
            revision,
            limit,
            serializable: false,
            ..request
        };
        let mut answer: RangeResponse = self.ask(asked, Rpc::Range, &request, true).await?;
        if count_only {
            answer.kvs.clear();
            answer.more = false;
        }
        for kv in &mut answer.kvs {
            as_etcd(kv);
            if request.keys_only {
                kv.value.clear();
            }
        }
        Ok(RangeResponse { header, ..answer })
    }

    /// A key as it was at the place where the store stands.
    pub(super) async fn get(
        self: &Arc<Self>,
        asked: Asked,
        key: &Bytes,
    ) -> Result<(Option<KeyValue>, Place), CallError> {
        let request = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let place = self.place(asked).await?;
        let answer = self.range_at(asked, request, place).await?;
        Ok((answer.kvs.into_iter().next(), place))
    }
}

/// What of a range kine can hold for us; `None` for nothing.
fn within(key: &Bytes, range_end: &Bytes) -> Option<(Bytes, Bytes)> {
    if range_end.is_empty() {
        return writable(key).then(|| (key.clone(), Bytes::new()));
    }
    let start = key.max(&FIRST).clone();
    let end = match range_end {
        end if end == NO_END => END,
        end => end.min(&END).clone(),
    };
    (start < end).then_some((start, end))
}

/// Whether our watch would deliver what is written there.
pub(super) fn writable(key: &Bytes) -> bool {
    *key >= FIRST && *key < END
}

/// What kine says of a key, as far as it means what an etcd's client takes it for.
pub(super) fn as_etcd(kv: &mut KeyValue) {
    // Seconds, not a lease.
    kv.lease = 0;
    kv.version = i64::from(kv.create_revision == kv.mod_revision);
}
