//! LeaseKeepAlive: what a client hears is the default store's answer; the other stores that have
//! the lease are kept along.
//!
//! Each keep-alive is a stream of its own to a store, with one request, as etcd's client does it
//! for a single keep-alive: nothing has to be told apart on a shared stream, and a store that
//! hangs holds up no other lease. The default store is asked first, because a lease that it no
//! longer has must not be kept on the others.
//!
//! ```text
//! request --> default store -- gone --> TTL 0
//!                 |  alive, or silent for WAIT
//!                 v
//!             other stores, each in a task --- all answered, or WAIT is over --> smallest TTL
//!                 |
//!                 '-- late: goes on in the background; not waited for until it answers again
//! ```
//!
//! Bounds: a client's stream has [`AT_ONCE`] keep-alives under way, a task lives for [`GIVE_UP`]
//! at most, and [`MOST_LATE`] tasks wait for stores that are late.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt as _, future,
    stream::{self, BoxStream},
};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse},
    wire,
};
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_store::{CallError, Requests};
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{Leases, nonsense};
use crate::{
    failure::Failure,
    order::{Answered, Order},
    services::{
        Context, Request, Services,
        forward::{disordered, unreadable},
    },
    snapshot::ServingStore,
};

/// How many keep-alives of one client's stream are under way at once. Answers keep their order.
const AT_ONCE: usize = 16;

/// How long a store other than the default may delay an answer.
const WAIT: Duration = Duration::from_secs(1);

/// When a keep-alive that no store answers is given up; etcd's own limit is about as long
/// (`ReqTimeout` in `server/config/config.go`).
const GIVE_UP: Duration = Duration::from_secs(7);

/// How many keep-alives may wait for late stores; above that they are left out.
pub(super) const MOST_LATE: usize = 1024;

impl Services {
    /// Answers the keep-alives of one client. The stream ends with the first failure, as etcd's.
    pub(in crate::services) fn keep_alives(
        self: &Arc<Self>,
        requests: Requests,
    ) -> BoxStream<'static, Result<Bytes, Failure>> {
        let services = Arc::clone(self);
        requests
            .map(move |message| {
                let services = Arc::clone(&services);
                async move { services.keep_alive(message).await }
            })
            .buffered(AT_ONCE)
            .boxed()
    }

    async fn keep_alive(&self, message: Bytes) -> Result<Bytes, Failure> {
        let snapshot = self.snapshot.load_full();
        let Order::Merged(order) = &snapshot.order else {
            return Err(Failure::Unimplemented("LeaseKeepAlive"));
        };
        let context = Context::until(None);
        let call = Request {
            services: self,
            snapshot: &snapshot,
            order,
            context: &context,
        };
        let request = LeaseKeepAliveRequest::decode(message.clone())?;
        let mut answer = call.keep(request.id, message).await?;
        if self.leases.memory.is_lost(request.id) {
            answer.ttl = 0;
        }
        Ok(answer.encode_to_vec().into())
    }
}

impl Request<'_> {
    async fn keep(self, id: i64, message: Bytes) -> Result<LeaseKeepAliveResponse, Failure> {
        let leases = &self.services.leases;
        if leases.memory.is_lost(id) {
            // The client was told so, and what is left of it ends.
            let revision = self.order.head().get();
            let header = Some(self.services.identity.response_header(revision));
            return Ok(LeaseKeepAliveResponse { header, id, ttl: 0 });
        }
        let mut renewed = pin!(self.keep_on_default(message.clone()));
        let soon = timeout(WAIT, renewed.as_mut()).await;
        if let Ok(Ok(answer)) = &soon
            && answer.ttl <= 0
        {
            leases.memory.forget(id);
            return Ok(*answer);
        }
        // They are kept also where the default store does not answer: when it is back, it may
        // find that it has the lease still.
        let others = self.keep_on_others(id, &message);
        let mut answer = match soon {
            Ok(answer) => answer?,
            Err(_) => renewed.await?,
        };
        if answer.ttl > 0 {
            answer.ttl = answer.ttl.min(others.smallest().await);
        }
        Ok(answer)
    }

    /// The default store's answer, with its place in the order.
    async fn keep_on_default(self, message: Bytes) -> Result<LeaseKeepAliveResponse, Failure> {
        let member = self.default_store()?;
        self.order
            .admit(member.slot)
            .map_err(|error| disordered(member, error))?;
        let answer = keep_on(member, message).await?;
        let header = wire::peek_header(&answer)
            .map_err(|error| unreadable(member, error))?
            .unwrap_or_default();
        self.recognise(member, header)?;
        let answered = Answered {
            slot: member.slot,
            revision: StoreRev::new(header.revision),
            wrote: false,
            known: None,
            is_delivery: false,
        };
        let sequenced = self
            .order
            .sequence(answered)
            .await
            .map_err(|error| disordered(member, error))?;
        let mut answer =
            LeaseKeepAliveResponse::decode(answer).map_err(|error| nonsense(member, &error))?;
        let revision = sequenced.unified.get();
        answer.header = Some(self.services.identity.response_header(revision));
        Ok(answer)
    }

    /// Starts to keep the lease on the other stores that have it, or may have it.
    fn keep_on_others(self, id: i64, message: &Bytes) -> Others {
        let leases = &self.services.leases;
        let mut others = Others {
            leases: Arc::clone(leases),
            awaited: JoinSet::new(),
            slots: BTreeSet::new(),
            until: Instant::now() + WAIT,
        };
        for member in self.holders(id) {
            let keep = Keep {
                leases: Arc::clone(leases),
                member: member.clone(),
                id,
            };
            let message = message.clone();
            if !leases.memory.is_late(member.slot) {
                others.slots.insert(member.slot);
                others.awaited.spawn(keep.run(message));
            } else if let Ok(permit) = Arc::clone(&leases.late).try_acquire_owned() {
                tokio::spawn(async move {
                    keep.run(message).await;
                    drop(permit);
                });
            }
        }
        others
    }
}

/// The other stores, while they are waited for.
struct Others {
    leases: Arc<Leases>,
    awaited: JoinSet<(StoreSlot, Option<i64>)>,
    /// Those that have not answered.
    slots: BTreeSet<StoreSlot>,
    until: Instant,
}

impl Others {
    /// The smallest time to live that was heard in time.
    async fn smallest(mut self) -> i64 {
        let mut smallest = i64::MAX;
        while let Ok(Some(done)) = timeout_at(self.until, self.awaited.join_next()).await {
            let Ok((slot, ttl)) = done else { continue };
            self.slots.remove(&slot);
            smallest = smallest.min(ttl.unwrap_or(i64::MAX));
        }
        for slot in &self.slots {
            self.leases.memory.set_late(*slot, true);
        }
        smallest
    }
}

impl Drop for Others {
    /// Whoever is not waited for goes on.
    fn drop(&mut self) {
        self.awaited.detach_all();
    }
}

/// A keep-alive to a store other than the default. It ends by itself.
struct Keep {
    leases: Arc<Leases>,
    member: ServingStore,
    id: i64,
}

impl Keep {
    /// The time to live, where the store has the lease.
    async fn run(self, message: Bytes) -> (StoreSlot, Option<i64>) {
        let Self { leases, member, id } = self;
        let asked = leases.memory.asked();
        let answer = keep_on(&member, message).await.ok().and_then(|answer| {
            let answer = LeaseKeepAliveResponse::decode(answer).ok()?;
            let header = answer.header.as_ref()?;
            (header.cluster_id == member.cluster_id).then_some(answer)
        });
        let Some(answer) = answer else {
            return (member.slot, None);
        };
        leases.memory.set_late(member.slot, false);
        let has = answer.ttl > 0;
        leases.memory.heard(id, member.slot, asked, has);
        (member.slot, has.then_some(answer.ttl))
    }
}

/// One keep-alive to one store.
async fn keep_on(member: &ServingStore, message: Bytes) -> Result<Bytes, Failure> {
    let asked = async {
        let request = stream::once(future::ready(message)).boxed();
        let mut answers = member.store.stream(Rpc::LeaseKeepAlive, request).await?;
        let none = || Err(CallError::Unknown("the stream ended".to_owned()));
        answers.next().await.unwrap_or_else(none)
    };
    timeout(GIVE_UP, asked)
        .await
        .unwrap_or(Err(CallError::TimedOut))
        .map_err(|error| Failure::Store {
            store: member.name.clone(),
            error,
        })
}
