//! As kube-apiserver: optimistic writes of single keys, lists in pages, and compaction.

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
        ResponseOp, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};
use keyloom_testkit::{Answer, Step};

use super::groups;
use crate::{client::Client, stage::Ticket};

/// Writes objects as they were last seen, until there is nothing to do any more.
pub(crate) async fn write(mut client: Client, pause: i64) {
    let keys: Vec<_> = groups().into_iter().flat_map(|group| group.keys).collect();
    let mut known = std::collections::BTreeMap::<Bytes, KeyValue>::new();
    let mut written = 0_u64;
    loop {
        client.pause(pause).await;
        let Some(ticket) = client.stage.begin().await else {
            return;
        };
        let key = client.chance.pick(&keys).cloned().unwrap_or_default();
        let was = known.get(&key).map_or(0, |kv| kv.mod_revision);
        written += 1;
        let value = format!("{written} by {}", client.id);
        let write = if was != 0 && client.chance.percent(25) {
            Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone(),
                ..DeleteRangeRequest::default()
            })
        } else {
            Request::RequestPut(PutRequest {
                key: key.clone(),
                value: value.clone().into(),
                ..PutRequest::default()
            })
        };
        let deletes = matches!(write, Request::RequestDeleteRange(_));
        let Some(Answer::Txn(answer)) = client.record(&ticket, optimistic(&key, was, write)).await
        else {
            continue;
        };
        known.remove(&key);
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.succeeded && !deletes {
            let kv = KeyValue {
                key: key.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            };
            known.insert(key, kv);
        } else if let Some(kv) = first_of(&answer.responses) {
            known.insert(key, kv);
        }
    }
}

fn first_of(responses: &[ResponseOp]) -> Option<KeyValue> {
    match responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().cloned(),
        _ => None,
    }
}

fn optimistic(key: &Bytes, was: i64, write: Request) -> Step {
    let op = |request| RequestOp {
        request: Some(request),
    };
    Step::Txn(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(was)),
        }],
        success: vec![op(write)],
        failure: vec![op(Request::RequestRange(RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        }))],
    })
}

/// Lists in pages, each pinned to the revision of the first.
pub(crate) async fn list(mut client: Client, pause: i64) {
    loop {
        client.pause(pause).await;
        let Some(ticket) = client.stage.begin().await else {
            return;
        };
        let prefixes = [
            "/registry/",
            "/registry/pods/",
            "/registry/secrets/",
            "/registry/roles/",
        ];
        let prefix = client
            .chance
            .pick(&prefixes)
            .copied()
            .unwrap_or("/registry/");
        let range = KeyRange::prefix(Bytes::from_static(prefix.as_bytes()));
        let mut page = RangeRequest {
            range_end: range.range_end(),
            key: range.start,
            limit: client.chance.between(1, 4),
            ..RangeRequest::default()
        };
        while let Some(Answer::Range(answer)) =
            client.record(&ticket, Step::Range(page.clone())).await
        {
            let Some(last) = answer.kvs.last().filter(|_| answer.more) else {
                break;
            };
            let mut next = last.key.to_vec();
            next.push(0);
            page.key = next.into();
            if page.revision == 0 {
                page.revision = answer.header.as_ref().map_or(0, |header| header.revision);
            }
            client.pause(200).await;
        }
    }
}

const COMPACT: &str = "compact_rev_key";

/// Compacts at what was the newest revision the last time.
pub(crate) async fn compact(mut client: Client, pause: i64) {
    let (mut version, mut revision) = (0, 0);
    loop {
        client.pause(pause).await;
        let Some(ticket) = client.stage.begin().await else {
            return;
        };
        let step = compare_version(version, revision);
        let Some(Answer::Txn(answer)) = client.record(&ticket, step).await else {
            continue;
        };
        let newest = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.succeeded {
            version += 1;
            let revision = revision.min(client.stage.witnessed());
            if revision > ticket.from {
                compact_at(&mut client, &ticket, revision).await;
            }
        } else if let Some(kv) = first_of(&answer.responses) {
            version = kv.version;
        }
        revision = newest;
    }
}

async fn compact_at(client: &mut Client, ticket: &Ticket, revision: i64) {
    client.stage.compacts(revision);
    let step = Step::Compact(CompactionRequest {
        revision,
        physical: false,
    });
    client.record(ticket, step).await;
}

fn compare_version(version: i64, revision: i64) -> Step {
    let key = Bytes::from_static(COMPACT.as_bytes());
    let op = |request| RequestOp {
        request: Some(request),
    };
    Step::Txn(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::Version(version)),
        }],
        success: vec![op(Request::RequestPut(PutRequest {
            key: key.clone(),
            value: revision.to_string().into(),
            ..PutRequest::default()
        }))],
        failure: vec![op(Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        }))],
    })
}
