//! Random keys and ranges, what `topology route` says of them, and what calls reached the stores.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::RangeRequest;
use keyloom_testkit::program::Chance;

use crate::{client::Client, etcd::Etcd, programs};

/// A key, or a range with its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    pub key: Bytes,
    pub range_end: Bytes,
}

impl Query {
    #[must_use]
    pub fn request(&self) -> RangeRequest {
        RangeRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            ..RangeRequest::default()
        }
    }
}

const RESOURCES: [&str; 12] = [
    "pods",
    "podsecuritypolicies",
    "secrets",
    "configmaps",
    "roles",
    "clusterroles",
    "minions",
    "services/specs",
    "services/endpoints",
    "events",
    "stable.example.com/shirts",
    "stable.example.com/trousers",
];

const NAMESPACES: [&str; 8] = [
    "default",
    "kube-system",
    "tenant-a",
    "tenant-b",
    "team-a-1",
    "team-a-2",
    "team-b",
    "zone",
];

/// A key as Kubernetes sets it, or near one, or anything.
fn key(chance: &mut Chance) -> Bytes {
    let mut key = Vec::new();
    if chance.percent(92) {
        key.extend_from_slice(b"/registry/");
    }
    key.extend_from_slice(pick(chance, &RESOURCES).as_bytes());
    let name = ["/web-1", "/web-2", "/x-odd", "/", "", "/a/b"];
    for part in [
        &format!("/{}", pick(chance, &NAMESPACES)),
        pick(chance, &name),
    ] {
        if chance.percent(85) {
            key.extend_from_slice(part.as_bytes());
        }
    }
    if chance.percent(10) {
        key.truncate(chance.below(key.len()));
    }
    if chance.percent(10) {
        let odd = [0, b'0', b'/', b'z', 0xff];
        key.push(
            odd.get(chance.below(odd.len()))
                .copied()
                .unwrap_or_default(),
        );
    }
    if key.is_empty() {
        Bytes::from_static(b"\0")
    } else {
        key.into()
    }
}

fn pick(chance: &mut Chance, from: &[&'static str]) -> &'static str {
    from.get(chance.below(from.len()))
        .copied()
        .unwrap_or_default()
}

/// A key, or a range: a prefix, from one key to another, backwards at times, or from a key on.
#[must_use]
pub fn query(chance: &mut Chance) -> Query {
    let key = key(chance);
    let range_end = match chance.below(10) {
        0..=3 => Bytes::new(),
        4..=6 => keyloom_etcd_api::KeyRange::prefix(key.clone()).range_end(),
        7 | 8 => self::key(chance),
        _ => Bytes::from_static(b"\0"),
    };
    Query { key, range_end }
}

/// The stores that `keyloom topology route` names for each query.
#[must_use]
pub fn routes(topology: &Path, queries: &[Query]) -> Vec<Vec<String>> {
    let mut command = Command::new(programs::keyloom());
    command
        .args(["topology", "route", "--batch", "--topology"])
        .arg(topology);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("keyloom starts");
    let mut input = child.stdin.take().expect("it was asked for");
    let mut lines = Vec::new();
    for query in queries {
        let (key, end) = (query.key.escape_ascii(), query.range_end.escape_ascii());
        writeln!(lines, "{key}\t{end}").expect("vectors grow");
    }
    // Written beside reading: each side would wait for the other once both pipes are full.
    let writing = std::thread::spawn(move || input.write_all(&lines));
    let output = child.wait_with_output().expect("keyloom ends");
    writing.join().expect("no panic").expect("keyloom reads");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "topology route: {complaint}");
    let text = String::from_utf8(output.stdout).expect("names are text");
    let stores = |line: &str| {
        line.split('\t')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    text.lines().map(stores).collect()
}

/// Queries by the stores that they touch.
#[must_use]
pub fn by_stores(queries: &[Query], routes: &[Vec<String>]) -> BTreeMap<Vec<String>, Vec<Query>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (query, stores) in queries.iter().zip(routes) {
        groups
            .entry(stores.clone())
            .or_default()
            .push(query.clone());
    }
    groups
}

/// The calls that read keys and were answered by each store, by its own count.
///
/// Keyloom's own writes to the default store are transactions too; each takes a revision there,
/// and while nobody else writes there are no other revisions.
pub async fn reads(etcds: &[Etcd]) -> Vec<i64> {
    let mut reads = Vec::new();
    for etcd in etcds {
        reads.push(settled_reads(etcd).await);
    }
    reads
}

/// Two equal samples in a row: one taken while Keyloom writes may count the write's call without
/// its revision, or the other way round.
async fn settled_reads(etcd: &Etcd) -> i64 {
    let mut last = sample(etcd).await;
    loop {
        let next = sample(etcd).await;
        if next == last {
            return next.calls - next.revision;
        }
        last = next;
    }
}

#[derive(PartialEq, Eq)]
struct Sample {
    calls: i64,
    revision: i64,
}

async fn sample(etcd: &Etcd) -> Sample {
    // A status carries the revision and is none of the calls counted here.
    let revision = etcd
        .client()
        .status()
        .await
        .header
        .expect("a header")
        .revision;
    let metrics = etcd.metrics().await;
    let calls = metrics.handled("Range") + metrics.handled("Txn");
    Sample {
        calls: i64::try_from(calls).expect("not that many"),
        revision,
    }
}

/// Sends all queries, some at a time.
pub async fn ask_all(client: &Client, queries: &[Query]) {
    const AT_ONCE: usize = 16;
    for some in queries.chunks(AT_ONCE) {
        let asked = some.iter().map(async |query: &Query| {
            let answer = client.kv().range(query.request()).await;
            assert!(answer.is_ok(), "{query:?}: {answer:?}");
        });
        futures_util::future::join_all(asked).await;
    }
}
