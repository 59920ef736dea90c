//! The same random program against one model etcd and through Keyloom over several: every answer
//! must be the same, revisions included.

use crate::support::{Keyloom, THREE, stores};
use keyloom_etcd_api::{
    Code, Rpc, Status,
    etcdserverpb::{
        CompactionRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
    },
};
use keyloom_testkit::{
    Answer, Step,
    model::{Fault, ModelStore},
    program::{Generator, Group, Settings, Tolerance, same_answer},
};

const ONE: &str = "default: {endpoint: 'http://default.invalid:2379'}";
const WITH_EMPTY: &str = "
default: {endpoint: 'http://default.invalid:2379'}
backends:
- {name: empty, endpoint: 'http://empty.invalid:2379', prefix: {prefix: nothing/here}}
";

fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["a", "b", "c"]),
        Group::new("/registry/pods/tenant-a/", &["a", "b"]),
        Group::new("/registry/pods/zone/", &["a", "b"]),
        Group::new("/registry/roles/default/", &["r", "s"]),
        Group::new("/registry/services/specs/tenant-a/", &["x"]),
        Group::new("compact_rev_key", &[""]),
    ]
}

fn same(seed: u64, at: usize, step: &Step, expected: &Told, got: &Told) {
    let tolerance = Tolerance { cluster_id: true };
    if let Err(difference) = same_answer(expected, got, tolerance) {
        panic!("seed {seed}, step {at}: {step:?}\n{difference}");
    }
}

type Told = Result<Answer, Status>;

/// What only one etcd can do.
fn is_documented(got: &Told) -> bool {
    let Err(status) = got else { return false };
    status.code() == Code::InvalidArgument
        && (status.message().contains("transaction spans stores")
            || status.message().contains("refuses to delete over stores"))
}

async fn run(seed: u64, steps: usize, topology: &str, count: u64) -> usize {
    let (reference, stores) = (ModelStore::default(), stores(count));
    let mut keyloom = Keyloom::start(topology, &stores).await;
    let mut generator = Generator::new(seed, Settings::new(groups()));
    let mut compared = 0;
    for at in 0..steps {
        if at % 97 == 96 {
            keyloom.stop().await;
            keyloom = Keyloom::start(topology, &stores).await;
        }
        let step = generator.next_step();
        let got = keyloom.ask(&step).await;
        if count > 1 && is_documented(&got) {
            continue;
        }
        let expected = reference.with(|etcd| etcd.apply(&step)).map_err(Into::into);
        generator.learn(&step, &expected);
        same(seed, at, &step, &expected, &got);
        compared += 1;
    }
    compared
}

#[tokio::test(start_paused = true)]
async fn one_store_answers_as_itself() {
    for seed in 0..20 {
        assert_eq!(run(seed, 300, ONE, 1).await, 300);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_empty_store_changes_no_answer() {
    for seed in 0..20 {
        assert!(run(seed, 300, WITH_EMPTY, 2).await > 250);
    }
}

#[tokio::test(start_paused = true)]
async fn three_stores_answer_as_one() {
    for seed in 0..60 {
        assert!(run(seed, 300, THREE, 3).await > 150);
    }
}

/// One transaction after two puts and perhaps a compaction; the head is at 3 before it.
async fn the_same_transaction(ops: Vec<Request>, compacted: Option<i64>) {
    let (reference, stores) = (ModelStore::default(), stores(2));
    let keyloom = Keyloom::start(WITH_EMPTY, &stores).await;
    // A store may do it later.
    stores[0].inject_always(Some(Rpc::Compact), Fault::NotSent);
    let put = |value: &'static str| PutRequest {
        key: "key".into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let mut steps = vec![Step::Put(put("1")), Step::Put(put("2"))];
    steps.extend(compacted.map(|revision| {
        let physical = false;
        Step::Compact(CompactionRequest { revision, physical })
    }));
    let success = ops.into_iter().map(|op| RequestOp { request: Some(op) });
    steps.push(Step::Txn(TxnRequest {
        success: success.collect(),
        ..TxnRequest::default()
    }));
    for (at, step) in steps.iter().enumerate() {
        let expected = reference.with(|etcd| etcd.apply(step)).map_err(Into::into);
        same(0, at, step, &expected, &keyloom.ask(step).await);
    }
}

/// Found by `one_store::with_an_empty_second_store_answers_are_equal_on_etcd_3_6` with
/// `KEYLOOM_SEED=3333`.
#[tokio::test(start_paused = true)]
async fn a_transaction_sees_what_it_writes_between_bounds_that_it_guessed() {
    for (from, to) in [(0, 4), (0, 5), (4, 0), (4, 4), (5, 0), (3, 3), (0, 3)] {
        let put = Request::RequestPut(PutRequest {
            key: "key".into(),
            ..PutRequest::default()
        });
        let range = Request::RequestRange(RangeRequest {
            key: "key".into(),
            min_mod_revision: from,
            max_mod_revision: to,
            ..RangeRequest::default()
        });
        the_same_transaction(vec![put, range], None).await;
    }
}

/// Found by `bad_requests::spoilt_requests_get_etcds_code_in_front_of_two_stores` with
/// `KEYLOOM_SEED=3333`.
#[tokio::test(start_paused = true)]
async fn a_negative_revision_in_a_transaction_is_below_the_compaction() {
    for compacted in [None, Some(2), Some(3)] {
        for revision in [-2, -1, 0, 1, 2, 3, 4] {
            let range = Request::RequestRange(RangeRequest {
                key: "key".into(),
                revision,
                ..RangeRequest::default()
            });
            the_same_transaction(vec![range], compacted).await;
        }
    }
}
