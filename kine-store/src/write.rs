//! Writes: one key at a time, compared with the revision that it has.
//!
//! A write is answered when our own watch has delivered it. Where a comparison failed, the answer
//! waits until what it found was delivered, so that a read after it finds no less.

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{
        Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
        RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op, response_op,
    },
    mvccpb::KeyValue,
};
use tokio::time::Instant;

use super::{
    Asked, Core,
    read::{as_etcd, writable},
    shape::{self, OnlyIf, Shape, Write},
    tail::Place,
};
use keyloom_store::CallError;

/// What became of one compared write.
#[derive(Debug)]
enum Outcome {
    /// It happened, and was delivered.
    Written(Place),
    /// It did not: the key was this, or was not there. That too was delivered.
    Found(Option<KeyValue>, Place),
}

/// What is written to a key.
#[derive(Clone, Debug)]
enum New {
    Value { value: Bytes, lease: i64 },
    Nothing,
}

impl Core {
    pub(super) async fn put(
        self: &Arc<Self>,
        asked: Asked,
        request: PutRequest,
    ) -> Result<PutResponse, CallError> {
        self.check_key(&request.key)?;
        if request.ignore_lease {
            return Err(self.cannot("keep a lease that it only knows as a number of seconds"));
        }
        let (mut found, _) = self.get(asked, &request.key).await?;
        loop {
            let value = match &found {
                None if request.ignore_value => {
                    return Err(CallError::Refused(EtcdError::KeyNotFound.into()));
                }
                Some(kv) if request.ignore_value => kv.value.clone(),
                _ => request.value.clone(),
            };
            let new = New::Value {
                value,
                lease: request.lease,
            };
            match self
                .write_over(asked, &request.key, found.as_ref(), new)
                .await?
            {
                Outcome::Written(place) => {
                    return Ok(PutResponse {
                        header: Some(self.header_at(place)),
                        prev_kv: found.filter(|_| request.prev_kv),
                    });
                }
                Outcome::Found(other, _) => found = other,
            }
            self.in_time(asked)?;
        }
    }

    pub(super) async fn delete_range(
        self: &Arc<Self>,
        asked: Asked,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, CallError> {
        if !request.range_end.is_empty() {
            return Err(self.cannot("delete a range in one step: delete its keys one by one"));
        }
        let (mut found, mut place) = self.get(asked, &request.key).await?;
        while let Some(kv) = found {
            match self
                .write_over(asked, &request.key, Some(&kv), New::Nothing)
                .await?
            {
                Outcome::Written(place) => {
                    let header = Some(self.header_at(place));
                    return Ok(deleted(header, Some(kv), request.prev_kv));
                }
                Outcome::Found(other, at) => (found, place) = (other, at),
            }
            self.in_time(asked)?;
        }
        Ok(deleted(Some(self.header_at(place)), None, request.prev_kv))
    }

    pub(super) async fn txn(
        self: &Arc<Self>,
        asked: Asked,
        request: TxnRequest,
    ) -> Result<TxnResponse, CallError> {
        if let Some(ranges) = shape::only_reads(&request) {
            return self.read_all(asked, ranges).await;
        }
        let Some(shape) = shape::of(&request) else {
            return Err(self.cannot(shape::UNSUPPORTED));
        };
        self.check_key(&shape.key)?;
        let (mut found, mut place) = match shape.only_if {
            OnlyIf::Always => self.get(asked, &shape.key).await?,
            // Whether that is so, kine says.
            OnlyIf::Absent => (None, self.place(asked).await?),
            OnlyIf::ModifiedAt(_) if wants_previous(&shape.write) => {
                self.get(asked, &shape.key).await?
            }
            // Whether that is so, kine says, and what was there nobody asks.
            OnlyIf::ModifiedAt(at) => {
                let kv = KeyValue {
                    key: shape.key.clone(),
                    mod_revision: at,
                    ..KeyValue::default()
                };
                (Some(kv), self.place(asked).await?)
            }
        };
        loop {
            if let OnlyIf::ModifiedAt(at) = shape.only_if
                && found.as_ref().is_none_or(|kv| kv.mod_revision != at)
            {
                return Ok(self.failed(&shape, found, place));
            }
            if shape.only_if == OnlyIf::Always && found.is_none() && is_delete(&shape.write) {
                return Ok(self.succeeded(&shape, None, place));
            }
            let new = match &shape.write {
                Write::Put { value, lease, .. } => New::Value {
                    value: value.clone(),
                    lease: *lease,
                },
                Write::Delete { .. } => New::Nothing,
            };
            let before = found.clone();
            let outcome = match (&shape.write, shape.only_if) {
                // A key that is not there is not deleted, whatever kine says.
                (Write::Delete { .. }, OnlyIf::Absent) => {
                    let (found, place) = self.get(asked, &shape.key).await?;
                    Outcome::Found(found, place)
                }
                _ => {
                    self.write_over(asked, &shape.key, found.as_ref(), new)
                        .await?
                }
            };
            match outcome {
                Outcome::Written(place) => return Ok(self.succeeded(&shape, before, place)),
                Outcome::Found(other, at) => (found, place) = (other, at),
            }
            match (shape.only_if, &found) {
                (OnlyIf::Absent, None) if is_delete(&shape.write) => {
                    return Ok(self.succeeded(&shape, None, place));
                }
                // Somebody deleted what was in the way.
                (OnlyIf::Absent, None) | (OnlyIf::Always, _) => {}
                (OnlyIf::Absent, Some(_)) | (OnlyIf::ModifiedAt(_), _) => {
                    return Ok(self.failed(&shape, found, place));
                }
            }
            self.in_time(asked)?;
        }
    }

    /// Several ranges at one place.
    async fn read_all(
        self: &Arc<Self>,
        asked: Asked,
        ranges: Vec<RangeRequest>,
    ) -> Result<TxnResponse, CallError> {
        let place = self.place(asked).await?;
        let mut responses = Vec::new();
        for range in ranges {
            let answer = self.range_within(asked, range, place).await?;
            responses.push(response_op::Response::ResponseRange(RangeResponse {
                header: inner(place),
                ..answer
            }));
        }
        Ok(self.told(true, responses, place))
    }

    // === one compared write ===

    /// Writes a key that is as it was found.
    async fn write_over(
        self: &Arc<Self>,
        asked: Asked,
        key: &Bytes,
        found: Option<&KeyValue>,
        new: New,
    ) -> Result<Outcome, CallError> {
        let at = found.map_or(0, |kv| kv.mod_revision);
        let (new, lease) = match new {
            New::Value { value, lease } => {
                let seconds = self.leases.seconds(lease)?;
                (Some((value, seconds)), lease)
            }
            New::Nothing => (None, 0),
        };
        let txn = compared(key, at, new);
        let answer: TxnResponse = self.ask(asked, Rpc::Txn, &txn, false).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let nothing_was_there = deleted_nothing(&answer);
        if answer.succeeded && !nothing_was_there {
            let place = self.reach(revision, asked.until).await?;
            self.leases.used(lease, key, revision);
            return Ok(Outcome::Written(Place { revision, ..place }));
        }
        let found = match self.found_instead(asked, key, answer).await? {
            Some(kv) if at != 0 && kv.mod_revision == at => {
                // kine could not write and calls it a failed comparison.
                return Err(CallError::Unknown(format!(
                    "store {}: it refused a write over the revision that the key has",
                    self.name
                )));
            }
            found => found,
        };
        let place = match &found {
            Some(kv) => self.reach(kv.mod_revision, asked.until).await?,
            // When it was deleted is not said: what comes after now is after that.
            None => self.barrier(asked).await?,
        };
        Ok(Outcome::Found(found, place))
    }

    /// Deletes a key, if it is as it was found.
    pub(super) async fn delete_if(
        self: &Arc<Self>,
        asked: Asked,
        key: &Bytes,
        found: &KeyValue,
    ) -> Result<(), CallError> {
        let outcome = self.write_over(asked, key, Some(found), New::Nothing);
        outcome.await.map(drop)
    }

    /// The key that failed a comparison. A creation's answer does not have it.
    async fn found_instead(
        self: &Arc<Self>,
        asked: Asked,
        key: &Bytes,
        answer: TxnResponse,
    ) -> Result<Option<KeyValue>, CallError> {
        let range = answer
            .responses
            .into_iter()
            .next()
            .and_then(|op| op.response);
        let kv = match range {
            Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => {
                let request = RangeRequest {
                    key: key.clone(),
                    ..RangeRequest::default()
                };
                let now: RangeResponse = self.ask(asked, Rpc::Range, &request, true).await?;
                now.kvs.into_iter().next()
            }
        };
        Ok(kv.map(|mut kv| {
            as_etcd(&mut kv);
            kv
        }))
    }

    // === answers ===

    fn succeeded(&self, shape: &Shape, before: Option<KeyValue>, place: Place) -> TxnResponse {
        let inner = inner(place);
        let mut responses = Vec::new();
        if shape.reads_first {
            responses.push(range_of(place, before.clone()));
        }
        responses.push(match &shape.write {
            Write::Put { prev_kv, .. } => response_op::Response::ResponsePut(PutResponse {
                header: inner,
                prev_kv: before.filter(|_| *prev_kv),
            }),
            Write::Delete { prev_kv } => {
                response_op::Response::ResponseDeleteRange(deleted(inner, before, *prev_kv))
            }
        });
        self.told(true, responses, place)
    }

    fn failed(&self, shape: &Shape, found: Option<KeyValue>, place: Place) -> TxnResponse {
        let responses = shape.reads_else.then(|| range_of(place, found));
        self.told(false, responses.into_iter().collect(), place)
    }

    fn told(
        &self,
        succeeded: bool,
        responses: Vec<response_op::Response>,
        place: Place,
    ) -> TxnResponse {
        let op = |response| ResponseOp {
            response: Some(response),
        };
        TxnResponse {
            header: Some(self.header_at(place)),
            succeeded,
            responses: responses.into_iter().map(op).collect(),
        }
    }

    fn check_key(&self, key: &Bytes) -> Result<(), CallError> {
        if key.is_empty() {
            return Err(CallError::Refused(EtcdError::EmptyKey.into()));
        }
        if !writable(key) {
            return Err(self.cannot("be watched at keys that do not begin with a slash"));
        }
        Ok(())
    }

    /// Whether to try again with what was found instead: nothing was written.
    fn in_time(&self, asked: Asked) -> Result<(), CallError> {
        if Instant::now() < asked.until {
            return Ok(());
        }
        let name = &self.name;
        Err(CallError::NotSent(format!(
            "store {name}: others changed the key each time, until there was no time left"
        )))
    }
}

fn is_delete(write: &Write) -> bool {
    matches!(write, Write::Delete { .. })
}

fn wants_previous(write: &Write) -> bool {
    match write {
        Write::Put { prev_kv, .. } | Write::Delete { prev_kv } => *prev_kv,
    }
}

/// The transaction that kine knows for a write over a revision, 0 where there is no such key.
fn compared(key: &Bytes, at: i64, new: Option<(Bytes, i64)>) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let write = match new {
        Some((value, lease)) => request_op::Request::RequestPut(PutRequest {
            key: key.clone(),
            value,
            lease,
            ..PutRequest::default()
        }),
        None => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            ..DeleteRangeRequest::default()
        }),
    };
    let read = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let failure = (at != 0).then(|| op(request_op::Request::RequestRange(read)));
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(at)),
            ..Compare::default()
        }],
        success: vec![op(write)],
        failure: failure.into_iter().collect(),
    }
}

/// kine calls it a success where it is to delete a key that never was.
fn deleted_nothing(answer: &TxnResponse) -> bool {
    let first = answer.responses.first().and_then(|op| op.response.as_ref());
    matches!(first, Some(response_op::Response::ResponseDeleteRange(delete)) if delete.deleted == 0)
}

/// The header of an answer within a transaction.
fn inner(place: Place) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision: place.revision,
        ..ResponseHeader::default()
    })
}

fn range_of(place: Place, kv: Option<KeyValue>) -> response_op::Response {
    response_op::Response::ResponseRange(RangeResponse {
        header: inner(place),
        count: i64::from(kv.is_some()),
        kvs: kv.into_iter().collect(),
        more: false,
    })
}

fn deleted(
    header: Option<ResponseHeader>,
    before: Option<KeyValue>,
    prev_kv: bool,
) -> DeleteRangeResponse {
    DeleteRangeResponse {
        header,
        deleted: i64::from(before.is_some()),
        prev_kvs: before.filter(|_| prev_kv).into_iter().collect(),
    }
}
