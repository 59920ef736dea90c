//! Leases over several stores.
//!
//! A lease lives on the default store, which grants it and knows when it ends. On another store it
//! comes to be under the same id when a key there first uses it ([`materialise`]), and from then on
//! it is kept alive and revoked there too. The stores are told apart by what is remembered
//! ([`memory`]); where that is nothing, after a restart for one, every store is asked.
//!
//! - Grant, revoke and materialisation of one lease on one store come one after the other
//!   ([`turns`]).
//! - A lease ends on each store by itself, at a revision of that store. A store on which it came to
//!   be later ends it up to one time to live later than the default store where nobody keeps it
//!   alive.
//! - A keep-alive needs the default store and no other ([`keep_alive`]).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest},
    wire::Message,
};
use keyloom_store::{CallError, Lane};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::{
    Request,
    forward::{CallOptions, SequencedAnswer},
};
use crate::{failure::Failure, snapshot::ServingStore};

mod keep_alive;
mod materialise;
mod memory;
mod time_to_live;
mod turns;

use keep_alive::MOST_LATE;
pub(super) use materialise::leases_of;
use memory::{Held, Memory};
use turns::Turns;

/// What is shared by all calls.
#[derive(Debug)]
pub(super) struct Leases {
    memory: Memory,
    turns: Turns,
    /// What may be under way to stores that are late with keep-alives.
    late: Arc<Semaphore>,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            memory: Memory::default(),
            turns: Turns::default(),
            late: Arc::new(Semaphore::new(MOST_LATE)),
        }
    }
}

impl<'a> Request<'a> {
    pub(super) async fn lease_grant(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = LeaseGrantRequest::decode(message.clone())?;
        let leases = &self.services.leases;
        // An id that the store chooses is nobody else's.
        let mut _turns = Vec::new();
        if request.id != 0 {
            let slots = self.snapshot.stores().map(|member| member.slot);
            _turns = leases.turns.all(request.id, slots).await;
            // Whatever becomes of the call, nothing of an earlier lease with this id counts.
            leases.memory.forget(request.id);
        }
        let member = self.default_store()?;
        let sequenced = self
            .call_sequenced(member, local(Rpc::LeaseGrant), message)
            .await?;
        let granted = LeaseGrantResponse::decode(sequenced.answer.clone())
            .map_err(|error| nonsense(member, &error))?;
        leases.memory.granted(granted.id);
        self.outward(
            member,
            sequenced.sequenced,
            Message::LeaseGrantResponse,
            sequenced.answer,
        )
    }

    /// The default store comes last, so that what failed can be done again.
    pub(super) async fn lease_revoke(self, message: Bytes) -> Result<Bytes, Failure> {
        let request = LeaseRevokeRequest::decode(message.clone())?;
        let leases = &self.services.leases;
        let slots = self.snapshot.stores().map(|member| member.slot);
        let _turns = leases.turns.all(request.id, slots).await;
        let member = self.default_store()?;
        let revoked = self
            .holders(request.id)
            .map(|other| self.revoke_on(other, request.id, message.clone()));
        // Each is tried, also where another one fails.
        for revoked in join_all(revoked).await {
            revoked?;
        }
        let sequenced = self
            .call_sequenced(member, CallOptions::write(Rpc::LeaseRevoke), message)
            .await;
        if sequenced.as_ref().is_err_and(|error| !is_not_found(error)) {
            return Err(sequenced.err().unwrap_or(EtcdError::LeaseNotFound.into()));
        }
        leases.memory.forget(request.id);
        if sequenced.is_err() {
            self.sequence_present(member).await?;
        }
        let SequencedAnswer { sequenced, answer } = sequenced?;
        self.outward(member, sequenced, Message::LeaseRevokeResponse, answer)
    }

    /// Ends a lease on a store other than the default, where it need not be.
    async fn revoke_on(
        self,
        member: &ServingStore,
        id: i64,
        message: Bytes,
    ) -> Result<(), Failure> {
        let memory = &self.services.leases.memory;
        memory.set(id, member.slot, Held::Unknown);
        match self
            .call_sequenced(member, CallOptions::write(Rpc::LeaseRevoke), message)
            .await
        {
            Ok(_) => {}
            // An attempt before may have ended it, of which nothing was heard.
            Err(error) if is_not_found(&error) => self.sequence_present(member).await?,
            Err(error) => return Err(error),
        }
        memory.set(id, member.slot, Held::No);
        Ok(())
    }

    /// Those of the default store, which has them all.
    pub(super) async fn lease_leases(self, message: Bytes) -> Result<Bytes, Failure> {
        let member = self.default_store()?;
        let SequencedAnswer { sequenced, answer } = self
            .call_sequenced(member, local(Rpc::LeaseLeases), message)
            .await?;
        self.outward(member, sequenced, Message::LeaseLeasesResponse, answer)
    }

    fn default_store(self) -> Result<&'a ServingStore, Failure> {
        self.snapshot
            .default_member()
            .ok_or(Failure::Unimplemented("Lease"))
    }

    /// The stores besides the default that have a lease, or may have it.
    fn holders(self, id: i64) -> impl Iterator<Item = &'a ServingStore> {
        let memory = &self.services.leases.memory;
        let default = self.snapshot.default_member().map(|member| member.slot);
        self.snapshot.stores().filter(move |member| {
            Some(member.slot) != default && memory.held(id, member.slot) != Held::No
        })
    }
}

/// The header of these answers is what the member that was asked stands at, which may be behind.
fn local(rpc: Rpc) -> CallOptions {
    let options = match rpc {
        Rpc::LeaseGrant => CallOptions::write(rpc),
        _ => CallOptions::read(rpc, Lane::Unary),
    };
    CallOptions {
        linearizable: false,
        ..options
    }
}

fn answered(failure: &Failure) -> Option<EtcdError> {
    match failure {
        Failure::Etcd(error) => Some(*error),
        Failure::Store {
            error: CallError::Refused(status),
            ..
        } => EtcdError::of(status),
        _ => None,
    }
}

fn is_not_found(failure: &Failure) -> bool {
    answered(failure) == Some(EtcdError::LeaseNotFound)
}

fn nonsense(member: &ServingStore, error: &prost::DecodeError) -> Failure {
    Failure::Nonsense {
        store: member.name.clone(),
        what: error.to_string(),
    }
}
