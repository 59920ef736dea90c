//! A model of kine 0.16 behind the store port, with the oddities that matter to a proxy.
//!
//! One table is the log: a row's number is its revision. Headers carry the newest number and no
//! cluster; some rows have no event (filled gaps, kine's own); watches deliver late, in order, and
//! say in between how far they are, ahead of what they delivered; to delete a key that never was is
//! a success; a create answers nothing where it fails; a lease is a number of seconds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use keyloom_etcd_api::{
    EtcdError, Rpc, Status,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeResponse, PutResponse, RangeRequest,
        RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnRequest, TxnResponse,
        WatchCreateRequest, WatchRequest, WatchResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
        watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use parking_lot::Mutex;
use prost::Message;
use tokio::{sync::Notify, time::sleep};

/// How late a watch is.
const LATE: Duration = Duration::from_millis(7);

/// A kine. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct KineModel {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Mutex<Log>,
    grew: Notify,
}

#[derive(Debug, Default)]
struct Log {
    rows: Vec<Row>,
    newest: i64,
    compacted: i64,
    /// Every so many rows a number is left out.
    gaps: i64,
    /// Answers of writes that get lost.
    lose: u64,
}

#[derive(Clone, Debug)]
struct Row {
    event: Event,
    lease: i64,
}

impl Row {
    fn kv(&self) -> &KeyValue {
        // Every row is made with one.
        self.event.kv.as_ref().unwrap_or(const { &EMPTY })
    }

    fn deletes(&self) -> bool {
        self.event.r#type() == EventType::Delete
    }
}

static EMPTY: KeyValue = KeyValue {
    key: Bytes::new(),
    create_revision: 0,
    mod_revision: 0,
    version: 0,
    value: Bytes::new(),
    lease: 0,
};

impl Log {
    /// The key as it was at a revision.
    fn at(&self, key: &[u8], revision: i64) -> Option<&Row> {
        let rows = self.rows.iter().rev();
        let mut rows = rows.filter(|row| row.kv().mod_revision <= revision && row.kv().key == key);
        rows.next().filter(|row| !row.deletes())
    }

    fn was_ever(&self, key: &[u8]) -> bool {
        self.rows.iter().any(|row| row.kv().key == key)
    }

    fn append(&mut self, key: &Bytes, value: Option<Bytes>, lease: i64) -> i64 {
        self.newest += 1;
        if self.gaps > 0 && self.newest % self.gaps == 0 {
            self.newest += 1;
        }
        let before = self.at(key, self.newest).map(|row| row.kv().clone());
        let revision = self.newest;
        let create_revision = match (&before, &value) {
            (_, None) => 0,
            (Some(before), _) => before.create_revision,
            (None, _) => revision,
        };
        let event = Event {
            r#type: match value {
                Some(_) => EventType::Put.into(),
                None => EventType::Delete.into(),
            },
            kv: Some(KeyValue {
                key: key.clone(),
                value: value.unwrap_or_default(),
                create_revision,
                mod_revision: revision,
                lease,
                version: 0,
            }),
            prev_kv: before.map(|before| KeyValue {
                create_revision,
                ..before
            }),
        };
        self.rows.push(Row { event, lease });
        revision
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.newest,
            ..ResponseHeader::default()
        })
    }

    // === calls ===

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        let odd = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
            i64::from(request.sort_order),
            i64::from(request.sort_target),
            i64::from(request.serializable),
        ];
        if odd != [0; 7] || (request.range_end.is_empty() && request.limit > 1) {
            return Err(Status::unimplemented("not implemented by kine"));
        }
        let revision = match request.revision {
            0 => self.newest,
            revision if revision > self.newest => return Err(EtcdError::FutureRev.into()),
            revision if revision < self.compacted => return Err(EtcdError::Compacted.into()),
            revision => revision,
        };
        let inside = |key: &[u8]| match request.range_end.is_empty() {
            true => key == request.key,
            false => key >= request.key.as_ref() && key < request.range_end.as_ref(),
        };
        let mut now: BTreeMap<&[u8], &Row> = BTreeMap::new();
        let rows = self.rows.iter();
        for row in rows.filter(|row| row.kv().mod_revision <= revision && inside(&row.kv().key)) {
            now.insert(&row.kv().key, row);
        }
        let kvs = now.values().filter(|row| !row.deletes());
        let mut kvs: Vec<_> = kvs.map(|row| row.kv().clone()).collect();
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if limit > 0 {
            kvs.truncate(limit);
        }
        if request.count_only {
            kvs.clear();
        }
        Ok(RangeResponse {
            header: self.header(),
            kvs,
            more,
            count,
        })
    }

    /// The shapes that kine knows, in its own order.
    fn txn(&mut self, txn: &TxnRequest) -> Result<TxnResponse, Status> {
        let unsupported = || {
            let text = "etcdserver: unsupported operations in txn request";
            Err(Status::invalid_argument(text))
        };
        let [compare] = txn.compare.as_slice() else {
            return unsupported();
        };
        let Some(TargetUnion::ModRevision(at)) = compare.target_union else {
            return unsupported();
        };
        if compare.target() != CompareTarget::Mod || compare.result() != CompareResult::Equal {
            return unsupported();
        }
        let first = |ops: &[keyloom_etcd_api::etcdserverpb::RequestOp]| match ops {
            [op] => op.request.clone(),
            _ => None,
        };
        match (first(&txn.success), first(&txn.failure), txn.failure.len()) {
            (Some(Request::RequestPut(put)), None, 0) if at == 0 => {
                if self.at(&put.key, self.newest).is_some() {
                    return Ok(self.told(false, None));
                }
                self.append(&put.key, Some(put.value), put.lease);
                Ok(self.told(true, Some(Response::ResponsePut(PutResponse::default()))))
            }
            (Some(Request::RequestPut(put)), Some(Request::RequestRange(_)), _) => {
                let found = self.at(&put.key, self.newest).map(|row| row.kv().clone());
                if found.as_ref().map_or(0, |kv| kv.mod_revision) != at {
                    return Ok(self.found(found));
                }
                self.append(&put.key, Some(put.value), put.lease);
                Ok(self.told(true, Some(Response::ResponsePut(PutResponse::default()))))
            }
            (Some(Request::RequestDeleteRange(delete)), Some(Request::RequestRange(_)), _) => {
                let found = self
                    .at(&delete.key, self.newest)
                    .map(|row| row.kv().clone());
                let deleted = |kvs: Vec<KeyValue>| {
                    Response::ResponseDeleteRange(DeleteRangeResponse {
                        deleted: i64::from(!kvs.is_empty()),
                        prev_kvs: kvs,
                        header: None,
                    })
                };
                match found {
                    None if !self.was_ever(&delete.key) => {
                        Ok(self.told(true, Some(deleted(Vec::new()))))
                    }
                    None => Ok(self.found(None)),
                    Some(kv) if at != 0 && kv.mod_revision != at => Ok(self.found(Some(kv))),
                    Some(kv) => {
                        self.append(&delete.key, None, 0);
                        Ok(self.told(true, Some(deleted(vec![kv]))))
                    }
                }
            }
            _ => unsupported(),
        }
    }

    fn found(&self, kv: Option<KeyValue>) -> TxnResponse {
        let range = RangeResponse {
            header: self.header(),
            count: i64::from(kv.is_some()),
            kvs: kv.into_iter().collect(),
            more: false,
        };
        self.told(false, Some(Response::ResponseRange(range)))
    }

    fn told(&self, succeeded: bool, response: Option<Response>) -> TxnResponse {
        let op = |response| ResponseOp {
            response: Some(response),
        };
        TxnResponse {
            header: self.header(),
            succeeded,
            responses: response.map(op).into_iter().collect(),
        }
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Status> {
        if request.revision > self.newest {
            return Err(EtcdError::FutureRev.into());
        }
        if request.revision <= self.compacted {
            return Err(EtcdError::Compacted.into());
        }
        self.compacted = request.revision;
        Ok(CompactionResponse {
            header: self.header(),
        })
    }
}

impl KineModel {
    /// Leaves out a number every so many rows.
    #[must_use]
    pub fn with_gaps(every: i64) -> Self {
        let model = Self::default();
        model.inner.log.lock().gaps = every;
        model.own_row();
        model
    }

    /// A row without an event, as kine's compactor and other clients write them.
    pub fn own_row(&self) {
        let key = Bytes::from_static(b"compact_rev_key");
        self.inner.log.lock().append(&key, Some(Bytes::new()), 0);
        self.inner.grew.notify_waiters();
    }

    /// How many rows were written so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.inner.log.lock().rows.len()
    }

    /// The answers of the next writes get lost on the way back.
    pub fn lose_answers(&self, writes: u64) {
        self.inner.log.lock().lose = writes;
    }

    fn answer(&self, call: &Call) -> Result<Bytes, CallError> {
        let message = call.message.clone();
        let mut log = self.inner.log.lock();
        let answer = match call.rpc {
            Rpc::Range => encoded(decoded(message).and_then(|request| log.range(&request))),
            Rpc::Compact => encoded(decoded(message).and_then(|request| log.compact(&request))),
            Rpc::Status => encoded(Ok(StatusResponse {
                header: Some(ResponseHeader::default()),
                version: "3.6.11".to_owned(),
                db_size: 4096,
                ..StatusResponse::default()
            })),
            Rpc::Txn => {
                let before = log.newest;
                let answer = encoded(decoded(message).and_then(|request| log.txn(&request)));
                if log.newest > before {
                    self.inner.grew.notify_waiters();
                    self.expire(&log);
                    if log.lose > 0 {
                        log.lose -= 1;
                        return Err(CallError::Unknown("lost".to_owned()));
                    }
                }
                answer
            }
            rpc => Err(Status::unknown(format!("{} is not supported", rpc.name()))),
        };
        answer.map_err(CallError::Refused)
    }

    /// The newest row ends after its seconds, unless another one follows.
    fn expire(&self, log: &Log) {
        let Some(row) = log.rows.last().filter(|row| row.lease > 0).cloned() else {
            return;
        };
        let model = self.clone();
        tokio::spawn(async move {
            let seconds = u64::try_from(row.lease).unwrap_or_default();
            sleep(Duration::from_secs(seconds)).await;
            let mut log = model.inner.log.lock();
            let now = log
                .at(&row.kv().key, log.newest)
                .map(|row| row.kv().mod_revision);
            if now == Some(row.kv().mod_revision) {
                log.append(&row.kv().key.clone(), None, 0);
                model.inner.grew.notify_waiters();
            }
        });
    }

    /// What a watch says from here on, the newest last: never `None`.
    async fn next(&self, create: &WatchCreateRequest, at: &mut i64) -> WatchResponse {
        loop {
            let grew = self.inner.grew.notified();
            let newest = self.inner.log.lock().newest;
            if *at < newest {
                sleep(LATE).await;
                let log = self.inner.log.lock();
                let from = *at;
                *at = newest;
                let events: Vec<_> = log
                    .rows
                    .iter()
                    .filter(|row| (from + 1..=newest).contains(&row.kv().mod_revision))
                    .filter(|row| row.kv().key >= create.key && row.kv().key < create.range_end)
                    .map(|row| row.event.clone())
                    .collect();
                // Ahead of what was delivered, and with nothing to deliver it is progress.
                return WatchResponse {
                    header: log.header(),
                    events,
                    ..WatchResponse::default()
                };
            }
            grew.await;
        }
    }
}

impl Store for KineModel {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let model = self.clone();
        async move { model.answer(&call) }.boxed()
    }

    fn stream(
        &self,
        rpc: Rpc,
        mut requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        let model = self.clone();
        async move {
            let refused = |text: &str| Err(CallError::Refused(Status::unknown(text.to_owned())));
            if rpc != Rpc::Watch {
                return refused("not supported");
            }
            let first = requests.next().await.map(WatchRequest::decode);
            let Some(Ok(WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            })) = first
            else {
                return refused("no watch");
            };
            let created = WatchResponse {
                header: Some(ResponseHeader::default()),
                created: true,
                ..WatchResponse::default()
            };
            let at = create.start_revision - 1;
            let events =
                stream::unfold((model, create, at), |(model, create, mut at)| async move {
                    let answer = model.next(&create, &mut at).await;
                    Some((answer, (model, create, at)))
                });
            let answers = stream::iter([created]).chain(events);
            Ok(answers
                .map(|answer| Ok(answer.encode_to_vec().into()))
                .boxed())
        }
        .boxed()
    }
}

fn encoded(answer: Result<impl Message, Status>) -> Result<Bytes, Status> {
    answer.map(|answer| answer.encode_to_vec().into())
}

fn decoded<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::internal(error.to_string()))
}
