//! Events as kube-apiserver writes them: each created once under a lease that many share, and left
//! to expire.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{LeaseGrantResponse, TxnResponse};
use prost::Message as _;

use super::{Script, answer::Revisions};
use crate::{
    keyspace::{Keyspace, Resource, value},
    request::Request,
};

/// Events that share a lease (kube-apiserver: at most 1,000, and those of a minute).
const OF_A_LEASE: u64 = 100;

/// Long enough that none expires within a run.
const TTL: i64 = 300;

/// One event after the other.
#[derive(Debug)]
pub(super) struct Events {
    space: Keyspace,
    client: usize,
    /// Tells this run's events from those that an earlier one left.
    run: u128,
    number: u64,
    /// 0 where the next request asks for one.
    lease: i64,
    revisions: Revisions,
}

impl Events {
    pub(super) fn new(space: Keyspace, client: usize) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            space,
            client,
            run: since.unwrap_or_default().as_micros(),
            number: 0,
            lease: 0,
            revisions: Revisions::default(),
        }
    }

    fn key(&self) -> Bytes {
        let (client, run, number) = (self.client, self.run, self.number);
        let place = usize::try_from(number).unwrap_or_default();
        let namespace = Resource::Events.namespace((client + place) % self.space.namespaces);
        format!("{namespace}event-{client:05}-{run:016x}-{number:08}").into()
    }
}

impl Script for Events {
    fn request(&mut self) -> Request {
        if self.lease == 0 {
            return Request::grant(TTL);
        }
        let key = self.key();
        Request::create(&key, &value(&key, self.space.value_size), self.lease)
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        if self.lease == 0 {
            let answer = LeaseGrantResponse::decode(answer)?;
            ensure!(answer.id != 0 && answer.error.is_empty(), "not a lease");
            self.lease = answer.id;
            return Ok(());
        }
        self.revisions.wrote(&answer)?;
        ensure!(
            TxnResponse::decode(answer)?.succeeded,
            "a compare failed that must hold"
        );
        self.number += 1;
        if self.number.is_multiple_of(OF_A_LEASE) {
            self.lease = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::etcdserverpb::ResponseHeader;

    use super::*;

    #[test]
    fn events_share_a_lease_and_no_key() {
        let space = Keyspace {
            namespaces: 2,
            keys: 1,
            value_size: 8,
            objects: 1,
            object_size: 1,
        };
        let mut events = Events::new(space, 3);
        assert_eq!(events.request().kind, "grant");
        let granted = LeaseGrantResponse {
            id: 7,
            ttl: TTL,
            ..LeaseGrantResponse::default()
        };
        events.answer(granted.encode_to_vec().into()).unwrap();
        let mut frames = Vec::new();
        for number in 1..=OF_A_LEASE {
            let request = events.request();
            assert_eq!(request.kind, "create");
            frames.push(request.frame);
            let header = ResponseHeader {
                revision: i64::try_from(number).unwrap(),
                ..ResponseHeader::default()
            };
            let created = TxnResponse {
                header: Some(header),
                succeeded: true,
                responses: Vec::new(),
            };
            events.answer(created.encode_to_vec().into()).unwrap();
        }
        frames.dedup();
        assert_eq!(frames.len(), 100);
        assert_eq!(
            events.request().kind,
            "grant",
            "the next hundred have their own"
        );
    }
}
