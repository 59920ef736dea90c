//! A store in a folder of its own, a clock to move by hand, and calls in one line.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use keyloom_etcd_api::{
    Metadata, Rpc, Status,
    etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse},
};
use keyloom_sqlstore::{Metrics, SqliteOptions, SqliteStore, WallClock};
use keyloom_store::{Call, CallError, Lane, Store as _};
use keyloom_testkit::{Answer, Step};
use prost::Message;
use tempfile::TempDir;

#[derive(Clone, Debug, Default)]
pub(crate) struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl WallClock for ManualClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + self.0.load(Ordering::Relaxed)
    }
}

/// A folder with a database, and how to open it.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) options: SqliteOptions,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new("test", folder.path().join("state.db"));
        Self {
            folder,
            clock: ManualClock::default(),
            options,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.options.path.clone()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        let clock = Arc::new(self.clock.clone());
        SqliteStore::open(self.options.clone(), clock, &Metrics::default())
            .await
            .unwrap()
    }
}

pub(crate) async fn raw(store: &SqliteStore, rpc: Rpc, message: Bytes) -> Result<Bytes, CallError> {
    let call = Call {
        metadata: Metadata::default(),
        rpc,
        message,
        lane: Lane::Unary,
        deadline: None,
        idempotent: false,
    };
    store.call(call).await
}

pub(crate) async fn call<A: Message + Default>(
    store: &SqliteStore,
    rpc: Rpc,
    request: &impl Message,
) -> Result<A, CallError> {
    let answer = raw(store, rpc, request.encode_to_vec().into()).await?;
    Ok(A::decode(answer).unwrap())
}

pub(crate) async fn step(store: &SqliteStore, step: &Step) -> Result<Answer, Status> {
    match raw(store, step.rpc(), step.encode()).await {
        Ok(answer) => Ok(Answer::decode(step.rpc(), answer).unwrap().unwrap()),
        Err(CallError::Refused(status)) => Err(status),
        Err(error) => panic!("{error:?} to {step:?}"),
    }
}

pub(crate) async fn put(store: &SqliteStore, key: &str, value: &str) -> Result<i64, CallError> {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    };
    let answer: PutResponse = call(store, Rpc::Put, &request).await?;
    Ok(answer.header.unwrap().revision)
}

pub(crate) async fn list(store: &SqliteStore, request: RangeRequest) -> RangeResponse {
    call(store, Rpc::Range, &request).await.unwrap()
}

pub(crate) fn all() -> RangeRequest {
    RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    }
}
