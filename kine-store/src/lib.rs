//! kine as a store: the part of etcd that it speaks, made into a store like any other, exactly
//! where that can be done and refused where it cannot.
//!
//! | what kine does | what is done about it | file |
//! |---|---|---|
//! | headers may run ahead of events; some revisions (its own rows, filled gaps) have no event | nothing of a header is believed: the store stands at the last event that a watch of ours delivered, a write is answered when that watch has delivered it, a read is made at that place | `tail.rs` |
//! | no cluster id | a key of ours holds one | `tail.rs` |
//! | five shapes of transactions, each with oddities | a transaction becomes one of them or is refused | `shape.rs`, `write.rs` |
//! | `Put` is two calls that can lose the write, `DeleteRange` is not there | made of transactions, done again where the key changed in between | `write.rs` |
//! | no sorting, no filters by revision | refused | `read.rs` |
//! | a lease is a number of seconds, counted from each write | kept here, under the id that was asked for | `lease.rs` |
//! | a watch covers what lies between two keys, and both must be real | one shape of watch: everything that kine can watch | `feed.rs` |
//!
//! kine watches keys from `/` up to `0`, so keys outside cannot be written here.
//! A key's version is not kept by kine: it is 1 where the key was only created, else 0, "not known".
//!
//! kine cannot be the default store: the ledger needs transactions of several writes.

mod detect;
mod feed;
mod lease;
mod read;
mod shape;
mod tail;
mod write;

#[cfg(test)]
mod tests;

use std::{fmt, future::ready, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use keyloom_etcd_api::{
    Metadata, Rpc, Status,
    etcdserverpb::{
        AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, ResponseHeader,
        StatusRequest, StatusResponse, alarm_request::AlarmAction,
    },
};
use prost::Message;
use tokio::time::{Duration, Instant};

pub use detect::Detected;

use keyloom_environment::Random;
use keyloom_store::{Answers, Call, CallError, Lane, Requests, Store};

/// How long a call may take where nobody said.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kine, behind the store that carries the calls to it. Clones are the same.
#[derive(Clone)]
pub struct KineStore {
    core: Arc<Core>,
}

struct Core {
    name: Arc<str>,
    /// Calls as kine answers them.
    raw: Arc<dyn Store>,
    tail: tail::Tail,
    leases: lease::Leases,
}

impl KineStore {
    /// Sets the store up; nothing is asked of kine yet. Wants a tokio runtime around its calls.
    #[must_use]
    pub fn new(name: &str, raw: Arc<dyn Store>, random: Arc<dyn Random>) -> Self {
        Self {
            core: Arc::new(Core {
                name: name.into(),
                raw,
                tail: tail::Tail::new(random),
                leases: lease::Leases::default(),
            }),
        }
    }
}

impl fmt::Debug for KineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KineStore");
        shown.field("name", &self.core.name).finish_non_exhaustive()
    }
}

impl Store for KineStore {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let core = Arc::clone(&self.core);
        async move { core.answer(call).await }.boxed()
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        let core = Arc::clone(&self.core);
        async move {
            match rpc {
                Rpc::Watch => feed::open(core, requests).await,
                Rpc::LeaseKeepAlive => Ok(lease::keep_alives(core, requests).boxed()),
                _ => Err(core.has_no(rpc)),
            }
        }
        .boxed()
    }

    fn refuses_the_ledger(&self) -> BoxFuture<'static, Result<Option<&'static str>, CallError>> {
        let why = "it is a kine. Its transactions write one key each, so it cannot hold the ledger. \
                   Make it a backend, and use an etcd or a sqlite:// file as the default store";
        ready(Ok(Some(why))).boxed()
    }
}

/// One call while it is under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    lane: Lane,
    until: Instant,
}

impl Core {
    async fn answer(self: Arc<Self>, call: Call) -> Result<Bytes, CallError> {
        let asked = Asked {
            lane: call.lane,
            until: match call.deadline {
                Some(deadline) => Instant::from_std(deadline),
                None => Instant::now() + PATIENCE,
            },
        };
        let message = call.message;
        match call.rpc {
            Rpc::Range => self.range(asked, decode(message)?).await.map(encoded),
            Rpc::Put => self.put(asked, decode(message)?).await.map(encoded),
            Rpc::DeleteRange => self
                .delete_range(asked, decode(message)?)
                .await
                .map(encoded),
            Rpc::Txn => self.txn(asked, decode(message)?).await.map(encoded),
            Rpc::Compact => self.compact(asked, decode(message)?).await.map(encoded),
            Rpc::LeaseGrant => {
                let granted = self.leases.grant(&decode(message)?)?;
                let header = Some(self.header(asked).await?);
                Ok(encoded(
                    keyloom_etcd_api::etcdserverpb::LeaseGrantResponse { header, ..granted },
                ))
            }
            Rpc::LeaseRevoke => self
                .lease_revoke(asked, decode(message)?)
                .await
                .map(encoded),
            Rpc::LeaseTimeToLive => {
                let left = self.leases.time_to_live(&decode(message)?);
                let header = Some(self.header(asked).await?);
                Ok(encoded(
                    keyloom_etcd_api::etcdserverpb::LeaseTimeToLiveResponse { header, ..left },
                ))
            }
            Rpc::LeaseLeases => {
                let leases = self.leases.all();
                let header = Some(self.header(asked).await?);
                Ok(encoded(
                    keyloom_etcd_api::etcdserverpb::LeaseLeasesResponse { header, leases },
                ))
            }
            Rpc::Status => self.status(asked).await.map(encoded),
            Rpc::Alarm => self.alarm(asked, decode(message)?).await.map(encoded),
            rpc => Err(self.has_no(rpc)),
        }
    }

    /// As kine answers it.
    async fn ask<A: Message + Default>(
        &self,
        asked: Asked,
        rpc: Rpc,
        request: &impl Message,
        idempotent: bool,
    ) -> Result<A, CallError> {
        let call = Call {
            metadata: Metadata::default(),
            rpc,
            message: request.encode_to_vec().into(),
            lane: asked.lane,
            deadline: Some(asked.until.into_std()),
            idempotent,
        };
        let answer = self.raw.call(call).await?;
        A::decode(answer).map_err(|error| {
            CallError::Unknown(format!("store {}: unreadable answer: {error}", self.name))
        })
    }

    /// Where the store stands, to an etcd's client.
    fn header_at(&self, at: tail::Place) -> ResponseHeader {
        ResponseHeader {
            cluster_id: at.incarnation,
            member_id: at.incarnation,
            revision: at.revision,
            raft_term: 1,
        }
    }

    async fn header(self: &Arc<Self>, asked: Asked) -> Result<ResponseHeader, CallError> {
        Ok(self.header_at(self.place(asked).await?))
    }

    /// kine's own compaction may be on, and then this does nothing: it compacts by itself.
    async fn compact(
        self: &Arc<Self>,
        asked: Asked,
        request: CompactionRequest,
    ) -> Result<CompactionResponse, CallError> {
        let _as_kine_has_it: CompactionResponse =
            self.ask(asked, Rpc::Compact, &request, false).await?;
        let header = Some(self.header(asked).await?);
        Ok(CompactionResponse { header })
    }

    async fn status(self: &Arc<Self>, asked: Asked) -> Result<StatusResponse, CallError> {
        let status: StatusResponse = self
            .ask(asked, Rpc::Status, &StatusRequest {}, true)
            .await?;
        let header = self.header(asked).await?;
        let revision = u64::try_from(header.revision).unwrap_or_default();
        Ok(StatusResponse {
            header: Some(header),
            leader: header.member_id,
            raft_index: revision,
            raft_applied_index: revision,
            raft_term: header.raft_term,
            ..status
        })
    }

    /// kine knows no alarms, so there are none.
    async fn alarm(
        self: &Arc<Self>,
        asked: Asked,
        request: AlarmRequest,
    ) -> Result<AlarmResponse, CallError> {
        if request.action() != AlarmAction::Get {
            return Err(self.has_no(Rpc::Alarm));
        }
        Ok(AlarmResponse {
            header: Some(self.header(asked).await?),
            alarms: Vec::new(),
        })
    }

    fn has_no(&self, rpc: Rpc) -> CallError {
        let (name, rpc) = (&self.name, rpc.name());
        CallError::Refused(Status::unimplemented(format!(
            "store {name} is a kine, which has no {rpc}"
        )))
    }

    /// What kine cannot do. It was not tried.
    fn cannot(&self, what: &str) -> CallError {
        let name = &self.name;
        CallError::Refused(Status::invalid_argument(format!(
            "store {name} is a kine, which cannot {what}"
        )))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map")]
fn encoded<M: Message>(message: M) -> Bytes {
    message.encode_to_vec().into()
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, CallError> {
    M::decode(message).map_err(|error| {
        CallError::Refused(Status::internal(format!(
            "grpc: error unmarshalling request: {error}"
        )))
    })
}
