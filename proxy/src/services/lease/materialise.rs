//! A lease comes to a store when a key there first uses it.

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, RequestOp, TxnRequest, request_op,
    },
    wire,
};
use keyloom_ledger::StoreSlot;
use keyloom_topology::StoreIndex;
use prost::Message as _;

use super::{Held, answered, is_not_found, local, nonsense};
use crate::{
    failure::Failure,
    services::{
        Request,
        forward::{CallOptions, disordered, send, unreadable},
    },
    snapshot::ServingStore,
};

impl Request<'_> {
    /// Hands a put or a transaction on, after the leases that it uses came to its store.
    pub(in crate::services) async fn forward_leased(
        self,
        index: StoreIndex,
        options: CallOptions,
        message: Bytes,
        leases: &[i64],
    ) -> Result<Bytes, Failure> {
        let member = self.member(index)?;
        if member.slot == StoreSlot::DEFAULT {
            return self.forward(index, options, message).await;
        }
        // Apart, so that writes without leases do not carry its room about.
        Box::pin(self.forward_after_leases(index, options, message, leases)).await
    }

    async fn forward_after_leases(
        self,
        index: StoreIndex,
        options: CallOptions,
        message: Bytes,
        leases: &[i64],
    ) -> Result<Bytes, Failure> {
        let member = self.member(index)?;
        self.materialise_all(member, options.rpc, leases).await?;
        match self.forward(index, options, message.clone()).await {
            // Refused, so nothing happened: the store does not have what was remembered.
            Err(error) if is_not_found(&error) => {
                let memory = &self.services.leases.memory;
                for id in leases {
                    memory.set(*id, member.slot, Held::Unknown);
                }
                self.materialise_all(member, options.rpc, leases).await?;
                self.forward(index, options, message).await
            }
            answer => answer,
        }
    }

    async fn materialise_all(
        self,
        member: &ServingStore,
        rpc: Rpc,
        leases: &[i64],
    ) -> Result<(), Failure> {
        for id in leases {
            match self.materialise(member, *id).await {
                // A transaction may use it on the branch that is not taken, which nobody minds;
                // on the other one the store refuses it.
                Err(error) if rpc == Rpc::Txn && is_not_found(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Brings a lease to a store that may not have it.
    async fn materialise(self, member: &ServingStore, id: i64) -> Result<(), Failure> {
        let leases = &self.services.leases;
        if leases.memory.held(id, member.slot) == Held::Yes {
            return Ok(());
        }
        let _turn = leases.turns.turn(id, member.slot).await;
        let held = leases.memory.held(id, member.slot);
        if held == Held::Yes {
            return Ok(());
        }
        let ttl = self.granted_ttl(id).await?;
        // A grant whose answer is lost may have taken effect.
        leases.memory.set(id, member.slot, Held::Unknown);
        match self.grant_on(member, id, ttl).await {
            // It was granted anew under an id of the client's, and the store still has the one
            // before, which would end before its time.
            Err(error) if exists(&error) && held == Held::No => {
                self.end_leftover(member, id).await?;
                self.grant_on(member, id, ttl).await?;
            }
            Err(error) if exists(&error) => {}
            result => result?,
        }
        leases.memory.set(id, member.slot, Held::Yes);
        Ok(())
    }

    /// What the default store granted the lease for.
    async fn granted_ttl(self, id: i64) -> Result<i64, Failure> {
        let member = self.default_store()?;
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let answer = self
            .ask(member, local(Rpc::LeaseTimeToLive), &request)
            .await?;
        let answer =
            LeaseTimeToLiveResponse::decode(answer).map_err(|error| nonsense(member, &error))?;
        if answer.ttl < 0 {
            self.services.leases.memory.forget(id);
            return Err(EtcdError::LeaseNotFound.into());
        }
        Ok(answer.granted_ttl)
    }

    async fn grant_on(self, member: &ServingStore, id: i64, ttl: i64) -> Result<(), Failure> {
        let request = LeaseGrantRequest { ttl, id };
        let answer = self.ask(member, local(Rpc::LeaseGrant), &request).await?;
        let granted =
            LeaseGrantResponse::decode(answer).map_err(|error| nonsense(member, &error))?;
        if granted.id == id {
            return Ok(());
        }
        // kine: to it a lease is a number of seconds, and a key under this id would never expire.
        Err(Failure::Nonsense {
            store: member.name.clone(),
            what: format!(
                "it granted lease {:x} where {id:x} was asked for: it has no leases of its own, \
                 and a key there cannot have one",
                granted.id
            ),
        })
    }

    async fn end_leftover(self, member: &ServingStore, id: i64) -> Result<(), Failure> {
        let message = Bytes::from(LeaseRevokeRequest { id }.encode_to_vec());
        match self
            .call_sequenced(member, CallOptions::write(Rpc::LeaseRevoke), message)
            .await
        {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// A call that no client sees the answer of.
    async fn ask(
        self,
        member: &ServingStore,
        options: CallOptions,
        request: &impl prost::Message,
    ) -> Result<Bytes, Failure> {
        self.order
            .admit(member.slot)
            .map_err(|error| disordered(member, error))?;
        let message = Bytes::from(request.encode_to_vec());
        let answer = send(member, options, message, self.context).await?;
        let header = wire::peek_header(&answer).map_err(|error| unreadable(member, error))?;
        self.recognise(member, header.unwrap_or_default())?;
        Ok(answer)
    }
}

fn exists(failure: &Failure) -> bool {
    answered(failure) == Some(EtcdError::LeaseExist)
}

/// The leases that a transaction could use, on whichever branch and however deep.
pub(in crate::services) fn leases_of(txn: &TxnRequest) -> Vec<i64> {
    let mut leases = Vec::new();
    collect(txn, &mut leases);
    leases.sort_unstable();
    leases.dedup();
    leases
}

fn collect(txn: &TxnRequest, leases: &mut Vec<i64>) {
    for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
        match request {
            Some(request_op::Request::RequestPut(put)) if put.lease != 0 => leases.push(put.lease),
            Some(request_op::Request::RequestTxn(txn)) => collect(txn, leases),
            _ => {}
        }
    }
}
