//! Whose word on its progress can be believed.
//!
//! Before 3.4.25 and 3.5.8 an etcd answers a progress request at once, also while events below the
//! revision that it names are still to be sent (etcd's issue 15220). kine calls itself an etcd of a
//! recent version and names no leader; its headers can run ahead of its events.

use std::time::Duration;

use bytes::Bytes;
use keyloom_etcd_api::{Metadata, Rpc, etcdserverpb::StatusResponse};
use keyloom_store::{Call, Lane};
use prost::Message as _;
use tokio::time::Instant;

use crate::snapshot::ServingStore;

/// How long a store may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asked each time: a store may be another version than it was. One that does not say is not
/// believed.
pub(super) async fn can_be_trusted(member: &ServingStore) -> bool {
    let call = Call {
        metadata: Metadata::default(),
        rpc: Rpc::Status,
        message: Bytes::new(),
        lane: Lane::Unary,
        deadline: Some((Instant::now() + PATIENCE).into_std()),
        idempotent: true,
    };
    let status = member.store.call(call).await.ok();
    let status = status.and_then(|answer| StatusResponse::decode(answer).ok());
    status.is_some_and(|status| status.leader != 0 && waits_for_events(&status.version))
}

/// Whether an etcd of this version tells progress only behind the events.
fn waits_for_events(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u64>);
    let mut next = || numbers.next().and_then(Result::ok);
    match (next(), next(), next()) {
        (Some(3), Some(4), Some(patch)) => patch >= 25,
        (Some(3), Some(5), Some(patch)) => patch >= 8,
        (Some(3), Some(minor), Some(_)) => minor >= 6,
        (Some(major), Some(_), Some(_)) => major > 3,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_not_trusted() {
        for (version, trusted) in [
            ("3.3.27", false),
            ("3.4.23", false),
            ("3.4.24", false),
            ("3.4.25", true),
            ("3.4.31", true),
            ("3.5.0", false),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.5.21", true),
            ("3.6.0", true),
            ("3.6.16", true),
            ("3.7.0-alpha.0", true),
            ("4.0.0", true),
            ("2.3.8", false),
            ("3.6", false),
            ("", false),
            ("not decided", false),
        ] {
            assert_eq!(waits_for_events(version), trusted, "{version}");
        }
    }
}
