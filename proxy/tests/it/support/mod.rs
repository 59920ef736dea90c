//! A whole Keyloom over model stores, without sockets and with stopped time.

pub(crate) mod changing;
pub(crate) mod streams;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use keyloom_environment::SeededRandom;
use keyloom_etcd_api::{
    KeyRange, Rpc, Status,
    etcdserverpb::{
        PutRequest, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
};
use keyloom_proxy::{
    Applied, Instance, OpenStores, Options, Refusal, RenewOn, StartError, TopologyMetrics,
    WatchOptions,
};
use keyloom_store::{Requests, Store};
use keyloom_testkit::{
    Answer, Step,
    model::{Identity, ModelStore, Profile},
};
use keyloom_topology::{ParseOptions, StoreSpec, Topology, parse};
use prometheus_client::registry::Registry;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Every instance is told apart by a number of its own.
static NONCES: AtomicU64 = AtomicU64::new(7);

/// How long a successor waits for an instance that did not end.
pub(crate) const TERM: Duration = Duration::from_secs(5);

/// Three stores: everything else, roles by regular expression, one namespace.
pub(crate) const THREE: &str = "
default: {endpoint: 'http://default.invalid:2379'}
deleteRangeOverStores: refuse
backends:
- name: rbac
  endpoint: http://rbac.invalid:2379
  regexp: {key: ^(clusterroles|roles)/}
- name: tenant-a
  endpoint: http://tenant-a.invalid:2379
  namespace: {namespace: tenant-a}
";

/// The model stores of a topology, each a cluster of its own.
pub(crate) fn stores(count: u64) -> Vec<ModelStore> {
    (1..=count).map(store).collect()
}

/// The same, all of them of a version.
pub(crate) fn stores_of(version: &str, count: u64) -> Vec<ModelStore> {
    let store = |cluster_id| {
        let profile = profile(cluster_id);
        let version = version.to_owned();
        ModelStore::new(Profile { version, ..profile })
    };
    (1..=count).map(store).collect()
}

pub(crate) fn store(cluster_id: u64) -> ModelStore {
    ModelStore::new(profile(cluster_id))
}

fn profile(cluster_id: u64) -> Profile {
    Profile {
        identity: Identity {
            cluster_id,
            ..Identity::default()
        },
        ..Profile::default()
    }
}

pub(crate) fn topology(text: &str) -> Topology {
    match parse(text, &ParseOptions::default()) {
        Ok(accepted) => accepted.topology,
        Err(refused) => panic!("{}", refused.in_file("test").join("\n")),
    }
}

/// Stores that are there already, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(pub(crate) BTreeMap<String, Arc<dyn Store>>);

impl Ready {
    pub(crate) fn of(text: &str, stores: &[Arc<dyn Store>]) -> Self {
        let names = topology(text);
        let names = names.stores().iter().map(|spec| spec.name.clone());
        Self(names.zip(stores.iter().cloned()).collect())
    }
}

impl OpenStores for Ready {
    fn open<'a>(&'a self, spec: &'a StoreSpec) -> BoxFuture<'a, Result<Arc<dyn Store>, String>> {
        let store = self.0.get(&spec.name).cloned();
        async move { store.ok_or_else(|| "there is no such store".to_owned()) }.boxed()
    }

    fn keep<'a>(&'a self, _: &'a [Arc<dyn Store>]) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }
}

/// A running Keyloom.
pub(crate) struct Keyloom {
    instance: Instance,
    registry: Registry,
}

impl Keyloom {
    pub(crate) async fn start(text: &str, stores: &[ModelStore]) -> Self {
        Self::try_start(text, stores).await.unwrap()
    }

    pub(crate) async fn try_start(text: &str, stores: &[ModelStore]) -> Result<Self, StartError> {
        let stores = stores
            .iter()
            .map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        Self::over(text, stores.collect()).await
    }

    pub(crate) async fn over(text: &str, stores: Vec<Arc<dyn Store>>) -> Result<Self, StartError> {
        Self::with(text, stores, WatchOptions::default(), TERM).await
    }

    /// [`Self::start`] with other bounds for watches.
    pub(crate) async fn start_watching(
        text: &str,
        stores: &[ModelStore],
        watch: WatchOptions,
    ) -> Self {
        let stores = stores
            .iter()
            .map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        let started = Self::with(text, stores.collect(), watch, TERM);
        started.await.unwrap()
    }

    /// [`Self::start`] with another term.
    pub(crate) async fn with_term(text: &str, stores: &[ModelStore], term: Duration) -> Self {
        let stores = stores
            .iter()
            .map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        let started = Self::with(text, stores.collect(), WatchOptions::default(), term);
        started.await.unwrap()
    }

    async fn with(
        text: &str,
        stores: Vec<Arc<dyn Store>>,
        watch: WatchOptions,
        term: Duration,
    ) -> Result<Self, StartError> {
        let ready = Ready::of(text, &stores);
        Self::with_all(text, stores, ready, (watch, term, RenewOn::ThisRuntime)).await
    }

    /// [`Self::over`], with a leadership that is renewed elsewhere.
    pub(crate) async fn renewed_on(
        renew_on: RenewOn,
        text: &str,
        stores: Vec<Arc<dyn Store>>,
        duration: Duration,
    ) -> Result<Self, StartError> {
        let ready = Ready::of(text, &stores);
        let options = (WatchOptions::default(), duration, renew_on);
        Self::with_all(text, stores, ready, options).await
    }

    /// Whether an answer may leave now.
    pub(crate) fn ready(&self) -> Result<(), String> {
        self.instance.ready()
    }

    /// With stores that a later topology can name.
    pub(crate) async fn among(
        text: &str,
        stores: Vec<Arc<dyn Store>>,
        ready: Ready,
    ) -> Result<Self, StartError> {
        Self::with_all(
            text,
            stores,
            ready,
            (WatchOptions::default(), TERM, RenewOn::ThisRuntime),
        )
        .await
    }

    async fn with_all(
        text: &str,
        stores: Vec<Arc<dyn Store>>,
        ready: Ready,
        (watch, leadership_duration, renew_on): (WatchOptions, Duration, RenewOn),
    ) -> Result<Self, StartError> {
        let mut registry = Registry::default();
        let options = Options {
            random: Arc::new(SeededRandom::new(NONCES.fetch_add(1, Ordering::Relaxed))),
            leadership_duration,
            renew_on,
            watch,
            open: Arc::new(ready),
            metrics: TopologyMetrics::register(&mut registry),
        };
        let stop = CancellationToken::new();
        let instance = Instance::start(topology(text), stores, options, stop).await?;
        Ok(Self { instance, registry })
    }

    /// What the metrics of the topology say.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Changes the topology.
    pub(crate) async fn apply(&self, text: &str) -> Result<Applied, Refusal> {
        self.instance.apply(topology(text)).await
    }

    pub(crate) async fn unary(&self, rpc: Rpc, message: Bytes) -> Result<Bytes, Status> {
        let deadline = Some(Instant::now() + Duration::from_secs(10));
        self.instance.unary(rpc, message, deadline).await
    }

    pub(crate) async fn unary_without_deadline(
        &self,
        rpc: Rpc,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        self.instance.unary(rpc, message, None).await
    }

    pub(crate) async fn ask(&self, step: &Step) -> Result<Answer, Status> {
        let rpc = step.rpc();
        let answer = self.unary(rpc, step.encode()).await?;
        Ok(Answer::decode(rpc, answer).unwrap().unwrap())
    }

    /// The answers to these requests, until the stream ends.
    pub(crate) async fn stream(
        &self,
        rpc: Rpc,
        requests: Vec<Bytes>,
    ) -> Vec<Result<Bytes, Status>> {
        let requests = futures_util::stream::iter(requests).boxed();
        match self.instance.stream(rpc, requests).await {
            Ok(answers) => answers.collect().await,
            Err(status) => vec![Err(status)],
        }
    }

    /// The answers to these requests, as they come.
    pub(crate) async fn open(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxStream<'static, Result<Bytes, Status>> {
        self.instance.stream(rpc, requests).await.unwrap()
    }

    /// The answers to these requests, or why there are none.
    pub(crate) async fn all(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> Result<BoxStream<'static, Result<Bytes, Status>>, Status> {
        self.instance.stream(rpc, requests).await
    }

    /// The answers to one request on a stream that stays open.
    pub(crate) async fn open_with(
        &self,
        rpc: Rpc,
        request: Bytes,
    ) -> BoxStream<'static, Result<Bytes, Status>> {
        let requests = stream::iter([request]).chain(stream::pending());
        self.instance.stream(rpc, requests.boxed()).await.unwrap()
    }

    /// Ends in good order.
    pub(crate) async fn stop(self) {
        self.instance.stop().await;
    }

    /// Ends without writing anything more, as SIGKILL does.
    pub(crate) fn kill(self) {
        self.instance.abort();
    }
}

pub(crate) fn put(key: &str, value: &str) -> Step {
    Step::Put(PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        ..PutRequest::default()
    })
}

pub(crate) fn get(key: &str) -> Step {
    Step::Range(RangeRequest {
        key: Bytes::from(key.to_owned()),
        ..RangeRequest::default()
    })
}

/// Every key below `prefix`.
pub(crate) fn list(prefix: &str) -> RangeRequest {
    let range = KeyRange::prefix(Bytes::from(prefix.to_owned()));
    RangeRequest {
        range_end: range.range_end(),
        key: range.start,
        ..RangeRequest::default()
    }
}

impl Keyloom {
    /// Writes a key and gives back its revision.
    pub(crate) async fn put(&self, key: &str, value: &str) -> Result<i64, Status> {
        Ok(self.ask(&put(key, value)).await?.revision())
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        match self.ask(&Step::Range(request)).await? {
            Answer::Range(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn keys(answer: &RangeResponse) -> Vec<String> {
    answer
        .kvs
        .iter()
        .map(|kv| String::from_utf8(kv.key.to_vec()).unwrap())
        .collect()
}

/// A client's watch stream that is read as it goes.
pub(crate) struct Watching {
    requests: tokio::sync::mpsc::UnboundedSender<Bytes>,
    answers: futures_util::stream::BoxStream<'static, Result<Bytes, Status>>,
}

impl Watching {
    pub(crate) async fn open(keyloom: &Keyloom) -> Self {
        let (requests, inbox) = tokio::sync::mpsc::unbounded_channel();
        let inbox = futures_util::stream::unfold(inbox, |mut inbox| async {
            let request = inbox.recv().await?;
            Some((request, inbox))
        });
        let answers = keyloom.instance.stream(Rpc::Watch, inbox.boxed()).await;
        Self {
            requests,
            answers: answers.unwrap(),
        }
    }

    pub(crate) fn watch(&self, prefix: &str, start_revision: i64) {
        let range = KeyRange::prefix(Bytes::from(prefix.to_owned()));
        let create = WatchCreateRequest {
            range_end: range.range_end(),
            key: range.start,
            start_revision,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.requests.send(request.encode_to_vec().into()).unwrap();
    }

    /// The next answer, if one comes within `patience`.
    pub(crate) async fn next(&mut self, patience: Duration) -> Option<WatchResponse> {
        let answer = tokio::time::timeout(patience, self.answers.next())
            .await
            .ok()??;
        Some(WatchResponse::decode(answer.unwrap()).unwrap())
    }
}
