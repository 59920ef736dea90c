//! The checker accepts what an etcd did, and finds what was planted.

use keyloom_etcd_api::{
    EtcdError,
    etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
        RangeRequest, RequestOp, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
    },
};

use super::*;
use crate::Answer;

mod random;
mod simulation;

use simulation::simulate;

fn put(key: &'static str, value: &'static str) -> Step {
    Step::Put(PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    })
}

fn get(key: &'static str) -> Step {
    Step::Range(RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    })
}

fn list() -> Step {
    Step::Range(RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..RangeRequest::default()
    })
}

fn op(step: Step) -> RequestOp {
    let request = match step {
        Step::Range(request) => Request::RequestRange(request),
        Step::Put(request) => Request::RequestPut(request),
        Step::DeleteRange(request) => Request::RequestDeleteRange(request),
        Step::Txn(request) => Request::RequestTxn(request),
        Step::Compact(_) => panic!("no operation of a transaction"),
    };
    RequestOp {
        request: Some(request),
    }
}

fn if_unmodified(key: &'static str, since: i64, then: Vec<Step>) -> Step {
    Step::Txn(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.into(),
            target_union: Some(TargetUnion::ModRevision(since)),
            ..Compare::default()
        }],
        success: then.into_iter().map(op).collect(),
        failure: Vec::new(),
    })
}

/// A history put together by hand, answered by an etcd.
#[derive(Default)]
struct Script {
    etcd: Etcd,
    operations: Vec<Operation>,
}

impl Script {
    /// An operation from one time to another, which takes effect now.
    fn op(&mut self, from: u64, to: u64, step: Step) -> &mut Answer {
        let answer = self.etcd.apply(&step).unwrap();
        self.push(from, Some(to), step, Outcome::Answered(answer));
        match &mut self.operations.last_mut().unwrap().outcome {
            Outcome::Answered(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    /// An operation of unknown outcome, which takes effect now if it `happens`.
    fn unknown(&mut self, from: u64, step: Step, happens: bool) {
        if happens {
            self.etcd.apply(&step).unwrap();
        }
        self.push(from, None, step, Outcome::Unknown);
    }

    fn set_revision_of_last(&mut self, revision: i64) {
        match &mut self.operations.last_mut().unwrap().outcome {
            Outcome::Answered(answer) => set_revision(answer, revision),
            other => panic!("{other:?}"),
        }
    }

    fn push(&mut self, invoked: u64, returned: Option<u64>, step: Step, outcome: Outcome) {
        self.operations.push(Operation {
            client: 0,
            step,
            invoked,
            returned,
            outcome,
        });
    }

    fn verdict_with(&self, rules: &Rules) -> Verdict {
        let operations = self.operations.clone();
        let history = History {
            operations,
            ..History::default()
        };
        check_linearizable(&history, rules)
    }

    #[track_caller]
    fn holds(&self) {
        let verdict = self.verdict_with(&Rules::default());
        assert!(matches!(verdict, Verdict::Linearizable), "{verdict:#?}");
    }

    /// The report of the violation.
    #[track_caller]
    fn fails(&self) -> String {
        let verdict = self.verdict_with(&Rules::default());
        verdict.violation().expect("a violation").to_string()
    }
}

fn set_revision(answer: &mut Answer, revision: i64) {
    answer.header_mut().as_mut().unwrap().revision = revision;
}

#[test]
fn operations_that_overlap_stand_in_either_order() {
    let mut script = Script::default();
    // Both began before either ended; the one that began last was first.
    script.op(2, 9, put("a", "1"));
    script.op(1, 8, put("a", "2"));
    script.op(3, 4, get("a"));
    script.holds();
}

#[test]
fn a_stale_read_is_found() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    let stale = script.op(5, 6, get("a")).clone();
    script.op(3, 4, put("a", "2"));
    assert!(
        script.fails().contains("passed before it began"),
        "{}",
        script.fails()
    );
    // The old value under the new revision is no better.
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(3, 4, put("a", "2"));
    *script.op(5, 6, get("a")) = stale;
    script.set_revision_of_last(3);
    assert!(script.fails().contains("the answers differ"));
}

#[test]
fn an_old_answer_to_a_read_that_began_early_is_none() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(3, 9, get("a"));
    script.op(4, 5, put("a", "2"));
    script.holds();
}

#[test]
fn a_lost_update_is_found() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(3, 9, if_unmodified("a", 2, vec![put("a", "mine")]));
    let both = script
        .op(4, 8, if_unmodified("a", 3, vec![put("a", "yours")]))
        .clone();
    // As if the second too had compared with revision 2.
    let step = if_unmodified("a", 2, vec![put("a", "yours")]);
    script.operations.pop();
    script.push(4, Some(8), step, Outcome::Answered(both));
    assert!(script.fails().contains("the answers differ"));
}

#[test]
fn a_revision_that_goes_back_is_found() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(5, 6, put("b", "1"));
    script.op(3, 4, put("c", "1"));
    assert!(
        script.fails().contains("later in the order"),
        "{}",
        script.fails()
    );
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(3, 4, get("b"));
    set_revision(script.op(5, 6, get("b")), 1);
    script.fails();
}

#[test]
fn a_wrong_mod_revision_is_found() {
    for wrong in [2, 4, 0] {
        let mut script = Script::default();
        script.op(1, 2, put("b", "1"));
        script.op(3, 4, put("a", "1"));
        let Answer::Range(range) = script.op(5, 6, get("a")) else {
            panic!()
        };
        range.kvs[0].mod_revision = wrong;
        let report = script.fails();
        assert!(
            report.contains("-                 mod_revision: 3"),
            "{report}"
        );
    }
}

#[test]
fn read_skew_over_two_keys_is_found() {
    let both = |value: &'static str| {
        Step::Txn(TxnRequest {
            success: vec![op(put("x", value)), op(put("y", value))],
            ..TxnRequest::default()
        })
    };
    let mut script = Script::default();
    script.op(1, 2, both("1"));
    let old = script.op(3, 4, list()).clone();
    script.op(5, 6, both("2"));
    let new = script.op(7, 10, list());
    let (Answer::Range(new), Answer::Range(old)) = (new, old) else {
        panic!()
    };
    new.kvs[1] = old.kvs[1].clone();
    assert!(script.fails().contains("the answers differ"));
    script.set_revision_of_last(2);
    script.fails();
}

#[test]
fn a_revision_given_twice_is_found() {
    let mut script = Script::default();
    script.op(1, 4, put("a", "1"));
    set_revision(script.op(2, 3, put("b", "1")), 2);
    assert!(script.fails().contains("given to another"));
}

#[test]
fn an_answer_without_a_revision_is_found() {
    let mut script = Script::default();
    *script.op(1, 2, put("a", "1")).header_mut() = None;
    assert!(script.fails().contains("before the history began"));
}

#[test]
fn an_unknown_write_may_have_happened_at_any_time_or_never() {
    for happens in [false, true] {
        let mut script = Script::default();
        script.op(1, 2, put("a", "1"));
        script.unknown(3, put("b", "?"), happens);
        script.op(4, 5, list());
        script.op(6, 7, put("a", "2"));
        script.op(8, 9, list());
        script.holds();
    }
    let mut script = Script::default();
    script.unknown(1, put("b", "?"), false);
    script.op(2, 3, list());
    script.etcd.apply(&put("b", "?")).unwrap();
    script.op(4, 5, list());
    script.holds();
}

#[test]
fn an_unknown_write_does_not_happen_before_it_began_nor_twice() {
    let mut script = Script::default();
    script.op(3, 4, put("b", "?"));
    script.op(5, 6, list());
    script.operations.remove(0);
    script.unknown(7, put("b", "?"), false);
    assert!(script.fails().contains("nobody can have written"));

    let mut script = Script::default();
    script.unknown(1, put("b", "?"), true);
    script.op(2, 3, put("b", "2"));
    script.etcd.apply(&put("b", "?")).unwrap();
    script.op(4, 5, list());
    script.fails();
}

#[test]
fn the_right_one_of_several_unknown_writes_is_found() {
    let mut script = Script::default();
    for value in ["1", "2", "3", "4"] {
        script.unknown(1, put("a", value), false);
    }
    for value in ["4", "1", "3"] {
        script.etcd.apply(&put("a", value)).unwrap();
    }
    script.op(2, 3, get("a"));
    script.etcd.apply(&put("a", "2")).unwrap();
    script.op(4, 5, get("a"));
    script.holds();
    let Outcome::Answered(Answer::Range(range)) = &mut script.operations[4].outcome else {
        panic!()
    };
    range.kvs[0].value = "5".into();
    script.fails();
}

#[test]
fn a_missing_revision_is_found_unless_gaps_are_allowed() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.etcd.keyspace_mut().skip();
    script.op(3, 4, put("a", "2"));
    assert!(script.fails().contains("nobody can have written"));
    let rules = Rules {
        gaps: true,
        ..Rules::default()
    };
    assert!(matches!(script.verdict_with(&rules), Verdict::Linearizable));
}

#[test]
fn refusals_are_checked() {
    let keep = || {
        Step::Put(PutRequest {
            key: "a".into(),
            ignore_value: true,
            ..PutRequest::default()
        })
    };
    let refused = || Outcome::Refused(EtcdError::KeyNotFound);
    let mut script = Script::default();
    script.push(1, Some(4), keep(), refused());
    script.op(2, 3, put("a", "1"));
    script.holds();
    script.push(5, Some(6), keep(), refused());
    script.fails();
    let delete = Step::DeleteRange(DeleteRangeRequest {
        key: "a".into(),
        ..DeleteRangeRequest::default()
    });
    script.operations.pop();
    script.op(7, 8, delete);
    script.push(9, Some(10), keep(), refused());
    script.holds();
}

#[test]
fn stale_reads_are_held_against_the_past() {
    let stale = |key: &'static str| {
        Step::Range(RangeRequest {
            key: key.into(),
            serializable: true,
            ..RangeRequest::default()
        })
    };
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(7, 8, stale("a"));
    script.op(3, 4, put("a", "2"));
    script.holds();
    set_revision(script.op(9, 10, stale("a")), 2);
    assert!(script.fails().contains("the answers differ"));
}

#[test]
fn a_stale_read_can_be_the_only_one_that_saw_an_unknown_write() {
    let stale = |key: &'static str| {
        Step::Range(RangeRequest {
            key: key.into(),
            serializable: true,
            ..RangeRequest::default()
        })
    };
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.unknown(3, put("a", "2"), true);
    script.unknown(4, put("a", "3"), true);
    script.op(5, 6, stale("a"));
    script.holds();
    let Answer::Range(range) = script.op(7, 8, stale("a")) else {
        panic!()
    };
    range.kvs[0].value = "4".into();
    assert!(script.fails().contains("the answers differ"));
}

/// What watchers of everything were told of the script.
fn witness(script: &Script) -> Replay {
    let mut replay = Replay::new(Etcd::default().keyspace().clone());
    for revision in 2..=script.etcd.revision() {
        let events: Vec<_> = script.etcd.keyspace().changes(revision).iter().collect();
        replay.push(revision, &events);
    }
    replay
}

fn with_witness(script: &Script) -> Rules {
    Rules {
        witness: Some(witness(script)),
        ..Rules::default()
    }
}

#[test]
fn what_watchers_were_told_decides_between_unknown_writes() {
    let mut script = Script::default();
    script.unknown(1, put("a", "1"), false);
    script.unknown(2, put("a", "2"), true);
    script.op(3, 4, put("b", "1"));
    script.holds();
    let rules = with_witness(&script);
    assert!(matches!(script.verdict_with(&rules), Verdict::Linearizable));
    script.operations.remove(1);
    script.holds();
    let report = script.verdict_with(&rules);
    let report = report.violation().expect("a violation").to_string();
    assert!(report.contains("nobody can have written"), "{report}");
}

/// Where everything that was answered has its place, the report names what was not answered.
#[test]
fn a_revision_that_only_watchers_and_stale_reads_saw_is_named() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.unknown(3, put("a", "2"), true);
    let read = RangeRequest {
        key: "a".into(),
        serializable: true,
        ..RangeRequest::default()
    };
    script.op(5, 6, Step::Range(read));
    let mut other = Script::default();
    other.op(1, 2, put("a", "1"));
    other.op(3, 4, put("a", "3"));
    let report = |script: &Script| {
        let verdict = script.verdict_with(&with_witness(&other));
        verdict.violation().expect("a violation").to_string()
    };
    let named = report(&script);
    assert!(
        named.contains("watchers were told of revision 3"),
        "{named}"
    );
    assert!(named.contains("client"), "the write is named: {named}");
    script.operations.remove(1);
    let named = report(&script);
    assert!(
        named.contains("watchers were told of revision 3"),
        "{named}"
    );
}

#[test]
fn an_answer_that_watchers_contradict_is_found() {
    let mut script = Script::default();
    script.op(1, 2, put("a", "1"));
    script.op(3, 4, put("a", "2"));
    let mut other = Script::default();
    other.op(1, 2, put("a", "1"));
    other.op(3, 4, put("a", "3"));
    let verdict = script.verdict_with(&with_witness(&other));
    let report = verdict.violation().expect("a violation").to_string();
    assert!(
        report.contains("watchers were told of revision 3"),
        "{report}"
    );
    // Revisions of which nobody was told decide nothing.
    let mut short = Script::default();
    short.op(1, 2, put("a", "1"));
    let verdict = script.verdict_with(&with_witness(&short));
    assert!(matches!(verdict, Verdict::Linearizable), "{verdict:?}");
}

#[test]
fn the_end_of_a_lease_explains_what_it_took() {
    let grant = LeaseGrantRequest { ttl: 60, id: 7 };
    let on_lease = |key: &'static str| {
        Step::Put(PutRequest {
            key: key.into(),
            lease: 7,
            ..PutRequest::default()
        })
    };
    let mut script = Script::default();
    script.etcd.lease_grant(&grant).unwrap();
    let start = script.etcd.clone();
    script.op(1, 2, on_lease("a"));
    script.op(3, 4, on_lease("b"));
    script.op(5, 6, put("c", "1"));
    script
        .etcd
        .lease_revoke(&LeaseRevokeRequest { id: 7 })
        .unwrap();
    script.op(7, 8, list());
    let rules = Rules {
        start,
        ended_leases: [7].into(),
        ..with_witness(&script)
    };
    assert!(matches!(script.verdict_with(&rules), Verdict::Linearizable));
    let no_lease_ended = Rules {
        ended_leases: BTreeSet::new(),
        ..rules.clone()
    };
    assert!(script.verdict_with(&no_lease_ended).violation().is_some());
    // It took a key that does not hang on it.
    let delete = Step::DeleteRange(DeleteRangeRequest {
        key: "c".into(),
        ..DeleteRangeRequest::default()
    });
    script.etcd.apply(&delete).unwrap();
    script.op(9, 10, list());
    let rules = Rules {
        witness: Some(witness(&script)),
        ..rules
    };
    assert!(script.verdict_with(&rules).violation().is_some());
}

/// The seed that once called a right history a violation.
#[test]
fn a_history_that_ends_with_unknown_writes_holds() {
    let verdict = simulate(17_056_504_925_092_344_266, 8, 400, 18).verdict_with(&Rules::default());
    assert!(matches!(verdict, Verdict::Linearizable), "{verdict:#?}");
}

#[test]
fn a_long_history_of_eight_clients_is_checked() {
    for unknown in [0, 2] {
        let script = simulate(1, 8, 4_000, unknown);
        let rules = Rules {
            budget: 20_000,
            ..Rules::default()
        };
        let verdict = script.verdict_with(&rules);
        assert!(matches!(verdict, Verdict::Linearizable), "{verdict:#?}");
    }
}

#[test]
fn what_is_too_hard_is_called_so() {
    let script = simulate(1, 8, 100, 0);
    let rules = Rules {
        budget: 50,
        ..Rules::default()
    };
    let verdict = script.verdict_with(&rules);
    assert!(
        matches!(verdict, Verdict::TooHard { placed: 1.., .. }),
        "{verdict:?}"
    );
}
