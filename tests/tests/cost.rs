//! What a request costs Keyloom: CPU time, in parts of what etcd's own proxy takes for the same
//! requests to stores that hold the same.
//!
//! CPU time and not time: how long a process waits for a core does not count. On a machine that has
//! too much to do a process takes more for the same (its caches are cold, its batches small), and
//! never less: of several short rounds, one subject after the other, the least of each counts. There
//! are more rounds only while a bound is not met. The bounds are far from what was measured
//! (`docs/contributing/benchmarks.md`), and what grows past them has about doubled.

#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::fs;

use futures_util::future::try_join_all;
use keyloom_etcd_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use keyloom_tests::{
    Client, Etcd, GrpcProxy, Keyloom, Version,
    topology::{Matcher, Topology},
};

/// Rounds that there are in any case, and at most.
const ROUNDS: [usize; 2] = [2, 12];
const CLIENTS: usize = 32;
const CONNECTIONS: usize = 4;
/// The objects of the list, and their bytes.
const OBJECTS: usize = 500;
const OBJECT: usize = 1024;

/// What is asked, how often by each client in each round, and at most how much of grpc-proxy's CPU
/// time it may take with one store and with four.
struct Work {
    kind: Kind,
    times: usize,
    bounds: [f64; 2],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Get,
    Update,
    List,
}

const WORK: [Work; 4] = [
    Work {
        kind: Kind::Put,
        times: 40,
        bounds: [0.8, 1.3],
    },
    Work {
        kind: Kind::Get,
        times: 40,
        bounds: [0.8, 1.1],
    },
    Work {
        kind: Kind::Update,
        times: 30,
        bounds: [0.85, 1.2],
    },
    Work {
        kind: Kind::List,
        times: 3,
        bounds: [0.7, 1.0],
    },
];

/// An endpoint under load, and the least CPU time that each kind of work took so far, in ns.
struct Subject {
    name: &'static str,
    process: u32,
    clients: Vec<Client>,
    least: [f64; WORK.len()],
}

impl Subject {
    fn new(name: &'static str, process: u32, client: impl Fn() -> Client) -> Self {
        Self {
            name,
            process,
            clients: (0..CONNECTIONS).map(|_| client()).collect(),
            least: [f64::INFINITY; WORK.len()],
        }
    }

    async fn round(&mut self, place: usize) {
        let Work { kind, times, .. } = WORK[place];
        let before = cpu_of(self.process);
        let clients = (0..CLIENTS).zip(self.clients.iter().cycle().cloned());
        let tasks = clients.map(|(number, client)| tokio::spawn(ask(kind, times, number, client)));
        try_join_all(tasks).await.expect("a client's task");
        let took = cpu_of(self.process).saturating_sub(before) as f64;
        self.least[place] = self.least[place].min(took);
    }
}

/// Every namespace has its store, where there are four.
fn namespace(number: usize) -> String {
    format!("/registry/pods/ns-{}/", number % 4)
}

fn put(key: &str, length: usize) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: vec![7; length].into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    }
}

async fn fill(client: &Client) {
    for number in 0..OBJECTS {
        let key = format!("/registry/secrets/ns-1/object-{number:03}");
        let written = client.kv().put(put(&key, OBJECT)).await;
        written.expect("a write");
    }
}

async fn ask(kind: Kind, times: usize, number: usize, client: Client) {
    let key = format!("{}object-{number:03}", namespace(number));
    let mut revision = client.put(&key, [7; 256]).await;
    let mut kv = client.kv();
    for _ in 0..times {
        match kind {
            Kind::Put => {
                kv.put(put(&key, 256)).await.expect("a write");
            }
            Kind::Get => {
                let answer = kv.range(get(&key)).await.expect("a read");
                assert_eq!(answer.into_inner().kvs[0].value.len(), 256);
            }
            Kind::Update => {
                let answer = kv.txn(update(&key, revision)).await.expect("an update");
                let answer = answer.into_inner();
                assert!(answer.succeeded, "nobody else writes {key}");
                revision = answer.header.expect("a header").revision;
            }
            Kind::List => {
                let answer = kv.range(page()).await.expect("a list").into_inner();
                assert_eq!((answer.kvs.len(), answer.more), (OBJECTS, false));
            }
        }
    }
}

fn page() -> RangeRequest {
    RangeRequest {
        key: "/registry/secrets/ns-1/".into(),
        range_end: "/registry/secrets/ns-10".into(),
        limit: OBJECTS as i64,
        ..RangeRequest::default()
    }
}

/// kube-apiserver's: written if it is still at that revision, else read.
fn update(key: &str, revision: i64) -> TxnRequest {
    let unchanged = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
        ..Compare::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![unchanged],
        success: vec![op(request_op::Request::RequestPut(put(key, 256)))],
        failure: vec![op(request_op::Request::RequestRange(get(key)))],
    }
}

/// What all threads of a process have run so far, in ns.
fn cpu_of(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a running process");
    let ran = |task: std::io::Result<fs::DirEntry>| {
        // A thread may end meanwhile: neither program has one that does work and ends.
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let ran: Vec<u64> = tasks.filter_map(ran).collect();
    assert!(!ran.is_empty(), "the kernel does not say what a thread ran");
    ran.into_iter().sum()
}

/// The bounds that are not met: what was seen of them.
fn missed(proxy: &Subject, keylooms: &[Subject; 2]) -> Vec<String> {
    let mut missed = Vec::new();
    for (place, work) in WORK.iter().enumerate() {
        for (subject, bound) in keylooms.iter().zip(work.bounds) {
            let ratio = subject.least[place] / proxy.least[place];
            let what = format!("{:?}, {}: {ratio:.2}", work.kind, subject.name);
            println!("{what} times grpc-proxy's CPU time, at most {bound}");
            // Not a number where nothing was measured.
            if !(ratio > 0.0 && ratio < bound) {
                missed.push(format!("{what}, and not below {bound}"));
            }
        }
    }
    missed
}

#[tokio::test]
async fn a_request_costs_less_than_through_etcds_own_proxy() {
    let [store, s0, s1, s2, s3] = Etcd::start_all([Version::V36; 5]).await;
    let proxy = GrpcProxy::in_front_of(&store.url()).await;
    let one = Keyloom::in_front_of(&store.url()).await;
    let topology = Topology::new(&[
        ("s1", Matcher::Namespaces(&["ns-1"])),
        ("s2", Matcher::Namespaces(&["ns-2"])),
        ("s3", Matcher::Namespaces(&["ns-3"])),
    ]);
    let urls = [&s0, &s1, &s2, &s3].map(Etcd::url);
    let four = Keyloom::start(&topology.file(&urls)).await;
    fill(&one.client()).await;
    fill(&four.client()).await;
    let mut proxy = Subject::new("grpc-proxy", proxy.id(), || proxy.client());
    let mut keylooms = [
        Subject::new("one store", one.id(), || one.client()),
        Subject::new("four stores", four.id(), || four.client()),
    ];
    let [least, most] = ROUNDS;
    for round in 1..=most {
        for place in 0..WORK.len() {
            proxy.round(place).await;
            for subject in &mut keylooms {
                subject.round(place).await;
            }
        }
        if round >= least && missed(&proxy, &keylooms).is_empty() {
            return;
        }
    }
    panic!("{:#?}", missed(&proxy, &keylooms));
}
