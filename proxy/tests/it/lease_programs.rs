//! Random programs of lease calls through Keyloom over three stores against one model etcd: every
//! answer and every error is the same, and the ends of leases are seen as DELETE events.
//!
//! One difference is documented: a lease ends on each store at a revision of that store. The
//! reference deletes the keys of one lease in the same parts.

use std::{collections::BTreeMap, time::Duration};

use crate::lease_calls::{DEFAULT, RBAC, TENANT, TTL, call, keep_alive, leased};
use crate::support::{
    Keyloom, THREE, list, stores,
    streams::{Stream, open_watch_on},
};
use bytes::Bytes;
use keyloom_etcd_api::{
    Code, Rpc, Status,
    etcdserverpb::{DeleteRangeRequest, LeaseKeepAliveResponse, ResponseHeader},
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseLeasesRequest,
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, RequestOp, TxnRequest, WatchCreateRequest, request_op::Request,
    },
};
use keyloom_testkit::{
    Step,
    model::{Fault, Gate, ModelStore},
    program::{Chance, Headers, Tolerance, WatchLog, same_answer},
};
use prost::Message as _;
use tokio::time::Instant;

/// Leases are granted with these ids; 0 is one that the store chooses.
const IDS: [i64; 5] = [0, 101, 102, 103, 104];
/// The store of each key.
const KEYS: [(&str, usize); 6] = [
    (DEFAULT, 0),
    ("/registry/pods/default/b", 0),
    (RBAC, 1),
    ("/registry/roles/default/b", 1),
    (TENANT, 2),
    ("/registry/pods/tenant-a/b", 2),
];

struct Run {
    seed: u64,
    chance: Chance,
    reference: ModelStore,
    stores: Vec<ModelStore>,
    keyloom: Keyloom,
    /// Every id that was ever granted.
    known: Vec<i64>,
    /// Seconds since every lease was kept alive.
    since: i64,
    expected: Stream,
    told: WatchLog,
    tested: Stream,
    got: WatchLog,
}

fn without_member(header: &mut Option<ResponseHeader>) {
    let header = header.as_mut().unwrap();
    *header = ResponseHeader {
        revision: header.revision,
        ..ResponseHeader::default()
    };
}

/// Compares an answer, or the error, to the letter.
macro_rules! same {
    ($run:expr, $what:expr, $expected:expr, $got:expr) => {{
        let (mut expected, mut got) = ($expected.map_err(Status::from), $got);
        for answer in [&mut expected, &mut got] {
            if let Ok(answer) = answer {
                without_member(&mut answer.header);
            }
        }
        let text = |status: Status| (status.code(), status.message().to_owned());
        assert_eq!(
            expected.clone().map_err(text),
            got.map_err(text),
            "seed {}: {:?}",
            $run.seed,
            $what
        );
        expected
    }};
}

impl Run {
    async fn new(seed: u64) -> Self {
        let (reference, stores) = (ModelStore::default(), stores(3));
        let keyloom = Keyloom::start(THREE, &stores).await;
        let everything = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: 1,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let (expected, tested) = (open_watch_on(&reference).await, keyloom.open_watch().await);
        expected.create(everything.clone());
        tested.create(everything);
        Self {
            seed,
            chance: Chance::new(seed),
            reference,
            stores,
            keyloom,
            known: vec![999],
            since: 0,
            expected,
            told: WatchLog::new(Headers::Any),
            tested,
            got: WatchLog::new(Headers::NeverAhead),
        }
    }

    async fn step(&mut self) {
        match self.chance.below(20) {
            0..4 => self.grant().await,
            4..11 => self.put().await,
            11 => self.revoke().await,
            12..14 => self.keep_alive().await,
            14..16 => self.time_to_live().await,
            16 => self.leases().await,
            17..19 => self.time_passes().await,
            _ => self.all_expire().await,
        }
    }

    fn id(&mut self) -> i64 {
        self.chance.pick(&self.known).copied().unwrap()
    }

    async fn grant(&mut self) {
        let ttl = match self.chance.below(8) {
            0 => 9_000_000_001,
            _ => TTL,
        };
        let id = self.chance.pick(&IDS).copied().unwrap();
        let request = LeaseGrantRequest { ttl, id };
        let got: Result<LeaseGrantResponse, _> =
            call(&self.keyloom, Rpc::LeaseGrant, request).await;
        let expected = self.reference.with(|etcd| etcd.lease_grant(&request));
        if let Ok(answer) = same!(self, request, expected, got) {
            self.known.push(answer.id);
        }
    }

    async fn put(&mut self) {
        let (key, _) = self.chance.pick(&KEYS).copied().unwrap();
        let lease = if self.chance.percent(25) {
            0
        } else {
            self.id()
        };
        let step = Step::Put(leased(key, lease));
        let got = self.keyloom.ask(&step).await;
        let expected = self
            .reference
            .with(|etcd| etcd.apply(&step))
            .map_err(Into::into);
        let tolerance = Tolerance { cluster_id: true };
        if let Err(difference) = same_answer(&expected, &got, tolerance) {
            panic!("seed {}: {step:?}\n{difference}", self.seed);
        }
    }

    /// The keys of each lease by store, as the reference has them.
    fn attached(&self) -> BTreeMap<(usize, i64), Vec<&'static str>> {
        let mut attached = BTreeMap::<_, Vec<_>>::new();
        self.reference.with(|etcd| {
            for (key, store) in KEYS {
                let kv = etcd.keyspace().get(key.as_bytes(), etcd.revision());
                if let Some(kv) = kv.filter(|kv| kv.lease != 0) {
                    attached.entry((store, kv.lease)).or_default().push(key);
                }
            }
        });
        attached
    }

    /// One part: the keys of a lease on one store, at one revision.
    fn delete_part(&self, keys: &[&'static str]) {
        let op = |key: &&'static str| RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key: (*key).into(),
                ..DeleteRangeRequest::default()
            })),
        };
        let txn = TxnRequest {
            success: keys.iter().map(op).collect(),
            ..TxnRequest::default()
        };
        self.reference
            .with(|etcd| etcd.apply(&Step::Txn(txn)).unwrap());
    }

    async fn revoke(&mut self) {
        let request = LeaseRevokeRequest { id: self.id() };
        let got: Result<LeaseRevokeResponse, _> =
            call(&self.keyloom, Rpc::LeaseRevoke, request).await;
        let attached = self.attached();
        // The default store comes last.
        for store in [1, 2, 0] {
            if let Some(keys) = attached.get(&(store, request.id)) {
                self.delete_part(keys);
            }
        }
        let expected = self.reference.with(|etcd| etcd.lease_revoke(&request));
        drop(same!(self, request, expected, got));
        self.settle().await;
    }

    async fn keep_alive(&mut self) {
        let id = self.id();
        self.keep(id).await;
    }

    async fn keep(&mut self, id: i64) {
        let request = LeaseKeepAliveRequest { id };
        let got = keep_alive(&self.keyloom, id).await;
        let expected: Result<LeaseKeepAliveResponse, Status> =
            Ok(self.reference.with(|etcd| etcd.lease_keep_alive(&request)));
        drop(same!(self, request, expected, got));
    }

    async fn time_to_live(&mut self) {
        let keys = self.chance.percent(60);
        let request = LeaseTimeToLiveRequest {
            id: self.id(),
            keys,
        };
        let got: Result<LeaseTimeToLiveResponse, _> =
            call(&self.keyloom, Rpc::LeaseTimeToLive, request).await;
        let expected: Result<LeaseTimeToLiveResponse, Status> = Ok(self
            .reference
            .with(|etcd| etcd.lease_time_to_live(&request)));
        drop(same!(self, request, expected, got));
    }

    async fn leases(&mut self) {
        let request = LeaseLeasesRequest {};
        let got: Result<LeaseLeasesResponse, _> =
            call(&self.keyloom, Rpc::LeaseLeases, request).await;
        let expected: Result<LeaseLeasesResponse, Status> =
            Ok(self.reference.with(|etcd| etcd.lease_leases()));
        drop(same!(self, request, expected, got));
    }

    /// Too little for anything to end.
    async fn time_passes(&mut self) {
        let seconds = self.chance.between(1, 5);
        if self.since + seconds >= TTL {
            self.keep_all().await;
        }
        self.since += seconds;
        for store in self.stores.iter().chain([&self.reference]) {
            store.with(|etcd| etcd.advance(seconds));
        }
    }

    async fn keep_all(&mut self) {
        for id in self.known.clone() {
            self.keep(id).await;
        }
        self.since = 0;
    }

    /// All leases end, on one store after the other.
    async fn all_expire(&mut self) {
        self.keep_all().await;
        let attached = self.attached();
        for (number, store) in self.stores.iter().enumerate() {
            store.with(|etcd| etcd.advance(TTL));
            for ((at, _), keys) in &attached {
                if *at == number {
                    self.delete_part(keys);
                }
            }
            // Another store's events must come after this one's, as in the reference.
            self.told_all().await;
        }
        self.reference.with(|etcd| etcd.advance(TTL));
        self.settle().await;
    }

    async fn told_all(&self) {
        let expected = self.reference.with(|etcd| etcd.revision());
        for _ in 0..1000 {
            let answer = self.keyloom.range(list("/registry/")).await.unwrap();
            if answer.header.unwrap().revision >= expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("seed {}: an expiry was never seen", self.seed);
    }

    /// Every event of both sides, compared.
    async fn settle(&mut self) {
        while let Some(Some(Ok(response))) = self.expected.next_within(Duration::ZERO).await {
            self.told.take(&response).unwrap();
        }
        while self.got.len() < self.told.len() {
            let response = self.tested.next().await;
            self.got.take(&response).unwrap();
        }
        if let Err(why) = self.told.same(&self.got, 0, true) {
            panic!("seed {}: {why}", self.seed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_over_three_stores_answer_as_one() {
    let mut events = 0;
    for seed in 0..20 {
        let mut run = Run::new(seed).await;
        for _ in 0..250 {
            run.step().await;
        }
        run.settle().await;
        events += run.got.events();
    }
    assert!(events > 20 * 40, "{events}");
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_lease_on_a_hung_store_are_not_waited_for_long() {
    let (keyloom, stores) = crate::lease_calls::used().await;
    let gate = Gate::new();
    stores[1].inject_always(
        Some(Rpc::LeaseTimeToLive),
        Fault::HangsBeforeApply(gate.clone()),
    );
    let request = LeaseTimeToLiveRequest {
        id: crate::lease_calls::LEASE,
        keys: true,
    };
    let message = Bytes::from(request.encode_to_vec());
    let begun = Instant::now();
    // Without a deadline of the client's.
    let error = keyloom
        .unary_without_deadline(Rpc::LeaseTimeToLive, message)
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("\"rbac\""), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    gate.release();
}
