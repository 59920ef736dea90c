//! What is left of a lease, and its keys, over the stores that have it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse},
    wire::Message,
};
use keyloom_ledger::UnifiedRev;
use keyloom_store::CallError;
use prost::Message as _;
use tokio::time::timeout;

use super::{local, nonsense};
use crate::{
    failure::Failure,
    services::{Request, forward::SequencedAnswer},
    snapshot::ServingStore,
};

/// How long a store other than the default may take to say how much time is left.
const WAIT: Duration = Duration::from_secs(1);

/// And to name the lease's keys, which cannot be left out: about etcd's own limit for a call
/// (`ReqTimeout` in `server/config/config.go`).
const WAIT_FOR_KEYS: Duration = Duration::from_secs(7);

/// A store's answer and the unified revision of its header.
type Remaining = (UnifiedRev, LeaseTimeToLiveResponse);

impl Request<'_> {
    /// A store that does not answer is left out where only the time is asked for; keys that are
    /// missing would read as deleted.
    pub(in crate::services) async fn lease_time_to_live(
        self,
        message: Bytes,
    ) -> Result<Bytes, Failure> {
        let request = LeaseTimeToLiveRequest::decode(message.clone())?;
        let default = self.default_store()?;
        let sequenced = self.remaining(default, &message).await?;
        let mut answer = decode(default, &sequenced)?;
        if answer.ttl < 0 {
            self.services.leases.memory.forget(request.id);
            let SequencedAnswer { sequenced, answer } = sequenced;
            return self.outward(default, sequenced, Message::LeaseTimeToLiveResponse, answer);
        }
        let mut at = sequenced.sequenced.unified;
        self.keep_routed(default, &mut answer.keys);
        let others = self
            .holders(request.id)
            .map(|member| self.remaining_on(member, &request, &message));
        for other in join_all(others).await {
            let Some((revision, other)) = other? else {
                continue;
            };
            at = at.max(revision);
            answer.ttl = answer.ttl.min(other.ttl);
            answer.keys.extend(other.keys);
        }
        answer.keys.sort_unstable();
        answer.header = Some(self.services.identity.response_header(at.get()));
        Ok(answer.encode_to_vec().into())
    }

    /// `None` where the store has no such lease, or need not be waited for.
    async fn remaining_on(
        self,
        member: &ServingStore,
        request: &LeaseTimeToLiveRequest,
        message: &Bytes,
    ) -> Result<Option<Remaining>, Failure> {
        let limit = if request.keys { WAIT_FOR_KEYS } else { WAIT };
        let asked = timeout(limit, self.remaining(member, message)).await;
        let sequenced = match asked.unwrap_or_else(|_| Err(no_answer(member))) {
            Ok(sequenced) => sequenced,
            Err(failure) if request.keys => return Err(failure),
            Err(_) => return Ok(None),
        };
        let mut answer = decode(member, &sequenced)?;
        if answer.ttl < 0 {
            return Ok(None);
        }
        self.keep_routed(member, &mut answer.keys);
        Ok(Some((sequenced.sequenced.unified, answer)))
    }

    async fn remaining(
        self,
        member: &ServingStore,
        message: &Bytes,
    ) -> Result<SequencedAnswer, Failure> {
        self.call_sequenced(member, local(Rpc::LeaseTimeToLive), message.clone())
            .await
    }

    /// Whatever else a store holds is invisible.
    fn keep_routed(self, member: &ServingStore, keys: &mut Vec<Bytes>) {
        let routed = |key: &[u8]| {
            let index = self.snapshot.topology.route(key)?;
            Some(self.snapshot.member(index)?.slot)
        };
        keys.retain(|key| routed(key) == Some(member.slot));
    }
}

fn no_answer(member: &ServingStore) -> Failure {
    Failure::Store {
        store: member.name.clone(),
        error: CallError::TimedOut,
    }
}

fn decode(
    member: &ServingStore,
    sequenced: &SequencedAnswer,
) -> Result<LeaseTimeToLiveResponse, Failure> {
    LeaseTimeToLiveResponse::decode(sequenced.answer.clone())
        .map_err(|error| nonsense(member, &error))
}
