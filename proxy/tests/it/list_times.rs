//! How long lists over several stores take, and what the stores are asked for, in stopped time: who
//! waits for whom, and not what it costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::support::{Keyloom, keys, list, stores};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{RangeRequest, RangeResponse},
    wire::range_responses_of_txn,
};
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use keyloom_testkit::model::ModelStore;
use prost::Message as _;
use tokio::time::{Instant, sleep};

/// The objects of a namespace, and one namespace for each store.
const OBJECTS: usize = 60;
const STORES: usize = 4;

/// How long a store takes to answer a list, by its place: the last one is the slowest.
const ANSWERS: Duration = Duration::from_millis(25);

/// A model store that takes its time over lists, and counts the keys that it sent.
#[derive(Debug)]
struct Slow {
    model: ModelStore,
    takes: Duration,
    sent: Arc<AtomicI64>,
}

impl Store for Slow {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (model, sent) = (self.model.clone(), Arc::clone(&self.sent));
        let (takes, rpc) = (self.takes, call.rpc);
        let reads = call.idempotent;
        Box::pin(async move {
            if reads {
                sleep(takes).await;
            }
            let answer = model.call(call).await?;
            let lists = match rpc {
                Rpc::Range => vec![answer.clone()],
                Rpc::Txn if reads => range_responses_of_txn(&answer).unwrap(),
                _ => Vec::new(),
            };
            for list in lists {
                let keys = RangeResponse::decode(list).unwrap().kvs.len();
                sent.fetch_add(i64::try_from(keys).unwrap(), Ordering::Relaxed);
            }
            Ok(answer)
        })
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        self.model.stream(rpc, requests)
    }
}

struct Scene {
    keyloom: Keyloom,
    sent: Arc<AtomicI64>,
}

/// A list's keys, how many keys the stores sent for it, and how long it took.
struct Listed {
    answer: RangeResponse,
    sent: i64,
    took: Duration,
}

impl Scene {
    /// Every namespace is full; the first one is the default store's.
    async fn new() -> Self {
        let sent = Arc::new(AtomicI64::new(0));
        let slow = (1..).zip(stores(STORES as u64)).map(|(place, model)| {
            Arc::new(Slow {
                model,
                takes: place * ANSWERS,
                sent: Arc::clone(&sent),
            }) as _
        });
        let mut topology = "default: {endpoint: 'http://s0.invalid:1'}\nbackends:\n".to_owned();
        for store in 1..STORES {
            topology.push_str(&format!(
                "- {{name: s{store}, endpoint: 'http://s{store}.invalid:1', namespace: {{namespace: ns-{store}}}}}\n",
            ));
        }
        let keyloom = Keyloom::over(&topology, slow.collect()).await;
        let keyloom = keyloom.unwrap_or_else(|_| panic!("it does not start"));
        for store in 0..STORES {
            for number in 0..OBJECTS {
                keyloom
                    .put(&key(store * OBJECTS + number), "v")
                    .await
                    .unwrap();
            }
        }
        Self { keyloom, sent }
    }

    async fn list(&self, request: RangeRequest) -> Listed {
        let (begun, before) = (Instant::now(), self.sent.load(Ordering::Relaxed));
        let answer = self.keyloom.range(request).await.unwrap();
        Listed {
            took: begun.elapsed(),
            sent: self.sent.load(Ordering::Relaxed) - before,
            answer,
        }
    }
}

/// The objects in the order of their keys.
fn key(number: usize) -> String {
    format!(
        "/registry/pods/ns-{}/pod-{:03}",
        number / OBJECTS,
        number % OBJECTS
    )
}

fn page(limit: usize) -> RangeRequest {
    RangeRequest {
        limit: limit.try_into().unwrap(),
        ..list("/registry/pods/")
    }
}

fn slowest() -> Duration {
    ANSWERS * STORES as u32
}

#[tokio::test(start_paused = true)]
async fn a_whole_list_takes_as_long_as_the_slowest_stores_own() {
    let scene = Scene::new().await;
    let listed = scene.list(list("/registry/pods/")).await;
    let all: Vec<_> = (0..STORES * OBJECTS).map(key).collect();
    assert_eq!(keys(&listed.answer), all);
    assert_eq!(listed.sent, i64::try_from(all.len()).unwrap());
    assert_eq!(listed.took, slowest());
}

#[tokio::test(start_paused = true)]
async fn a_page_is_read_from_the_store_that_has_its_keys() {
    let scene = Scene::new().await;
    let listed = scene.list(page(50)).await;
    let first: Vec<_> = (0..50).map(key).collect();
    assert_eq!(keys(&listed.answer), first);
    assert_eq!((listed.answer.more, listed.answer.count), (true, 240));
    // One more than the page, and of each other store two, which show what it has.
    assert_eq!(listed.sent, 51 + 2 * 3);
    assert_eq!(listed.took, slowest());
}

#[tokio::test(start_paused = true)]
async fn a_list_of_pages_is_the_whole_list_and_reads_little_more() {
    let scene = Scene::new().await;
    for limit in [17, 50, 60, 100, 150, 239, 240, 500] {
        let (mut found, mut sent, mut revision) = (Vec::new(), 0, 0);
        loop {
            let left = STORES * OBJECTS - found.len();
            let mut request = page(limit);
            request.revision = revision;
            if let Some(last) = found.last() {
                request.key = format!("{last}\0").into();
            }
            let listed = scene.list(request).await;
            // Three rounds, none of which is longer than the slowest store's answer.
            assert!(listed.took <= 3 * slowest(), "{limit}: {:?}", listed.took);
            assert_eq!(listed.answer.count, i64::try_from(left).unwrap(), "{limit}");
            assert_eq!(listed.answer.more, left > limit, "{limit}");
            found.extend(keys(&listed.answer));
            sent += listed.sent;
            revision = listed.answer.header.unwrap().revision;
            if !listed.answer.more {
                break;
            }
        }
        let all: Vec<_> = (0..STORES * OBJECTS).map(key).collect();
        assert_eq!(found, all, "pages of {limit}");
        println!("pages of {limit}: {sent} keys sent for {}", all.len());
    }
}
