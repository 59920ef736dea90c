//! Calls to an endpoint over a connection of their own. Shares nothing with Keyloom's way to its
//! stores, so that a mistake there is not made twice.

use bytes::Bytes;
use futures_util::stream;
use http::{Uri, uri::PathAndQuery};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use keyloom_etcd_api::{
    Rpc, Status,
    etcdserverpb::{
        HashKvRequest, HashKvResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
        RangeRequest, StatusRequest, StatusResponse,
    },
    mvccpb::KeyValue,
};
use keyloom_etcd_client::{
    Answered as _, RawCodec,
    etcdserverpb::{
        cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, watch_client::WatchClient,
    },
    status_of,
};
use keyloom_testkit::{Answer, Step};
use tokio::sync::mpsc;
use tonic::{Request, body::Body, client::Grpc};

/// What carries the calls: HTTP/2 with prior knowledge, connected again when it breaks.
pub type Transport = Pool<HttpConnector, Body>;

/// A client of one endpoint.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    origin: Uri,
}

impl Client {
    /// Connects with the first call.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let transport = Pool::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_only(true)
            .http2_adaptive_window(true)
            .build(connector);
        Self {
            transport,
            origin: url.parse().expect("an URL"),
        }
    }

    #[must_use]
    pub fn kv(&self) -> KvClient<Transport> {
        KvClient::with_origin(self.transport.clone(), self.origin.clone())
            .max_decoding_message_size(usize::MAX)
    }

    #[must_use]
    pub fn maintenance(&self) -> MaintenanceClient<Transport> {
        MaintenanceClient::with_origin(self.transport.clone(), self.origin.clone())
    }

    #[must_use]
    pub fn cluster(&self) -> ClusterClient<Transport> {
        ClusterClient::with_origin(self.transport.clone(), self.origin.clone())
    }

    #[must_use]
    pub fn lease(&self) -> LeaseClient<Transport> {
        LeaseClient::with_origin(self.transport.clone(), self.origin.clone())
    }

    #[must_use]
    pub fn watch(&self) -> WatchClient<Transport> {
        WatchClient::with_origin(self.transport.clone(), self.origin.clone())
    }

    /// Sends bytes to a path, whatever they mean, and gives back the bytes of the answer.
    ///
    /// # Errors
    /// The status that the endpoint answered.
    pub async fn raw(&self, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
        let mut grpc = Grpc::with_origin(self.transport.clone(), self.origin.clone())
            .max_decoding_message_size(usize::MAX);
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(Request::new(message), path, RawCodec).await;
        answer.answered()
    }

    /// [`Self::raw`] to a call of etcd's.
    ///
    /// # Errors
    /// The status that the endpoint answered.
    pub async fn call(&self, rpc: Rpc, message: Bytes) -> Result<Bytes, Status> {
        self.raw(rpc.path(), message).await
    }

    /// Does one step of a program.
    ///
    /// # Errors
    /// The status that the endpoint answered.
    pub async fn step(&self, step: &Step) -> Result<Answer, Status> {
        let answer = self.call(step.rpc(), step.encode()).await?;
        let answer = Answer::decode(step.rpc(), answer).expect("steps are calls of the KV service");
        Ok(answer.expect("an answer of etcd's API"))
    }

    /// The key's value and revisions, read from this endpoint only.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Option<KeyValue> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_ref()),
            ..RangeRequest::default()
        };
        let answer = self.kv().range(request).await.expect("a read");
        answer.into_inner().kvs.pop()
    }

    /// Writes a key that must be writable, and gives back the revision of the write.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> i64 {
        let request = PutRequest {
            key: Bytes::copy_from_slice(key.as_ref()),
            value: Bytes::copy_from_slice(value.as_ref()),
            ..PutRequest::default()
        };
        let answer = self.kv().put(request).await.expect("a write");
        answer.into_inner().header.expect("a header").revision
    }

    /// Keeps a lease alive once; `None` where the stream ended without an answer. The stream is at its
    /// end then, on the endpoint's side too.
    ///
    /// # Errors
    /// The status that the endpoint answered.
    pub async fn keep_alive(&self, id: i64) -> Result<Option<LeaseKeepAliveResponse>, Status> {
        let (ask, mut asked) = mpsc::unbounded_channel();
        let sent = ask.send(LeaseKeepAliveRequest { id });
        sent.expect("the other end is here");
        let requests = stream::poll_fn(move |context| asked.poll_recv(context));
        let answers = self.lease().lease_keep_alive(requests).await;
        let mut answers = answers.answered()?;
        let answer = answers.message().await;
        drop(ask);
        answer.map_err(|status| status_of(&status))
    }

    /// The endpoint's current revision.
    pub async fn revision(&self) -> i64 {
        let answer = self.kv().range(anything()).await.expect("a read");
        answer.into_inner().header.expect("a header").revision
    }

    pub async fn status(&self) -> StatusResponse {
        let answer = self.maintenance().status(StatusRequest::default()).await;
        answer.expect("a status").into_inner()
    }

    /// The hash over all revisions that the endpoint keeps.
    pub async fn hash(&self) -> HashKvResponse {
        let answer = self.maintenance().hash_kv(HashKvRequest::default()).await;
        answer.expect("a hash").into_inner()
    }
}

/// A read of a key that nobody writes.
pub(crate) fn anything() -> RangeRequest {
    RangeRequest {
        key: "\0".into(),
        ..RangeRequest::default()
    }
}
