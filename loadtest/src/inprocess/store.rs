//! A store that answers at once. It counts revisions, tells watches of every write, and keeps no keys:
//! every key that is read is there, at the revision of the newest write of a client.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnResponse,
        WatchResponse,
    },
    mvccpb::{Event, KeyValue},
};
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc;

/// What no client's key begins with.
const OWN: &[u8] = b"/_keyloom/";

/// See the module's page.
#[derive(Clone, Debug)]
pub(super) struct AtOnce {
    cluster_id: u64,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug)]
struct Log {
    revision: i64,
    /// Of the last write of a client: no key of a client is at one of Keyloom's own.
    written: i64,
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
}

impl AtOnce {
    pub(super) fn new(cluster_id: u64) -> Self {
        let log = Log {
            revision: 1,
            written: 1,
            watches: Vec::new(),
        };
        Self {
            cluster_id,
            log: Arc::new(Mutex::new(log)),
        }
    }

    fn header(&self, revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: 1,
            revision,
            raft_term: 1,
        })
    }

    /// Writes a key; its watches hear of it in the order of the revisions.
    fn write(&self, key: Bytes, value: Bytes) -> i64 {
        let mut log = self.log.lock();
        log.revision += 1;
        let revision = log.revision;
        if !key.starts_with(OWN) {
            log.written = revision;
        }
        let event = Event {
            kv: Some(key_value(key, value, revision)),
            ..Event::default()
        };
        let answer = WatchResponse {
            header: self.header(revision),
            events: vec![event],
            ..WatchResponse::default()
        };
        let answer = Bytes::from(answer.encode_to_vec());
        log.watches
            .retain(|watch| watch.send(answer.clone()).is_ok());
        revision
    }

    fn answer(&self, rpc: Rpc, message: Bytes) -> Result<Bytes, CallError> {
        let unread = |error: prost::DecodeError| CallError::Unknown(error.to_string());
        let answer = match rpc {
            Rpc::Put => {
                let put = PutRequest::decode(message).map_err(unread)?;
                let header = self.header(self.write(put.key, put.value));
                let answer = PutResponse {
                    header,
                    ..PutResponse::default()
                };
                answer.encode_to_vec()
            }
            Rpc::Range => {
                let range = RangeRequest::decode(message).map_err(unread)?;
                self.read(range.key).encode_to_vec()
            }
            // Only the ledger is written by transactions.
            Rpc::Txn => {
                let header = self.header(self.write(Bytes::from_static(OWN), Bytes::new()));
                let answer = TxnResponse {
                    header,
                    succeeded: true,
                    ..TxnResponse::default()
                };
                answer.encode_to_vec()
            }
            other => {
                let text = format!("{} is not answered here", other.name());
                return Err(CallError::NotSent(text));
            }
        };
        Ok(answer.into())
    }

    fn read(&self, key: Bytes) -> RangeResponse {
        let (revision, written) = {
            let log = self.log.lock();
            (log.revision, log.written)
        };
        let is_own = key.starts_with(OWN);
        let kvs: Vec<_> = (!is_own)
            .then(|| key_value(key, Bytes::from_static(&[7; super::VALUE]), written))
            .into_iter()
            .collect();
        RangeResponse {
            header: self.header(revision),
            count: i64::from(!is_own),
            kvs,
            more: false,
        }
    }
}

fn key_value(key: Bytes, value: Bytes, revision: i64) -> KeyValue {
    KeyValue {
        key,
        value,
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

impl Store for AtOnce {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let store = self.clone();
        Box::pin(async move {
            // A call to a real store lets others go on.
            tokio::task::yield_now().await;
            store.answer(call.rpc, call.message)
        })
    }

    fn stream(&self, _: Rpc, _: Requests) -> BoxFuture<'static, Result<Answers, CallError>> {
        let (tell, told) = mpsc::unbounded_channel();
        let mut log = self.log.lock();
        let created = WatchResponse {
            header: self.header(log.revision),
            created: true,
            ..WatchResponse::default()
        };
        // Its receiver is here.
        drop(tell.send(created.encode_to_vec().into()));
        log.watches.push(tell);
        let answers = stream::unfold(told, |mut told| async {
            let answer = told.recv().await?;
            Some((Ok(answer), told))
        });
        Box::pin(std::future::ready(Ok(answers.boxed())))
    }
}
