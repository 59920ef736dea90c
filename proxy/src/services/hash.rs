//! Hash and HashKV over several stores: one number for all of them.
//!
//! The parts are the stores' own hashes, folded in the order of the topology's stores. The number
//! is the same as long as every store's is: the same data, Keyloom's own records on the default
//! store included, and the same compactions. Another topology or another etcd gives another one.

use bytes::Bytes;
use futures_util::future::try_join_all;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{HashKvRequest, HashKvResponse, HashResponse},
    wire,
};
use keyloom_ledger::StoreRev;
use keyloom_store::Lane;
use prost::Message;

use super::{
    Request,
    forward::{CallOptions, disordered, send, unreadable},
};
use crate::{failure::Failure, snapshot::ServingStore};

/// FNV-1a's offset and prime, for 32 bits.
const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

impl Request<'_> {
    pub(super) async fn hash(self, message: Bytes) -> Result<Bytes, Failure> {
        let asked = self
            .snapshot
            .stores()
            .map(|member| self.hash_of(member, message.clone()));
        let hash = fold(&try_join_all(asked).await?);
        let revision = self.order.head().get();
        let header = Some(self.services.identity.response_header(revision));
        Ok(HashResponse { header, hash }.encode_to_vec().into())
    }

    /// At one cut: every store's part is of the store's revision there.
    pub(super) async fn hash_kv(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = HashKvRequest::decode(message)?;
        let slots = self.snapshot.stores().map(|member| member.slot);
        let cut = self.order.cut(request.revision, slots)?;
        let asked = self.snapshot.stores().map(|member| {
            let at = cut.of(member.slot).unwrap_or(StoreRev::FIRST);
            self.hash_kv_of(member, at)
        });
        let hash = fold(&try_join_all(asked).await?);
        let head = self.order.head().get();
        Ok(HashKvResponse {
            header: Some(self.services.identity.response_header(head)),
            hash,
            compact_revision: self.order.compacted().get(),
            hash_revision: cut.at.get(),
        }
        .encode_to_vec()
        .into())
    }

    async fn hash_of(self, member: &ServingStore, message: Bytes) -> Result<u32, Failure> {
        let answer: HashResponse = self.hashed(member, Rpc::Hash, message).await?;
        Ok(answer.hash)
    }

    async fn hash_kv_of(self, member: &ServingStore, at: StoreRev) -> Result<u32, Failure> {
        let request = HashKvRequest { revision: at.get() };
        let message = Bytes::from(request.encode_to_vec());
        let answer: HashKvResponse = self.hashed(member, Rpc::HashKV, message).await?;
        Ok(answer.hash)
    }

    async fn hashed<M: Message + Default>(
        self,
        member: &ServingStore,
        rpc: Rpc,
        message: Bytes,
    ) -> Result<M, Failure> {
        self.order
            .admit(member.slot)
            .map_err(|error| disordered(member, error))?;
        // The whole store is read.
        let options = CallOptions::read(rpc, Lane::Bulk);
        let answer = send(member, options, message, self.context).await?;
        let header = wire::peek_header(&answer).map_err(|error| unreadable(member, error))?;
        self.recognise(member, header.unwrap_or_default())?;
        M::decode(answer).map_err(|error| Failure::Nonsense {
            store: member.name.clone(),
            what: error.to_string(),
        })
    }
}

/// FNV-1a over the parts.
fn fold(parts: &[u32]) -> u32 {
    parts
        .iter()
        .flat_map(|part| part.to_be_bytes())
        .fold(OFFSET, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(PRIME)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_its_place_count() {
        assert_eq!(fold(&[1, 2, 3]), fold(&[1, 2, 3]));
        assert_ne!(fold(&[1, 2, 3]), fold(&[1, 3, 2]));
        assert_ne!(fold(&[1, 2, 3]), fold(&[1, 2, 4]));
        assert_ne!(fold(&[1]), fold(&[1, 0]));
    }
}
