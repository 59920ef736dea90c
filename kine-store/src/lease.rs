//! Leases for a store that has none: kine deletes a key so many seconds after it was written.
//!
//! A lease is kept here, under the id that was asked for, with the time at which it ends; a key that
//! is put on it is given what is left as its seconds. So a lease ends as an etcd's does, key by key.
//! What kine cannot do shows: a lease that has keys here cannot be prolonged, so a keep-alive answers
//! what is left of it and then 0, which tells the client that it is lost. After a restart of this
//! program the leases from before are unknown; their keys still end in time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use keyloom_etcd_api::{
    EtcdError, Status,
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse,
    },
    mvccpb::KeyValue,
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{Duration, Instant};

use super::{Asked, Core, decode};
use keyloom_store::{CallError, Lane, Requests};

/// Of a lease with more keys than this it is not remembered which they are: then it cannot be
/// revoked before its end.
const MOST_KEYS: usize = 1 << 16;

/// How many leases there may be.
const MOST_LEASES: usize = 1 << 16;

/// etcd's `MaxLeaseTTL`.
const LONGEST: i64 = 9_000_000_000;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: Mutex<HashMap<i64, Lease>>,
}

#[derive(Debug)]
struct Lease {
    ttl: i64,
    ends: Instant,
    /// The keys, and the revision at which each was put on it; `None` where there were too many.
    keys: Option<BTreeMap<Bytes, i64>>,
}

impl Lease {
    /// In whole seconds, rounded up: no key may end before its lease.
    fn left(&self) -> i64 {
        let left = self.ends.saturating_duration_since(Instant::now());
        let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        i64::try_from(whole).unwrap_or(LONGEST)
    }

    fn has_keys(&self) -> bool {
        self.keys.as_ref().is_none_or(|keys| !keys.is_empty())
    }
}

fn refused(error: EtcdError) -> CallError {
    CallError::Refused(error.into())
}

impl Leases {
    pub(super) fn grant(
        &self,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, CallError> {
        if request.ttl > LONGEST {
            return Err(refused(EtcdError::LeaseTtlTooLarge));
        }
        let mut leases = self.leases.lock();
        leases.retain(|_, lease| lease.left() > 0);
        if request.id == 0 || leases.len() >= MOST_LEASES {
            let what = "too many leases, or one without an id, for a store that has none";
            return Err(CallError::Refused(Status::resource_exhausted(what)));
        }
        if leases.contains_key(&request.id) {
            return Err(refused(EtcdError::LeaseExist));
        }
        let ttl = request.ttl.max(1);
        let seconds = u64::try_from(ttl).unwrap_or(1);
        leases.insert(
            request.id,
            Lease {
                ttl,
                ends: Instant::now() + Duration::from_secs(seconds),
                keys: Some(BTreeMap::new()),
            },
        );
        Ok(LeaseGrantResponse {
            id: request.id,
            ttl,
            ..LeaseGrantResponse::default()
        })
    }

    /// What kine is to be told for a lease; 0 for none.
    pub(super) fn seconds(&self, id: i64) -> Result<i64, CallError> {
        if id == 0 {
            return Ok(0);
        }
        let leases = self.leases.lock();
        let left = leases.get(&id).map_or(0, Lease::left);
        if left > 0 {
            Ok(left)
        } else {
            Err(refused(EtcdError::LeaseNotFound))
        }
    }

    /// A key was put on a lease, or on none.
    pub(super) fn used(&self, id: i64, key: &Bytes, revision: i64) {
        if let Some(lease) = self.leases.lock().get_mut(&id)
            && let Some(keys) = &mut lease.keys
        {
            keys.insert(key.clone(), revision);
            if keys.len() > MOST_KEYS {
                lease.keys = None;
            }
        }
    }

    pub(super) fn time_to_live(&self, request: &LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse {
        let leases = self.leases.lock();
        let lease = leases.get(&request.id).filter(|lease| lease.left() > 0);
        let keys = lease.and_then(|lease| lease.keys.as_ref());
        let keys = keys.filter(|_| request.keys);
        LeaseTimeToLiveResponse {
            id: request.id,
            ttl: lease.map_or(-1, Lease::left),
            granted_ttl: lease.map_or(0, |lease| lease.ttl),
            keys: keys
                .map(|keys| keys.keys().cloned().collect())
                .unwrap_or_default(),
            header: None,
        }
    }

    pub(super) fn all(&self) -> Vec<LeaseStatus> {
        let leases = self.leases.lock();
        let live = leases.iter().filter(|(_, lease)| lease.left() > 0);
        live.map(|(id, _)| LeaseStatus { id: *id }).collect()
    }

    /// What is left of a lease that is kept alive; 0 where it is not there.
    fn kept(&self, id: i64) -> i64 {
        let mut leases = self.leases.lock();
        let Some(lease) = leases.get_mut(&id).filter(|lease| lease.left() > 0) else {
            return 0;
        };
        if !lease.has_keys() {
            let seconds = u64::try_from(lease.ttl).unwrap_or(1);
            lease.ends = Instant::now() + Duration::from_secs(seconds);
        }
        lease.left()
    }
}

impl Core {
    /// Deletes the keys of a lease, each by itself.
    pub(super) async fn lease_revoke(
        self: &Arc<Self>,
        asked: Asked,
        request: LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, CallError> {
        let keys = match self.leases.leases.lock().get(&request.id) {
            None => return Err(refused(EtcdError::LeaseNotFound)),
            Some(lease) => lease.keys.clone(),
        };
        let Some(keys) = keys else {
            return Err(self.cannot("revoke a lease of so many keys; they end with its time"));
        };
        for (key, mod_revision) in keys {
            let kv = KeyValue {
                key: key.clone(),
                mod_revision,
                ..KeyValue::default()
            };
            // One that was written since is on no lease, or on another.
            self.delete_if(asked, &key, &kv).await?;
        }
        self.leases.leases.lock().remove(&request.id);
        Ok(LeaseRevokeResponse {
            header: Some(self.header(asked).await?),
        })
    }
}

/// Answers a client's keep-alives, one after the other.
pub(super) fn keep_alives(
    core: Arc<Core>,
    requests: Requests,
) -> impl Stream<Item = Result<Bytes, CallError>> + Send + 'static {
    stream::unfold(Some((core, requests)), |state| async move {
        let (core, mut requests) = state?;
        let request = requests.next().await?;
        match answer(&core, request).await {
            Ok(answer) => Some((Ok(answer), Some((core, requests)))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

async fn answer(core: &Arc<Core>, request: Bytes) -> Result<Bytes, CallError> {
    let request: LeaseKeepAliveRequest = decode(request)?;
    let asked = Asked {
        lane: Lane::Watch,
        until: Instant::now() + PATIENCE,
    };
    let answer = LeaseKeepAliveResponse {
        header: Some(core.header(asked).await?),
        id: request.id,
        ttl: core.leases.kept(request.id),
    };
    Ok(answer.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(leases: &Leases, id: i64, ttl: i64) -> Result<LeaseGrantResponse, CallError> {
        leases.grant(&LeaseGrantRequest { id, ttl })
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_given_what_is_left_of_its_lease() {
        let leases = Leases::default();
        grant(&leases, 7, 60).unwrap();
        assert!(grant(&leases, 7, 60).is_err());
        assert_eq!(leases.seconds(7).unwrap(), 60);
        tokio::time::advance(Duration::from_millis(20_500)).await;
        assert_eq!(leases.seconds(7).unwrap(), 40);
        assert_eq!(leases.seconds(0).unwrap(), 0);
        assert!(leases.seconds(8).is_err());
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(leases.seconds(7).is_err());
        assert!(leases.all().is_empty());
        grant(&leases, 7, 60).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_can_be_kept_until_it_has_a_key_here() {
        let leases = Leases::default();
        grant(&leases, 7, 60).unwrap();
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(leases.kept(7), 60);
        leases.used(7, &Bytes::from_static(b"/a"), 5);
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(leases.kept(7), 10);
        let asked = LeaseTimeToLiveRequest { id: 7, keys: true };
        assert_eq!(leases.time_to_live(&asked).keys, ["/a"]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(leases.kept(7), 0);
        assert_eq!(leases.time_to_live(&asked).ttl, -1);
    }
}
