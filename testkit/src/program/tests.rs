//! That programs are repeatable, exercise what they should, and that differences are seen.

use std::collections::BTreeSet;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{RequestOp, request_op::Request},
};
use proptest::prelude::*;

use super::*;
use crate::Answer;

fn settings() -> Settings {
    Settings::new(vec![
        Group::numbered("/registry/pods/", 6),
        Group::numbered("/registry/secrets/", 3),
        Group::new("compact_rev_key", &[""]),
    ])
}

#[test]
fn the_same_seed_gives_the_same_program() {
    let once = Program::generate(7, settings(), 500);
    assert_eq!(once, Program::generate(7, settings(), 500));
    assert_ne!(once, Program::generate(8, settings(), 500));
}

/// What a program should meet, by the answers of the model.
#[test]
fn programs_meet_every_error_and_both_branches() {
    let mut etcd = Etcd::default();
    let mut met = BTreeSet::new();
    for step in Program::generate(1, settings(), 20_000).steps {
        met.insert(match etcd.apply(&step) {
            Err(error) => error.text().to_owned(),
            Ok(Answer::Txn(txn)) if txn.succeeded => "txn succeeded".to_owned(),
            Ok(Answer::Txn(_)) => "txn failed".to_owned(),
            Ok(Answer::Range(range)) if range.more => "more".to_owned(),
            Ok(Answer::Range(range)) if range.kvs.is_empty() => "none".to_owned(),
            Ok(Answer::Range(_)) => "found".to_owned(),
            Ok(Answer::Compact(_)) => "compacted".to_owned(),
            Ok(Answer::DeleteRange(delete)) if delete.deleted > 1 => "deleted".to_owned(),
            Ok(_) => "other".to_owned(),
        });
    }
    let errors = [
        EtcdError::EmptyKey,
        EtcdError::KeyNotFound,
        EtcdError::ValueProvided,
        EtcdError::LeaseProvided,
        EtcdError::TooManyOps,
        EtcdError::DuplicateKey,
        EtcdError::InvalidSortOption,
        EtcdError::Compacted,
        EtcdError::FutureRev,
        EtcdError::LeaseNotFound,
    ];
    let others = [
        "txn succeeded",
        "txn failed",
        "more",
        "none",
        "found",
        "compacted",
        "deleted",
        "other",
    ];
    let expected: BTreeSet<_> = errors
        .iter()
        .map(|error| error.text())
        .chain(others)
        .collect();
    let met: BTreeSet<_> = met.iter().map(String::as_str).collect();
    assert_eq!(met, expected);
}

fn ranges_of(ops: &[RequestOp], ranges: &mut Vec<KeyRange>) {
    let mut push = |key: &Bytes, end: &Bytes| ranges.push(KeyRange::from_request(key, end));
    for op in ops {
        match &op.request {
            Some(Request::RequestRange(range)) => push(&range.key, &range.range_end),
            Some(Request::RequestPut(put)) => push(&put.key, &Bytes::new()),
            Some(Request::RequestDeleteRange(delete)) => push(&delete.key, &delete.range_end),
            _ => {}
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            ranges_of(&txn.success, ranges);
            ranges_of(&txn.failure, ranges);
        }
    }
}

#[test]
fn writes_stay_in_their_group_if_they_must() {
    let settings = Settings {
        spanning_writes: false,
        bad_requests: false,
        ..settings()
    };
    let groups: Vec<_> = settings
        .groups
        .iter()
        .map(|group| KeyRange::prefix(group.prefix.clone()))
        .collect();
    for step in Program::generate(3, settings, 20_000).steps {
        if step.only_reads() {
            continue;
        }
        let mut ranges = Vec::new();
        match &step {
            Step::DeleteRange(delete) => {
                ranges.push(KeyRange::from_request(&delete.key, &delete.range_end));
            }
            Step::Txn(txn) => {
                for compare in &txn.compare {
                    ranges.push(KeyRange::from_request(&compare.key, &compare.range_end));
                }
                ranges_of(&txn.success, &mut ranges);
                ranges_of(&txn.failure, &mut ranges);
            }
            Step::Range(_) | Step::Put(_) | Step::Compact(_) => {}
        }
        let fits = |group: &KeyRange| ranges.iter().all(|range| group.covers(range));
        assert!(groups.iter().any(fits), "{step:#?}");
    }
}

fn answer_to_put(revision: i64) -> Result<Answer, keyloom_etcd_api::Status> {
    let mut etcd = Etcd::default();
    let mut answer = etcd
        .apply(&Step::Put(keyloom_etcd_api::etcdserverpb::PutRequest {
            key: "a".into(),
            ..Default::default()
        }))
        .unwrap();
    answer.header_mut().as_mut().unwrap().revision = revision;
    Ok(answer)
}

#[test]
fn differences_are_seen_and_readable() {
    let same = |a: &_, b: &_| same_answer(a, b, Tolerance::default());
    assert_eq!(same(&answer_to_put(2), &answer_to_put(2)), Ok(()));
    let difference = same(&answer_to_put(2), &answer_to_put(3)).unwrap_err();
    assert_eq!(
        difference
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        "the answers differ (- expected, + got) - revision: 2, + revision: 3,"
    );
    let compacted = Err(EtcdError::Compacted.into());
    let future = Err(EtcdError::FutureRev.into());
    assert!(same(&compacted, &future).is_err());
    assert!(same(&compacted, &answer_to_put(2)).is_err());
    assert_eq!(same(&compacted, &compacted), Ok(()));
}

#[test]
fn member_and_term_may_differ_and_the_cluster_if_allowed() {
    let mut other = answer_to_put(2);
    let header = other.as_mut().unwrap().header_mut().as_mut().unwrap();
    header.member_id += 1;
    header.raft_term += 1;
    assert_eq!(
        same_answer(&answer_to_put(2), &other, Tolerance::default()),
        Ok(())
    );
    let header = other.as_mut().unwrap().header_mut().as_mut().unwrap();
    header.cluster_id += 1;
    assert!(same_answer(&answer_to_put(2), &other, Tolerance::default()).is_err());
    let tolerance = Tolerance { cluster_id: true };
    assert_eq!(same_answer(&answer_to_put(2), &other, tolerance), Ok(()));
}

proptest! {
    /// The model stands up to anything, and its revision counts its writes.
    #[test]
    fn the_model_keeps_its_invariants(seed: u64) {
        let mut etcd = Etcd::default();
        for step in Program::generate(seed, settings(), 200).steps {
            let before = etcd.revision();
            let outcome = etcd.apply(&step);
            let writes = etcd.revision() - before;
            prop_assert!(writes == 0 || writes == 1 && !step.only_reads() && outcome.is_ok());
            prop_assert_eq!(writes == 1, !etcd.keyspace().changes(before + 1).is_empty());
            if let Ok(answer) = outcome {
                prop_assert_eq!(answer.revision(), etcd.revision());
                let decoded = Answer::decode(step.rpc(), answer.encode());
                prop_assert_eq!(decoded.unwrap().unwrap(), answer);
            }
        }
    }
}
