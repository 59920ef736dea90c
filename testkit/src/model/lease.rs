//! Leases, on a clock that moves only when it is told to.
//!
//! Which keys hang on a lease is not kept apart: they are those whose current value names it.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
        LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    },
};

use super::Etcd;

/// etcd's upper limit, in seconds.
const MAX_TTL: i64 = 9_000_000_000;

/// What etcd makes of smaller ones with its default election timeout, in seconds.
const MIN_TTL: i64 = 2;

/// The leases of an etcd and their clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    /// Seconds since the beginning.
    now: i64,
    granted: BTreeMap<i64, Lease>,
    /// How many ids were chosen for clients that gave none.
    chosen: i64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: i64,
    expires: i64,
}

impl Leases {
    pub(super) fn has(&self, id: i64) -> bool {
        self.granted.contains_key(&id)
    }

    fn choose_id(&mut self) -> i64 {
        loop {
            self.chosen += 1;
            let id = 0x1ea5_e000_0000 + self.chosen;
            if !self.has(id) {
                return id;
            }
        }
    }

    /// The leases in the order in which they expire.
    fn by_expiry(&self) -> Vec<(i64, Lease)> {
        let mut leases: Vec<_> = self
            .granted
            .iter()
            .map(|(id, lease)| (*id, *lease))
            .collect();
        leases.sort_by_key(|(_, lease)| lease.expires);
        leases
    }
}

impl Etcd {
    /// # Errors
    /// As etcd.
    pub fn lease_grant(
        &mut self,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, EtcdError> {
        if request.ttl > MAX_TTL {
            return Err(EtcdError::LeaseTtlTooLarge);
        }
        let id = match request.id {
            0 => self.leases_mut().choose_id(),
            id => id,
        };
        if self.leases().has(id) {
            return Err(EtcdError::LeaseExist);
        }
        let ttl = request.ttl.max(MIN_TTL);
        let expires = self.leases().now.saturating_add(ttl);
        self.leases_mut().granted.insert(id, Lease { ttl, expires });
        Ok(LeaseGrantResponse {
            header: Some(self.header()),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// # Errors
    /// As etcd.
    pub fn lease_revoke(
        &mut self,
        request: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse, EtcdError> {
        if !self.leases().has(request.id) {
            return Err(EtcdError::LeaseNotFound);
        }
        self.end_lease(request.id);
        Ok(LeaseRevokeResponse {
            header: Some(self.header()),
        })
    }

    /// What is left of a lease; a lease that is not there has -1.
    #[must_use]
    pub fn lease_time_to_live(&self, request: &LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse {
        let mut answer = LeaseTimeToLiveResponse {
            header: Some(self.header()),
            id: request.id,
            ttl: -1,
            ..LeaseTimeToLiveResponse::default()
        };
        if let Some(lease) = self.leases().granted.get(&request.id) {
            answer.ttl = lease.expires - self.leases().now;
            answer.granted_ttl = lease.ttl;
            if request.keys {
                answer.keys = self.attached(request.id);
            }
        }
        answer
    }

    /// Every lease, the next to expire first.
    #[must_use]
    pub fn lease_leases(&self) -> LeaseLeasesResponse {
        let leases = self.leases().by_expiry();
        LeaseLeasesResponse {
            header: Some(self.header()),
            leases: leases
                .iter()
                .map(|(id, _)| LeaseStatus { id: *id })
                .collect(),
        }
    }

    /// Renews a lease; one that is not there has 0 to live.
    pub fn lease_keep_alive(&mut self, request: &LeaseKeepAliveRequest) -> LeaseKeepAliveResponse {
        let header = Some(self.header());
        let now = self.leases().now;
        let ttl = match self.leases_mut().granted.get_mut(&request.id) {
            Some(lease) => {
                lease.expires = now.saturating_add(lease.ttl);
                lease.ttl
            }
            None => 0,
        };
        LeaseKeepAliveResponse {
            header,
            id: request.id,
            ttl,
        }
    }

    /// Moves the clock. Each lease that expires takes its keys with it at one revision.
    pub fn advance(&mut self, seconds: i64) {
        let now = self.leases().now.saturating_add(seconds);
        self.leases_mut().now = now;
        for (id, lease) in self.leases().by_expiry() {
            if lease.expires <= now {
                self.end_lease(id);
            }
        }
    }

    fn end_lease(&mut self, id: i64) {
        for key in self.attached(id) {
            self.keyspace_mut().delete(&KeyRange::key(key));
        }
        self.keyspace_mut().commit();
        self.leases_mut().granted.remove(&id);
    }

    /// The keys that hang on a lease, in their order.
    fn attached(&self, id: i64) -> Vec<Bytes> {
        self.keyspace()
            .range(&KeyRange::all(), self.revision())
            .filter(|kv| kv.lease == id)
            .map(|kv| kv.key.clone())
            .collect()
    }
}
