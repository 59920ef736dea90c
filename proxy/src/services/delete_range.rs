//! DeleteRange: to one store as bytes; over several split, each part atomic with a revision of its
//! own.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange, Rpc, check_delete_range, etcdserverpb::DeleteRangeRequest, wire::RawKv,
};
use keyloom_ledger::UnifiedRev;
use keyloom_router::{DeletePlan, PartDelete, answer, plan_delete};
use keyloom_store::Lane;
use keyloom_topology::{DeleteRangeOverStores, Part, StoreIndex};
use prost::Message as _;

use super::{
    Request,
    forward::{CallOptions, SequencedAnswer, known_revisions, unreadable},
};
use crate::{failure::Failure, order::Outward, snapshot::UnderWay};

/// What one part of a split delete did.
struct Deleted {
    at: UnifiedRev,
    count: i64,
    prev_kvs: Vec<RawKv>,
}

impl Request<'_> {
    pub(super) async fn delete_range(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = DeleteRangeRequest::decode(message.clone())?;
        check_delete_range(&request)?;
        match plan_delete(&self.snapshot.topology, &request) {
            DeletePlan::Nothing => Ok(self.deleted(self.order.head(), 0, Vec::new())),
            DeletePlan::One(store) => {
                let _under_way = self.enter_range(store, &request).await?;
                self.forward(store, CallOptions::write(Rpc::DeleteRange), message)
                    .await
            }
            DeletePlan::Split(parts) => Box::pin(self.split_delete(&request, parts)).await,
        }
    }

    /// One part after the other, in the order of the stores, so that a failure leaves a state that
    /// can be told.
    async fn split_delete(
        self,
        request: &DeleteRangeRequest,
        parts: Vec<Part>,
    ) -> Result<Bytes, Failure> {
        let over_stores = self.snapshot.topology.delete_range_over_stores();
        if over_stores == DeleteRangeOverStores::Refuse && parts.len() > 1 {
            return Err(Failure::SplitRefused {
                stores: self.names(&parts),
            });
        }
        let mut under_way = Vec::with_capacity(parts.len());
        for part in &parts {
            under_way.push(self.enter_range(part.store, request).await?);
        }
        let mut at = UnifiedRev::new(0);
        let mut count = 0;
        let mut prev_kvs = Vec::new();
        for part in parts {
            let deleted = self.delete_part(request, part).await.map_err(|error| {
                if count == 0 {
                    error
                } else {
                    Failure::Partly {
                        deleted: count,
                        cause: Box::new(error),
                    }
                }
            })?;
            at = at.max(deleted.at);
            count = count.saturating_add(deleted.count);
            prev_kvs.extend(deleted.prev_kvs);
        }
        prev_kvs.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(self.deleted(at, count, prev_kvs))
    }

    async fn enter_range(
        self,
        store: StoreIndex,
        request: &DeleteRangeRequest,
    ) -> Result<UnderWay, Failure> {
        let range = KeyRange::from_request(&request.key, &request.range_end);
        self.enter(store, |keys| keys.touches(&range)).await
    }

    async fn delete_part(
        self,
        request: &DeleteRangeRequest,
        part: Part,
    ) -> Result<Deleted, Failure> {
        let member = self.member(part.store)?;
        let mut delete = PartDelete::new(part, request.prev_kv);
        let mut at = UnifiedRev::new(0);
        while let Some((rpc, message)) = delete.next() {
            let options = match rpc {
                _ if delete.is_write() => CallOptions::write(rpc),
                _ => CallOptions::read(rpc, Lane::Bulk),
            };
            let SequencedAnswer { sequenced, answer } =
                self.call_sequenced(member, options, message).await?;
            at = sequenced.unified;
            delete.take(&answer, &self.snapshot.topology)?;
        }
        let done = delete.finish()?;
        let mut outward = Outward::keys(self.order, &self.services.identity, member.slot);
        let prev_kvs = done
            .prev_kvs
            .iter()
            .map(|kv| RawKv::parse(kv.rewritten(&mut outward)?))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable(member, error))?;
        known_revisions(member, &outward)?;
        Ok(Deleted {
            at,
            count: done.deleted,
            prev_kvs,
        })
    }

    fn deleted(self, at: UnifiedRev, count: i64, prev_kvs: Vec<RawKv>) -> Bytes {
        let header = self.services.identity.header(at.get());
        answer::delete_range_response(
            header,
            answer::Deleted {
                deleted: count,
                prev_kvs,
            },
        )
    }

    /// The stores of a plan, for errors.
    pub(super) fn names(self, parts: &[Part]) -> String {
        let names: Vec<_> = parts
            .iter()
            .filter_map(|part| self.snapshot.member(part.store))
            .map(|member| format!("\"{}\"", member.name))
            .collect();
        names.join(", ")
    }
}
