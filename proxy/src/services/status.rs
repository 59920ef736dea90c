//! Maintenance.Status: what the stores say, as one server.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{StatusRequest, StatusResponse},
};
use keyloom_store::Lane;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::timeout;

use super::{
    Context, Services,
    forward::{CallOptions, send},
};
use crate::{
    failure::Failure,
    order::Order,
    snapshot::{ServingSnapshot, ServingStore},
};

impl Services {
    /// The oldest version that a store has, because clients switch features on by it; the sum of
    /// the sizes; the default store's raft fields. A store that does not answer is named under
    /// `errors`; the default store must answer.
    pub(super) async fn status(
        &self,
        snapshot: &ServingSnapshot,
        context: &Context,
    ) -> Result<Bytes, Failure> {
        let asked = snapshot
            .stores()
            .map(|member| self.status_of(member, context));
        let mut answers = join_all(asked).await.into_iter();
        let mut status = answers
            .next()
            .unwrap_or(Err(Failure::Unimplemented("Status")))?;
        for (answer, member) in answers.zip(snapshot.stores().skip(1)) {
            match answer {
                Ok(other) => {
                    self.versions.remember(&member.name, &other.version);
                    add(&mut status, other);
                }
                Err(failure) => {
                    oldest(&mut status, self.versions.known(&member.name));
                    let error = format!("store \"{}\": {failure}", member.name);
                    status.errors.push(error);
                }
            }
        }
        let revision = match (&snapshot.order, &status.header) {
            (Order::Merged(order), _) => order.head().get(),
            (Order::Native, Some(header)) => header.revision,
            (Order::Native, None) => 0,
        };
        status.header = Some(self.identity.response_header(revision));
        // A client takes the member whose id is the leader's for the leader.
        if status.leader != 0 {
            status.leader = self.identity.member_id();
        }
        Ok(status.encode_to_vec().into())
    }

    async fn status_of(
        &self,
        member: &ServingStore,
        context: &Context,
    ) -> Result<StatusResponse, Failure> {
        let message = Bytes::from(StatusRequest {}.encode_to_vec());
        let options = CallOptions::read(Rpc::Status, Lane::Unary);
        let asked = send(member, options, message, context);
        let answer = timeout(self.settings.status_timeout, asked)
            .await
            .unwrap_or_else(|_| {
                Err(Failure::Store {
                    store: member.name.clone(),
                    error: keyloom_store::CallError::TimedOut,
                })
            })?;
        StatusResponse::decode(answer).map_err(|error| Failure::Nonsense {
            store: member.name.clone(),
            what: error.to_string(),
        })
    }
}

fn add(status: &mut StatusResponse, other: StatusResponse) {
    let sum = |sum: &mut i64, size| *sum = sum.saturating_add(size);
    sum(&mut status.db_size, other.db_size);
    sum(&mut status.db_size_in_use, other.db_size_in_use);
    sum(&mut status.db_size_quota, other.db_size_quota);
    oldest(status, other.version);
    status.errors.extend(other.errors);
}

fn oldest(status: &mut StatusResponse, version: String) {
    if older(&version, &status.version) {
        status.version = version;
    }
}

/// What is said of a store that never said it: clients ask it for nothing that came later.
/// kube-apiserver asks once, so that a store that is down must not make Keyloom look newer.
const UNKNOWN: &str = "3.4.0";

/// The versions that stores said they have, by name.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<BTreeMap<String, String>>);

impl Versions {
    fn remember(&self, store: &str, version: &str) {
        let mut versions = self.0.lock();
        if versions.get(store).is_none_or(|known| known != version) {
            versions.insert(store.to_owned(), version.to_owned());
        }
    }

    fn known(&self, store: &str) -> String {
        let versions = self.0.lock();
        versions
            .get(store)
            .map_or(UNKNOWN, String::as_str)
            .to_owned()
    }
}

/// Compares versions such as `3.5.13` by number; what is no number counts as 0.
fn older(a: &str, b: &str) -> bool {
    let parts = |version: &str| -> Vec<u64> {
        version
            .split(['.', '-', '+'])
            .take(3)
            .map(|part| part.parse().unwrap_or_default())
            .collect()
    };
    parts(a) < parts(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(older("3.4.23", "3.5.13"));
        assert!(older("3.5.9", "3.5.13"));
        assert!(!older("3.6.0", "3.6.0"));
        assert!(!older("3.10.0", "3.9.9"));
        assert!(older("3.6.0-alpha", "3.6.1"));
    }

    #[test]
    fn sizes_add_up_and_the_oldest_version_counts() {
        let part = |version: &str, db_size| StatusResponse {
            version: version.to_owned(),
            db_size,
            ..StatusResponse::default()
        };
        let mut status = part("3.6.1", 5);
        add(&mut status, part("3.4.30", 7));
        add(&mut status, part("3.5.0", 1));
        assert_eq!((status.version.as_str(), status.db_size), ("3.4.30", 13));
        // A store can say anything.
        add(&mut status, part("3.5.0", i64::MAX));
        assert_eq!(status.db_size, i64::MAX);
    }
}
