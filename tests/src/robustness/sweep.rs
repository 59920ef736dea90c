//! Deletes over several stores. Such a delete is one part for each store, each atomic with a
//! revision of its own; here it is taken apart so that every part is an operation that can be
//! checked.

use std::{cell::Cell, time::Duration};

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, ResponseHeader},
    mvccpb::{Event, KeyValue, event::EventType},
};
use keyloom_testkit::{
    Answer, Step,
    history::{Operation, Outcome, Recorder, Replay},
};
use tokio::time::sleep;

use crate::{Client, topology::Topology};

/// The id of its calls in the history.
const SWEEPER: u64 = 92;

/// What is swept, and the parts of it that lie on one store each.
const ALL: &str = "/registry/secrets/";
const PARTS: [&str; 2] = ["/registry/secrets/default/", "/registry/secrets/tenant-a/"];

/// Sweeps for as long as somebody writes.
pub(super) async fn run(url: &str, recorder: &Recorder, writing: &Cell<bool>) {
    let client = Client::new(url);
    while writing.get() {
        sleep(Duration::from_millis(900)).await;
        let step = delete(ALL);
        let recording = recorder.begin(SWEEPER, step.clone());
        recording.end(client.step(&step).await);
    }
}

fn delete(prefix: &'static str) -> Step {
    let range = KeyRange::prefix(prefix.into());
    Step::DeleteRange(DeleteRangeRequest {
        range_end: range.range_end(),
        key: range.start,
        prev_kv: true,
    })
}

/// Puts the parts in place of each sweep; gives back how many had several.
pub(super) fn take_apart(
    operations: &mut Vec<Operation>,
    replay: &Replay,
    topology: &Topology,
) -> u64 {
    if topology.stores() == 1 {
        return 0;
    }
    let mut split = 0;
    let (sweeps, others) = operations.drain(..).partition(is_sweep);
    *operations = others;
    for sweep in sweeps {
        let before = operations.len();
        match &sweep.outcome {
            Outcome::Answered(Answer::DeleteRange(answer)) => {
                let parts = answered_parts(answer, replay, topology);
                operations.extend(parts.into_iter().map(|(step, outcome)| Operation {
                    step,
                    outcome,
                    ..sweep.clone()
                }));
            }
            Outcome::Unknown => operations.extend(PARTS.map(|part| Operation {
                step: delete(part),
                ..sweep.clone()
            })),
            _ => operations.push(sweep),
        }
        split += u64::from(operations.len() - before > 1);
    }
    split
}

fn is_sweep(operation: &Operation) -> bool {
    operation.client == SWEEPER && operation.step == delete(ALL)
}

/// One answer for each store that had keys, each at the revision at which they went.
fn answered_parts(
    answer: &DeleteRangeResponse,
    replay: &Replay,
    topology: &Topology,
) -> Vec<(Step, Outcome)> {
    let deleted = usize::try_from(answer.deleted).expect("a count");
    assert_eq!(deleted, answer.prev_kvs.len(), "{answer:?}");
    let mut parts = Vec::new();
    let mut last = 0;
    for prefix in PARTS {
        let store = topology.store_of(format!("{prefix}x").as_bytes());
        let keys = answer.prev_kvs.iter();
        let keys = keys.filter(|kv| topology.store_of(&kv.key) == store);
        let keys: Vec<_> = keys.cloned().collect();
        if keys.is_empty() {
            continue;
        }
        let revision = deleted_at(&keys, replay)
            .unwrap_or_else(|| panic!("nobody was told that these went together: {keys:#?}"));
        last = last.max(revision);
        parts.push((delete(prefix), answer_of(keys, revision)));
    }
    let header = answer.header.as_ref().map_or(0, |header| header.revision);
    assert!(
        header >= last,
        "a header of {header} over a part at {last}: {answer:?}"
    );
    parts
}

fn answer_of(keys: Vec<KeyValue>, revision: i64) -> Outcome {
    let header = ResponseHeader {
        revision,
        ..ResponseHeader::default()
    };
    Outcome::Answered(Answer::DeleteRange(DeleteRangeResponse {
        header: Some(header),
        deleted: i64::try_from(keys.len()).expect("a count"),
        prev_kvs: keys,
    }))
}

/// The revision at which just these were deleted, as they were.
fn deleted_at(keys: &[KeyValue], replay: &Replay) -> Option<i64> {
    let written = keys.iter().map(|kv| kv.mod_revision).max()?;
    (written.max(replay.from()) + 1..=replay.revision()).find(|&revision| {
        let events = replay.events(revision);
        let were = events.iter().filter_map(|event| deleted(event, replay));
        let were: Vec<_> = were.collect();
        were.len() == events.len() && were.iter().eq(&keys.iter().collect::<Vec<_>>())
    })
}

fn deleted<'a>(event: &Event, replay: &'a Replay) -> Option<&'a KeyValue> {
    let key: &Bytes = &event.kv.as_ref()?.key;
    let revision = event.kv.as_ref()?.mod_revision;
    let was = replay.get(key, revision - 1)?;
    (event.r#type() == EventType::Delete).then_some(was)
}
