//! etcd's services: one file per call that has a shape of its own.
//!
//! A handler reads as the way of a request: checks, plan, revisions inward, send, revisions
//! outward, join.

mod forward;
mod entered;
mod pass_stream;
mod range;
mod merged;
mod put;
mod delete_range;
mod txn;
mod snapshot_txn;
mod compact;
mod lease;
mod watch;
mod alarm;
mod defragment;
mod hash;
mod cluster;
mod status;
mod pages;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use keyloom_etcd_api::{EtcdError, Metadata, Rpc, framing::Pieces, wire::EncodedList};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    caller::Caller,
    failure::Failure,
    feeds::WatchOptions,
    identity::Identity,
    metrics::TopologyMetrics,
    order::{Keeper, Merged, Order, OrderError},
    runtime::MergedRuntime,
    snapshot::{Gate, ServingSnapshot},
};
use lease::Leases;
use pages::Pages;
pub(crate) use pass_stream::StreamAnswer;

/// etcd's `--max-txn-ops`.
const MAX_TXN_OPS: usize = 128;

/// What one call brings with it besides its message.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Who makes it.
    pub(crate) caller: Arc<Caller>,
    /// When the client stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Whether the client wants no answer of an endpoint that has no leader (`hasleader` in etcd's
    /// metadata): here, of an instance whose leadership is over.
    pub(crate) needs_leader: bool,
    /// What it sends beside its message: handed on where one store is behind Keyloom.
    pub(crate) metadata: Metadata,
}

impl Context {
    /// A call of Keyloom's own, or of a program that holds it: nobody's, and with a deadline at most.
    pub(crate) fn until(deadline: Option<Instant>) -> Self {
        Self {
            caller: Arc::default(),
            deadline,
            needs_leader: false,
            metadata: Metadata::default(),
        }
    }

    /// Waits until an answer may leave. Asked as the last thing before it does: whatever it took
    /// to come by it, the leadership must not have ended meanwhile.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) async fn until_may_leave(&self, order: &Order) -> Result<(), Failure> {
        match order {
            Order::Native => Ok(()),
            Order::Merged(order) => self.until_order_allows(order).await,
        }
    }

    /// [`Self::until_may_leave`] over several stores.
    pub(crate) async fn until_order_allows(&self, order: &Merged) -> Result<(), Failure> {
        let may = order.until_may_leave().await;
        may.map_err(|error| self.ended(error))
    }

    /// Why nothing may leave, as this client wants to hear it.
    pub(crate) fn ended(&self, error: OrderError) -> Failure {
        if self.needs_leader && error == OrderError::LeadershipOver {
            return EtcdError::NoLeader.into();
        }
        Failure::Ended(error)
    }
}

/// The settings of the services.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long a status waits for a store.
    pub(crate) status_timeout: Duration,
    pub(crate) watch: WatchOptions,
}

/// The message that answers a unary call.
#[derive(Debug)]
pub(crate) enum Answer {
    Message(Pieces),
    /// As the one store sent it, with what came beside it.
    Passed(keyloom_store::Answer),
    /// Of several stores: put together while it is sent.
    List(EncodedList),
}

impl From<Bytes> for Answer {
    fn from(message: Bytes) -> Self {
        Self::Message(message.into())
    }
}

impl Answer {
    /// In one piece.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Message(pieces) => pieces.into_bytes(),
            Self::Passed(answer) => answer.message.into_bytes(),
            Self::List(list) => list.into_bytes(),
        }
    }
}

/// Answers calls.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) snapshot: ArcSwap<ServingSnapshot>,
    /// `None` with one store.
    pub(crate) runtime: Option<Arc<MergedRuntime>>,
    /// Holds writes back while their keys move.
    pub(crate) gate: Arc<Gate>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) settings: Settings,
    /// The addresses that clients learn from the member list, once they are known.
    pub(crate) client_urls: OnceLock<Vec<String>>,
    /// Streams end when it is cancelled; calls are finished.
    pub(crate) stopping: CancellationToken,
    pages: Pages,
    leases: Arc<Leases>,
    versions: status::Versions,
}

impl Services {
    pub(crate) fn new(
        snapshot: ServingSnapshot,
        identity: Arc<Identity>,
        settings: Settings,
        keeper: Option<Keeper>,
        metrics: TopologyMetrics,
    ) -> Self {
        let stopping = CancellationToken::new();
        let runtime = snapshot.merged().zip(keeper).map(|(order, keeper)| {
            let (order, watch) = (Arc::clone(order), &settings.watch);
            let runtime = MergedRuntime::start(order, keeper, &snapshot, watch, metrics, &stopping);
            Arc::new(runtime)
        });
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            runtime,
            gate: Arc::default(),
            identity,
            settings,
            client_urls: OnceLock::new(),
            stopping,
            pages: Pages::default(),
            leases: Arc::default(),
            versions: status::Versions::default(),
        }
    }

    /// What of a request's headers goes on to the store: nothing where there are several, which
    /// have logins of their own.
    pub(crate) fn metadata(&self, headers: &HeaderMap) -> Metadata {
        match &self.snapshot.load().order {
            Order::Native => Metadata::of(headers),
            Order::Merged(_) => Metadata::default(),
        }
    }

    /// Answers one unary call.
    ///
    /// # Errors
    /// [`Failure`], whose text and code are what the client gets.
    pub(crate) async fn unary(
        &self,
        rpc: Rpc,
        message: Bytes,
        context: &Context,
    ) -> Result<Answer, Failure> {
        loop {
            let snapshot = self.snapshot.load_full();
            match self.answer(&snapshot, rpc, message.clone(), context).await {
                // The keys that it concerns route elsewhere now, and it has changed nothing.
                Err(Failure::Superseded(_)) => {}
                // An error is an answer too: "compacted" and "in the future" are said of an order
                // that a successor may have continued.
                answer => {
                    context.until_may_leave(&snapshot.order).await?;
                    return answer;
                }
            }
        }
    }

    async fn answer(
        &self,
        snapshot: &ServingSnapshot,
        rpc: Rpc,
        message: Bytes,
        context: &Context,
    ) -> Result<Answer, Failure> {
        match (rpc, &snapshot.order) {
            (Rpc::MemberList, _) => self.member_list().await.map(Answer::from),
            (Rpc::Status, _) => Box::pin(self.status(snapshot, context))
                .await
                .map(Answer::from),
            (_, Order::Native) => {
                let answer = self.pass(snapshot, rpc, message, context).await;
                answer.map(Answer::Passed)
            }
            (_, Order::Merged(order)) => {
                if context.needs_leader {
                    context.until_may_leave(&snapshot.order).await?;
                }
                let call = Request {
                    services: self,
                    snapshot,
                    order,
                    context,
                };
                match rpc {
                    Rpc::Range => call.range(message).await,
                    _ => call.unary(rpc, message).await.map(Answer::from),
                }
            }
        }
    }
}

/// One call over several stores: everything that its handler needs.
#[derive(Clone, Copy, Debug)]
struct Request<'a> {
    services: &'a Services,
    snapshot: &'a ServingSnapshot,
    order: &'a crate::order::Merged,
    context: &'a Context,
}

impl Request<'_> {
    async fn unary(self, rpc: Rpc, message: Bytes) -> Result<Bytes, Failure> {
        match rpc {
            Rpc::Put => self.put(message).await,
            Rpc::DeleteRange => self.delete_range(message).await,
            Rpc::Txn => self.txn(message).await,
            // Apart, so that what is called often does not carry their room about.
            _ => Box::pin(self.seldom(rpc, message)).await,
        }
    }

    async fn seldom(self, rpc: Rpc, message: Bytes) -> Result<Bytes, Failure> {
        match rpc {
            Rpc::Compact => self.compact(message).await,
            Rpc::LeaseGrant => self.lease_grant(message).await,
            Rpc::LeaseRevoke => self.lease_revoke(message).await,
            Rpc::LeaseTimeToLive => self.lease_time_to_live(message).await,
            Rpc::LeaseLeases => self.lease_leases(message).await,
            Rpc::Alarm => self.alarm(message).await,
            Rpc::Defragment => self.defragment(message).await,
            Rpc::Hash => self.hash(message).await,
            Rpc::HashKV => self.hash_kv(message).await,
            _ => Err(Failure::Unimplemented(rpc.name())),
        }
    }
}
