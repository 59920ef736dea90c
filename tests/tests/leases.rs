//! Leases through Keyloom and on one etcd: random programs of lease calls get the same answers and
//! the same errors, revisions included.
//!
//! The keys of a lease lie on one store here: where they lie on several, a lease ends with one
//! revision for each, which is a documented difference.

use futures_util::stream;
use keyloom_etcd_api::{
    Status,
    etcdserverpb::{
        DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
        LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, ResponseHeader,
    },
};
use keyloom_etcd_client::{Answered as _, status_of};
use keyloom_testkit::program::Chance;
use keyloom_tests::{
    Client, Etcd, Ground, Keyloom, Kind, Version,
    duel::{seed, steps},
    ground::{self, ETCDS},
    topology::{Matcher, Topology},
};

/// Which are granted and asked for; the last is never granted.
const IDS: [i64; 7] = [901, 902, 903, 904, 905, 906, 999];
/// Longer than any test takes, so that no lease ends by itself.
const TTL: i64 = 86_400;
/// etcd's `MaxLeaseTTL` in `server/lease/lessor.go`.
const TOO_LONG: i64 = 9_000_000_001;
/// What a clock may be late on a busy machine, in seconds.
const LATE: i64 = 600;

/// The keys of each store.
const KEYS: [[&str; 2]; 3] = [
    ["/registry/pods/default/a", "/registry/secrets/default/b"],
    ["/registry/roles/default/a", "/registry/clusterroles/b"],
    ["/registry/pods/tenant-a/a", "/registry/secrets/tenant-a/b"],
];

#[derive(Clone, Debug)]
enum Call {
    Grant(i64, i64),
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(i64, bool),
    Leases,
    Put(&'static str, i64),
    Delete(&'static str),
    List,
}

/// The lease's key: all keys of a lease lie on the store that its number says.
fn key_of(chance: &mut Chance, id: i64) -> &'static str {
    let store = usize::try_from(id).expect("positive") % KEYS.len();
    KEYS[store][chance.below(2)]
}

fn next(chance: &mut Chance) -> Call {
    let id = IDS[chance.below(IDS.len())];
    let granted = IDS[chance.below(IDS.len() - 1)];
    match chance.below(20) {
        0..=4 if chance.percent(10) => Call::Grant(granted, TOO_LONG),
        0..=4 => Call::Grant(granted, TTL + chance.between(0, 999)),
        5..=6 => Call::Revoke(id),
        7..=8 => Call::KeepAlive(id),
        9..=10 => Call::TimeToLive(id, true),
        11 => Call::TimeToLive(id, false),
        12 => Call::Leases,
        13..=16 => Call::Put(key_of(chance, id), id),
        17 => Call::Put(key_of(chance, id), 0),
        18 => Call::Delete(key_of(chance, id)),
        _ => Call::List,
    }
}

/// What came of a call, without what no two etcds say alike.
async fn outcome(client: &Client, call: &Call) -> Result<String, (keyloom_etcd_api::Code, String)> {
    answer(client, call)
        .await
        .map_err(|status| (status.code(), status.message().to_owned()))
}

async fn answer(client: &Client, call: &Call) -> Result<String, Status> {
    let mut lease = client.lease();
    let said = match call.clone() {
        Call::Grant(id, ttl) => {
            let request = LeaseGrantRequest { ttl, id };
            let answer = lease.lease_grant(request).await.answered()?;
            let revision = revision(answer.header);
            format!(
                "{revision}: {} for {} {}",
                answer.id, answer.ttl, answer.error
            )
        }
        Call::Revoke(id) => {
            let answer = lease
                .lease_revoke(LeaseRevokeRequest { id })
                .await
                .answered()?;
            format!("{}", revision(answer.header))
        }
        Call::KeepAlive(id) => {
            let requests = stream::iter([LeaseKeepAliveRequest { id }]);
            let mut answers = lease.lease_keep_alive(requests).await.answered()?;
            let answer = answers
                .message()
                .await
                .map_err(|status| status_of(&status))?
                .expect("an answer");
            let revision = revision(answer.header);
            format!("{revision}: {} {}", answer.id, answer.ttl)
        }
        Call::TimeToLive(id, keys) => {
            let request = LeaseTimeToLiveRequest { id, keys };
            let mut answer = lease.lease_time_to_live(request).await.answered()?;
            answer.keys.sort();
            let left = if answer.ttl < 0 {
                "ended"
            } else {
                assert!(answer.granted_ttl - answer.ttl <= LATE, "{answer:?}");
                "lives"
            };
            let (revision, granted) = (revision(answer.header), answer.granted_ttl);
            format!(
                "{revision}: {} {left} of {granted} {:?}",
                answer.id, answer.keys
            )
        }
        Call::Leases => {
            let answer = lease.lease_leases(LeaseLeasesRequest {}).await.answered()?;
            let mut ids: Vec<_> = answer.leases.iter().map(|one| one.id).collect();
            ids.sort_unstable();
            format!("{ids:?}")
        }
        Call::Put(key, lease) => {
            let request = PutRequest {
                key: key.into(),
                value: "v".into(),
                lease,
                ..PutRequest::default()
            };
            let answer = client.kv().put(request).await.answered()?;
            format!("{}", revision(answer.header))
        }
        Call::Delete(key) => {
            let request = DeleteRangeRequest {
                key: key.into(),
                ..DeleteRangeRequest::default()
            };
            let answer = client.kv().delete_range(request).await.answered()?;
            format!("{}: {}", revision(answer.header), answer.deleted)
        }
        Call::List => {
            let request = RangeRequest {
                key: "/registry/".into(),
                range_end: "/registry0".into(),
                ..RangeRequest::default()
            };
            let answer = client.kv().range(request).await.answered()?;
            format!("{}: {:?}", revision(answer.header), answer.kvs)
        }
    };
    Ok(said)
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.expect("a header").revision
}

/// Sends each call to both and compares; gives back how many were answered without an error.
async fn same(reference: &Client, tested: &Client, chance: &mut Chance, count: usize) -> usize {
    let mut answered = 0;
    for at in 0..count {
        let call = next(chance);
        let (expected, got) = tokio::join!(outcome(reference, &call), outcome(tested, &call));
        assert_eq!(got, expected, "call {at}: {call:?}");
        answered += usize::from(expected.is_ok());
    }
    answered
}

#[tokio::test]
async fn in_front_of_one_etcd_lease_calls_are_answered_alike() {
    for version in [Version::V36, Version::V34] {
        let [reference, store] = Etcd::start_all([version; 2]).await;
        let keyloom = Keyloom::in_front_of(&store.url()).await;
        let mut chance = Chance::new(seed(801));
        let (reference, tested) = (reference.client(), keyloom.client());
        let count = steps(600);
        let answered = same(&reference, &tested, &mut chance, count).await;
        assert!(answered > count / 3, "{answered} of {count}");
    }
}

/// Two programs with a restart between them, over stores that the keys of [`KEYS`] lie on.
pub(crate) async fn same_as_one(stores: [Kind; 3], usual: u64) {
    let (etcd, ground) = tokio::join!(Etcd::start(Version::V36), Ground::start(&stores));
    let topology = Topology::new(&[
        ("rbac", Matcher::Resources(&["roles", "clusterroles"])),
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
    ]);
    let keyloom = ground::serve(&topology.file(ground.endpoints())).await;
    same_before_and_after(&etcd.client(), keyloom, usual).await;
}

/// What Keyloom knows of leases in its memory only is gone in the second half.
pub(crate) async fn same_before_and_after(reference: &Client, mut keyloom: Keyloom, usual: u64) {
    let mut chance = Chance::new(seed(usual));
    let count = steps(600);
    let mut answered = same(reference, &keyloom.client(), &mut chance, count).await;
    assert!(keyloom.terminate().await.success(), "a clean end");
    keyloom.start_again().await;
    answered += same(reference, &keyloom.client(), &mut chance, count).await;
    assert!(answered > 2 * count / 3, "{answered} of {}", 2 * count);
}

#[tokio::test]
async fn over_three_etcds_lease_calls_are_answered_as_by_one() {
    same_as_one(ETCDS, 802).await;
}
