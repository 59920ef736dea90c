//! Keyloom over an etcd and a kine, both models: what a client is told of keys on the kine is what
//! one etcd would have told, the revisions apart, which kine's own rows share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::support::{Keyloom, Ready, get, list, put, store};
use bytes::Bytes;
use futures_util::StreamExt as _;
use keyloom_environment::{Random as _, SeededRandom};
use keyloom_etcd_api::{
    Code, Rpc, Status,
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse,
        PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
        WatchResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
        watch_request::RequestUnion,
    },
    mvccpb::{KeyValue, event::EventType},
};
use keyloom_kine_store::Detected;
use keyloom_proxy::Refusal;
use keyloom_store::Store;
use keyloom_testkit::{Answer, Step, kine::KineModel, model::ModelStore};
use prost::Message as _;

const TWO: &str = "
default: {endpoint: 'http://default.invalid:2379'}
backends:
- name: shirts
  endpoint: http://kine.invalid:2379
  customresource: {group: stable.example.com, kind: shirts}
";

const ONE: &str = "default: {endpoint: 'http://default.invalid:2379'}";

const SHIRTS: &str = "/registry/stable.example.com/shirts/";
const OTHERS: &str = "/registry/pods/";

/// The stores, which outlive a Keyloom.
struct Stores {
    default: ModelStore,
    kine: KineModel,
}

impl Stores {
    fn new(gaps: i64) -> Self {
        Self {
            default: store(1),
            kine: KineModel::with_gaps(gaps),
        }
    }

    async fn serve(&self) -> Keyloom {
        let kine = detected(&self.kine, 5);
        let default = Arc::new(self.default.clone()) as Arc<dyn Store>;
        Keyloom::over(TWO, vec![default, kine]).await.unwrap()
    }
}

fn detected(kine: &KineModel, seed: u64) -> Arc<dyn Store> {
    let random = Arc::new(SeededRandom::new(seed));
    Arc::new(Detected::new("shirts", Arc::new(kine.clone()), random))
}

/// One etcd beside it, and which of its revisions is which of Keyloom's.
struct Twin {
    reference: ModelStore,
    revisions: BTreeMap<i64, i64>,
}

impl Twin {
    fn new() -> Self {
        let revisions = BTreeMap::from([(0, 0), (1, 1)]);
        Self {
            reference: store(9),
            revisions,
        }
    }

    /// Keyloom's for one of the reference's.
    fn of(&self, revision: i64) -> i64 {
        self.revisions
            .get(&revision)
            .copied()
            .unwrap_or(i64::MAX / 2)
    }

    fn kv(&self, kv: &KeyValue) -> (Bytes, Bytes, i64, i64) {
        let (create, modified) = (self.of(kv.create_revision), self.of(kv.mod_revision));
        (kv.key.clone(), kv.value.clone(), create, modified)
    }
}

fn plain(kv: &KeyValue) -> (Bytes, Bytes, i64, i64) {
    (
        kv.key.clone(),
        kv.value.clone(),
        kv.create_revision,
        kv.mod_revision,
    )
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &Bytes, value: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: key.clone(),
        value: Bytes::from(value.to_owned()),
        ..PutRequest::default()
    }))
}

/// As kube-apiserver writes: a key over the revision that it had, 0 where it was not there.
fn compared(key: &Bytes, at: i64, write: RequestOp, reads: bool) -> Step {
    let read = op(Request::RequestRange(RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    }));
    Step::Txn(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(at)),
            ..Compare::default()
        }],
        success: vec![write],
        failure: if reads { vec![read] } else { Vec::new() },
    })
}

/// What one answer says without its revisions' numbers.
fn said(answer: &Answer, of: &dyn Fn(&KeyValue) -> (Bytes, Bytes, i64, i64)) -> String {
    let kvs = |kvs: &[KeyValue]| -> Vec<_> { kvs.iter().map(of).collect() };
    match answer {
        Answer::Range(range) => format!("{:?} {} {}", kvs(&range.kvs), range.more, range.count),
        Answer::Put(put) => format!("{:?}", put.prev_kv.as_ref().map(of)),
        Answer::DeleteRange(delete) => {
            format!("{} {:?}", delete.deleted, kvs(&delete.prev_kvs))
        }
        Answer::Txn(txn) => {
            let responses = txn.responses.iter().map(|op| match &op.response {
                Some(Response::ResponseRange(range)) => format!("{:?}", kvs(&range.kvs)),
                Some(Response::ResponseDeleteRange(delete)) => format!("{}", delete.deleted),
                other => format!("{}", other.is_some()),
            });
            format!("{} {:?}", txn.succeeded, responses.collect::<Vec<_>>())
        }
        Answer::Compact(_) => "compacted".to_owned(),
    }
}

/// Draws a step for both sides: the reference's revisions in the first, Keyloom's in the second.
fn draw(random: &SeededRandom, twin: &Twin, round: usize) -> (Step, Step) {
    let below = |end: u64| random.next() % end;
    let prefix = if below(4) == 0 { OTHERS } else { SHIRTS };
    let key = Bytes::from(format!("{prefix}ns{}/x{}", below(2), below(4)));
    let known: Vec<_> = twin.revisions.keys().copied().collect();
    let now = twin.reference.with(|etcd| {
        let range = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        match etcd.apply(&Step::Range(range)).unwrap() {
            Answer::Range(range) => range.kvs.first().map_or(0, |kv| kv.mod_revision),
            other => panic!("{other:?}"),
        }
    });
    // Mostly what the key has, sometimes what it had, or another had.
    let at = match below(4) {
        0 => known[usize::try_from(below(known.len() as u64)).unwrap()],
        _ => now,
    };
    let value = format!("v{round}");
    let delete = DeleteRangeRequest {
        key: key.clone(),
        prev_kv: true,
        ..DeleteRangeRequest::default()
    };
    let both = |step: Step| (step.clone(), step);
    match below(10) {
        0..=3 => {
            let make = |at| compared(&key, at, put_op(&key, &value), at != 0 || below(2) == 0);
            let reads = make(at);
            let other = match &reads {
                Step::Txn(txn) => compared(
                    &key,
                    twin.of(at),
                    put_op(&key, &value),
                    !txn.failure.is_empty(),
                ),
                other => panic!("{other:?}"),
            };
            (reads, other)
        }
        4 | 5 if at != 0 => {
            let write = || {
                op(Request::RequestDeleteRange(DeleteRangeRequest {
                    key: key.clone(),
                    ..DeleteRangeRequest::default()
                }))
            };
            (
                compared(&key, at, write(), true),
                compared(&key, twin.of(at), write(), true),
            )
        }
        6 => both(put(std::str::from_utf8(&key).unwrap(), &value)),
        7 => both(Step::DeleteRange(delete)),
        8 => {
            let old = known[usize::try_from(below(known.len() as u64)).unwrap()];
            let limit = i64::try_from(below(4)).unwrap();
            let request = |revision| {
                Step::Range(RangeRequest {
                    revision,
                    limit,
                    count_only: round.is_multiple_of(7),
                    ..list(prefix)
                })
            };
            (request(old), request(twin.of(old)))
        }
        _ => both(Step::Range(list("/registry/"))),
    }
}

async fn run(seed: u64, steps: usize) {
    let stores = Stores::new(5);
    let (mut keyloom, mut twin) = (stores.serve().await, Twin::new());
    let random = SeededRandom::new(seed);
    for round in 0..steps {
        match round % 61 {
            20 => {
                keyloom.stop().await;
                keyloom = stores.serve().await;
            }
            45 => stores.kine.own_row(),
            _ => {}
        }
        let (ours, theirs) = draw(&random, &twin, round);
        let expected = twin
            .reference
            .with(|etcd| etcd.apply(&ours))
            .map_err(Status::from);
        let got = keyloom.ask(&theirs).await;
        let place = format!("seed {seed}, step {round}: {theirs:?}");
        let (expected, got) = match (expected, got) {
            (Ok(expected), Ok(got)) => (expected, got),
            (Err(expected), Err(got)) if expected.code() == got.code() => continue,
            other => panic!("{place}: {other:?}"),
        };
        if ours_wrote(&expected) {
            let (reference, keyloom) = (expected.revision(), got.revision());
            let newest = twin.revisions.values().last().copied().unwrap();
            assert!(keyloom > newest, "{place}: {keyloom} after {newest}");
            twin.revisions.insert(reference, keyloom);
        }
        let expected = said(&expected, &|kv| twin.kv(kv));
        assert_eq!(expected, said(&got, &plain), "{place}");
    }
    watched(&keyloom, &twin).await;
    keyloom.stop().await;
}

fn ours_wrote(answer: &Answer) -> bool {
    match answer {
        Answer::Put(_) => true,
        Answer::DeleteRange(delete) => delete.deleted > 0,
        Answer::Txn(txn) => txn.succeeded,
        Answer::Range(_) | Answer::Compact(_) => false,
    }
}

/// A watch from the beginning says what the reference's says.
async fn watched(keyloom: &Keyloom, twin: &Twin) {
    let create = |start_revision| {
        let range = list("/registry/");
        let create = WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            start_revision,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        Bytes::from(
            WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            }
            .encode_to_vec(),
        )
    };
    // Each revision of the reference, but the first, is a write of one key.
    let wrote = twin
        .revisions
        .keys()
        .filter(|revision| **revision > 1)
        .count();
    let first = twin
        .revisions
        .values()
        .copied()
        .find(|unified| *unified > 1);
    let mut answers = keyloom.open_with(Rpc::Watch, create(first.unwrap())).await;
    let mut events = Vec::new();
    while events.len() < wrote {
        let answer = answers.next().await.unwrap().unwrap();
        let answer = WatchResponse::decode(answer).unwrap();
        assert!(!answer.canceled, "{answer:?}");
        events.extend(answer.events);
    }
    let revisions: Vec<_> = events
        .iter()
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    let expected: Vec<_> = twin
        .revisions
        .iter()
        .filter(|(revision, _)| **revision > 1)
        .map(|(_, unified)| *unified)
        .collect();
    assert_eq!(revisions, expected);
    let mut now: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for event in events {
        let kv = event.kv.clone().unwrap();
        let before = event.prev_kv.as_ref().map(|kv| kv.value.clone());
        let known = match event.r#type() {
            EventType::Delete => now.remove(&kv.key),
            EventType::Put => now.insert(kv.key.clone(), kv.value.clone()),
        };
        assert_eq!(known, before, "{event:?}");
        assert_eq!(
            known.is_none(),
            kv.create_revision == kv.mod_revision,
            "{event:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn keys_on_a_kine_are_as_on_one_etcd() {
    for seed in 0..20 {
        run(seed, 200).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_not_asked_for_again() {
    let stores = Stores::new(0);
    let keyloom = stores.serve().await;
    let key = format!("{SHIRTS}ns/x");
    stores.kine.lose_answers(1);
    assert!(keyloom.put(&key, "1").await.is_err());
    // It happened, and shows itself once it was delivered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Answer::Range(range) = keyloom.ask(&get(&key)).await.unwrap() else {
        panic!("a range")
    };
    assert_eq!((range.count, &range.kvs[0].value[..]), (1, &b"1"[..]));
    assert_eq!(range.kvs[0].version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_on_a_lease_ends_with_it() {
    let stores = Stores::new(3);
    let keyloom = stores.serve().await;
    let grant = LeaseGrantRequest { ttl: 60, id: 77 };
    let granted = keyloom
        .unary(Rpc::LeaseGrant, grant.encode_to_vec().into())
        .await
        .unwrap();
    assert_eq!(LeaseGrantResponse::decode(granted).unwrap().id, 77);
    let key = format!("{SHIRTS}ns/x");
    let leased = PutRequest {
        key: key.clone().into(),
        lease: 77,
        ..PutRequest::default()
    };
    keyloom.ask(&Step::Put(leased)).await.unwrap();
    let held = |answer: Answer| match answer {
        Answer::Range(range) => range.count,
        other => panic!("{other:?}"),
    };
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(held(keyloom.ask(&get(&key)).await.unwrap()), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(held(keyloom.ask(&get(&key)).await.unwrap()), 0);
}

#[tokio::test(start_paused = true)]
async fn what_kine_cannot_do_is_refused_and_not_done() {
    let stores = Stores::new(0);
    let keyloom = stores.serve().await;
    let key = Bytes::from(format!("{SHIRTS}ns/x"));
    keyloom
        .put(std::str::from_utf8(&key).unwrap(), "1")
        .await
        .unwrap();
    let two = TxnRequest {
        success: vec![
            put_op(&key, "2"),
            put_op(&Bytes::from(format!("{SHIRTS}ns/y")), "2"),
        ],
        ..TxnRequest::default()
    };
    let range = DeleteRangeRequest {
        key: SHIRTS.into(),
        range_end: format!("{}0", SHIRTS.trim_end_matches('/')).into(),
        ..DeleteRangeRequest::default()
    };
    let sorted = RangeRequest {
        sort_order: 2,
        sort_target: 3,
        ..list(SHIRTS)
    };
    for step in [
        Step::Txn(two),
        Step::DeleteRange(range),
        Step::Range(sorted),
    ] {
        let status = keyloom.ask(&step).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("shirts is a kine"), "{status:?}");
    }
    let Answer::Range(range) = keyloom.ask(&Step::Range(list(SHIRTS))).await.unwrap() else {
        panic!("a range")
    };
    assert_eq!((range.count, &range.kvs[0].value[..]), (1, &b"1"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_compaction_reaches_the_kine() {
    let stores = Stores::new(0);
    let keyloom = stores.serve().await;
    let key = format!("{SHIRTS}ns/x");
    let first = keyloom.put(&key, "1").await.unwrap();
    let second = keyloom.put(&key, "2").await.unwrap();
    let third = keyloom.put(&key, "3").await.unwrap();
    let compact = CompactionRequest {
        revision: second,
        physical: false,
    };
    keyloom.ask(&Step::Compact(compact)).await.unwrap();
    let at = |revision| {
        Step::Range(RangeRequest {
            revision,
            ..list(SHIRTS)
        })
    };
    assert_eq!(
        keyloom.ask(&at(first)).await.unwrap_err().code(),
        Code::OutOfRange
    );
    for (revision, value) in [(second, "2"), (third, "3")] {
        let Answer::Range(range) = keyloom.ask(&at(revision)).await.unwrap() else {
            panic!("a range")
        };
        assert_eq!(range.kvs[0].value, value);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kine_is_not_the_default_store() {
    for text in ["default: {endpoint: 'http://kine.invalid:2379'}", TWO] {
        let kine = KineModel::with_gaps(0);
        let rows = kine.rows();
        let mut stores = vec![detected(&kine, 5)];
        if text == TWO {
            stores.push(Arc::new(store(1)));
        }
        let error = Keyloom::over(text, stores).await.map(drop).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cannot be the default store"), "{text}");
        assert!(text.contains("kine"), "{text}");
        assert_eq!(kine.rows(), rows, "nothing was written to it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kine_does_not_become_the_default_store() {
    let (etcd, kine) = (store(1), KineModel::with_gaps(0));
    let rows = kine.rows();
    let ready = Ready::of(ONE, &[detected(&kine, 5)]);
    let stores = vec![Arc::new(etcd) as Arc<dyn Store>];
    let keyloom = Keyloom::among(ONE, stores, ready).await.unwrap();
    let refusal = keyloom.apply(ONE).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NoLedger { .. }), "{refusal}");
    assert_eq!(kine.rows(), rows, "nothing was written to it");
    keyloom.put(OTHERS, "1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_kines_are_two_stores_and_stay_what_they_are() {
    const THREE: &str = "
default: {endpoint: 'http://default.invalid:2379'}
backends:
- name: shirts
  endpoint: http://kine.invalid:2379
  customresource: {group: stable.example.com, kind: shirts}
- name: hats
  endpoint: http://other.invalid:2379
  customresource: {group: stable.example.com, kind: hats}
";
    let (shirts, hats) = (KineModel::with_gaps(0), KineModel::with_gaps(0));
    let default = Arc::new(store(1)) as Arc<dyn Store>;
    let serve = async |seed, first: &KineModel, second: &KineModel| {
        let kines = [detected(first, seed), detected(second, seed + 1)];
        let [first, second] = kines;
        Keyloom::over(THREE, vec![Arc::clone(&default), first, second]).await
    };
    let keyloom = serve(10, &shirts, &hats).await.unwrap();
    let hat = "/registry/stable.example.com/hats/ns/x";
    keyloom.put(&format!("{SHIRTS}ns/x"), "1").await.unwrap();
    keyloom.put(hat, "1").await.unwrap();
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 2);
    keyloom.stop().await;
    // Another start finds the same ones, by what it left there.
    let keyloom = serve(20, &shirts, &hats).await.unwrap();
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 2);
    keyloom.stop().await;
    let swapped = serve(30, &hats, &shirts).await.map(drop).unwrap_err();
    assert!(swapped.to_string().contains("is cluster"), "{swapped}");
}
