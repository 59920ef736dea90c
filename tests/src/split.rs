//! A program in front of several stores, against one etcd that has all the keys.
//!
//! Two differences are documented: a write transaction over several stores is refused, and then
//! the reference never sees it; a DeleteRange over several stores takes one revision for each
//! store that had keys, and then the reference deletes in the same parts.

use std::collections::BTreeMap;

use keyloom_etcd_api::{
    Code, EtcdError,
    etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RequestOp, TxnRequest,
        request_op::Request, response_op::Response,
    },
};
use keyloom_testkit::{Answer, Step};

use crate::{
    client::Client,
    duel::{Duel, Outcome},
    topology::Topology,
};

/// A [`Duel`] in which the tested side has several stores.
#[derive(Debug)]
pub struct Split {
    pub duel: Duel,
    topology: Topology,
    /// The transactions that were refused because they span stores, and the last refusal.
    pub refused: usize,
    pub last_refusal: String,
    /// How many deletes were split.
    pub split: usize,
}

impl Split {
    #[must_use]
    pub fn new(duel: Duel, topology: Topology) -> Self {
        Self {
            duel,
            topology,
            refused: 0,
            last_refusal: String::new(),
            split: 0,
        }
    }

    /// Draws and compares so many steps.
    pub async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = self.duel.next_step();
            let got = self.duel.tested().step(&step).await;
            if is_refused(&step, &got) {
                self.refused += 1;
                self.last_refusal = format!("{}\n{step:#?}", got.expect_err("refused").message());
                continue;
            }
            let mut expected = self.reference(&step).await;
            if another_fault_first(&step, &expected, &got) {
                expected = got.clone();
            }
            self.duel.judge(&step, &expected, &got);
        }
    }

    /// Compares all keys at all revisions that can be read.
    pub async fn compare_history(&mut self) {
        let head = self.duel.reference().revision().await;
        for revision in 0..=head + 1 {
            let range = everything(revision);
            self.duel.compare(&Step::Range(range)).await;
        }
    }

    async fn reference(&mut self, step: &Step) -> Outcome {
        let reference = self.duel.reference();
        if let Step::DeleteRange(delete) = step
            && let Some(parts) = self.parts(reference, delete).await
        {
            let answer = delete_in_parts(reference, delete, parts).await;
            self.split += 1;
            return Ok(Answer::DeleteRange(answer));
        }
        reference.step(step).await
    }

    /// The keys in the range by store, where there are several.
    async fn parts(&self, reference: &Client, delete: &DeleteRangeRequest) -> Option<Parts> {
        let range = RangeRequest {
            key: delete.key.clone(),
            range_end: delete.range_end.clone(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let found = reference.kv().range(range).await.ok()?.into_inner();
        let mut parts = Parts::new();
        for kv in found.kvs {
            let op = DeleteRangeRequest {
                prev_kv: delete.prev_kv,
                key: kv.key,
                ..DeleteRangeRequest::default()
            };
            parts
                .entry(self.topology.store_of(&op.key))
                .or_default()
                .push(op);
        }
        (parts.len() > 1).then_some(parts)
    }
}

/// Deletes of single keys, by store.
type Parts = BTreeMap<usize, Vec<DeleteRangeRequest>>;

/// One transaction for each store, in their order; the answer as if it were one delete.
async fn delete_in_parts(
    reference: &Client,
    delete: &DeleteRangeRequest,
    parts: Parts,
) -> DeleteRangeResponse {
    let mut answer = DeleteRangeResponse::default();
    for keys in parts.into_values() {
        let op = |key| RequestOp {
            request: Some(Request::RequestDeleteRange(key)),
        };
        let txn = TxnRequest {
            success: keys.into_iter().map(op).collect(),
            ..TxnRequest::default()
        };
        let done = reference
            .kv()
            .txn(txn)
            .await
            .expect("a part of a delete")
            .into_inner();
        answer.header = done.header;
        for response in done.responses {
            if let Some(Response::ResponseDeleteRange(part)) = response.response {
                answer.deleted += part.deleted;
                answer.prev_kvs.extend(part.prev_kvs);
            }
        }
    }
    assert!(delete.prev_kv || answer.prev_kvs.is_empty());
    answer.prev_kvs.sort_by(|a, b| a.key.cmp(&b.key));
    answer
}

/// Whether this is the documented refusal of a write over several stores.
#[must_use]
pub fn is_refused(step: &Step, outcome: &Outcome) -> bool {
    let Err(status) = outcome else { return false };
    matches!(step, Step::Txn(_))
        && !step.only_reads()
        && status.code() == Code::InvalidArgument
        && status.message().contains("transaction spans stores")
}

/// Of two things that are wrong in a transaction etcd 3.4 names the other one than etcd 3.6: it
/// looks at all puts before it looks at a range.
fn another_fault_first(step: &Step, expected: &Outcome, got: &Outcome) -> bool {
    let of_state = |outcome: &Outcome| {
        let error = outcome.as_ref().err().and_then(EtcdError::of);
        matches!(
            error,
            Some(
                EtcdError::KeyNotFound
                    | EtcdError::LeaseNotFound
                    | EtcdError::Compacted
                    | EtcdError::FutureRev
            )
        )
    };
    matches!(step, Step::Txn(_)) && of_state(expected) && of_state(got)
}

/// All keys at a revision.
#[must_use]
pub fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        revision,
        ..RangeRequest::default()
    }
}
