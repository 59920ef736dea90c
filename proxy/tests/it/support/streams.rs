//! Streams that a test holds a conversation on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use keyloom_etcd_api::{
    Rpc, Status,
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
};
use keyloom_store::{CallError, Requests, Store as _};
use keyloom_testkit::model::ModelStore;
use prost::Message as _;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::Keyloom;

/// How long something that must come may take, on the clock that stands still while there is work.
const LONG: Duration = Duration::from_secs(600);

/// One client's Watch stream.
pub(crate) struct Stream {
    requests: Option<UnboundedSender<Bytes>>,
    answers: BoxStream<'static, Result<Bytes, Status>>,
}

fn channel() -> (UnboundedSender<Bytes>, Requests) {
    let (sender, mut receiver) = unbounded_channel();
    let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
    (sender, requests.boxed())
}

impl Keyloom {
    pub(crate) async fn open_watch(&self) -> Stream {
        let (sender, requests) = channel();
        let answers = self.instance.stream(Rpc::Watch, requests).await.unwrap();
        Stream {
            requests: Some(sender),
            answers,
        }
    }

    /// A stream with etcd's `hasleader` in its metadata.
    pub(crate) async fn open_watch_that_needs_leader(&self) -> Result<Stream, Status> {
        let (sender, requests) = channel();
        let opened = self.instance.stream_that_needs_leader(Rpc::Watch, requests);
        Ok(Stream {
            requests: Some(sender),
            answers: opened.await?,
        })
    }
}

/// A stream to a model store, without anything in between.
pub(crate) async fn open_watch_on(store: &ModelStore) -> Stream {
    let (sender, requests) = channel();
    let answers = store.stream(Rpc::Watch, requests).await.unwrap();
    let status = |error| match error {
        CallError::Refused(status) => status,
        error => Status::unavailable(error.to_string()),
    };
    Stream {
        requests: Some(sender),
        answers: answers.map(move |answer| answer.map_err(status)).boxed(),
    }
}

impl Stream {
    pub(crate) fn send(&self, request: &WatchRequest) {
        let requests = self.requests.as_ref().unwrap();
        requests.send(request.encode_to_vec().into()).unwrap();
    }

    /// Bytes, whatever they mean.
    pub(crate) fn send_raw(&self, message: Bytes) {
        self.requests.as_ref().unwrap().send(message).unwrap();
    }

    /// The client sends no more.
    pub(crate) fn close(&mut self) {
        self.requests = None;
    }

    pub(crate) fn create(&self, create: WatchCreateRequest) {
        self.send_one(RequestUnion::CreateRequest(create));
    }

    pub(crate) fn ask_progress(&self) {
        self.send_one(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn send_one(&self, request: RequestUnion) {
        self.send(&WatchRequest {
            request_union: Some(request),
        });
    }

    /// What comes next, if it comes in time; `None` at the end of the stream.
    pub(crate) async fn next_within(
        &mut self,
        limit: Duration,
    ) -> Option<Option<Result<WatchResponse, Status>>> {
        let next = timeout(limit, self.answers.next()).await.ok()?;
        Some(next.map(|answer| Ok(WatchResponse::decode(answer?).unwrap())))
    }

    /// What must come next.
    pub(crate) async fn next(&mut self) -> WatchResponse {
        match self.next_within(LONG).await {
            Some(Some(Ok(response))) => response,
            other => panic!("instead of a response: {other:?}"),
        }
    }

    /// How the stream must end next.
    pub(crate) async fn end(&mut self) -> Status {
        match self.next_within(LONG).await {
            Some(Some(Err(status))) => status,
            other => panic!("instead of an end: {other:?}"),
        }
    }

    /// Nothing comes for so long.
    pub(crate) async fn is_silent(&mut self, limit: Duration) {
        if let Some(next) = self.next_within(limit).await {
            panic!("instead of silence: {next:?}");
        }
    }
}
