//! More stores, more writes: nothing on the way of a write is shared between stores that waits.
//!
//! The stores are models that do one commit at a time, 5 ms each, of at most 16 writes, as a disk
//! does. Time is stopped, so that what is counted is who waits for whom, on any machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::support::{Keyloom, stores};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_etcd_api::Rpc;
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use keyloom_testkit::model::ModelStore;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

const COMMIT: Duration = Duration::from_millis(5);
const WRITES_OF_A_COMMIT: usize = 16;
const CLIENTS_OF_A_STORE: usize = 32;

const WARM_UP: Duration = Duration::from_millis(200);
const MEASURED: Duration = Duration::from_millis(500);

/// A model store that waits for its disk.
#[derive(Debug)]
struct Disk {
    model: ModelStore,
    commits: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Disk {
    fn new(model: ModelStore) -> Self {
        let (commits, waiting) = mpsc::unbounded_channel();
        tokio::spawn(commit(waiting));
        Self { model, commits }
    }
}

/// One commit after the other, each of what waits when it begins.
async fn commit(mut waiting: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let mut writes = Vec::new();
    while waiting.recv_many(&mut writes, WRITES_OF_A_COMMIT).await > 0 {
        sleep(COMMIT).await;
        for write in writes.drain(..) {
            // Who gave up waiting is not told.
            let _: Result<(), ()> = write.send(());
        }
    }
}

impl Store for Disk {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (model, commits) = (self.model.clone(), self.commits.clone());
        Box::pin(async move {
            if matches!(call.rpc, Rpc::Put | Rpc::DeleteRange | Rpc::Txn) {
                let (done, commit) = oneshot::channel();
                commits.send(done).unwrap();
                commit.await.unwrap();
            }
            model.call(call).await
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

/// The default store, and others with a namespace each.
fn topology(count: usize) -> String {
    let mut text = "default: {endpoint: 'http://default.invalid:2379'}\nbackends:\n".to_owned();
    for store in 1..count {
        text.push_str(&format!(
            "- {{name: s{store}, endpoint: 'http://s{store}.invalid:2379', namespace: {{namespace: ns-{store}}}}}\n",
        ));
    }
    text
}

/// Writes a second through one Keyloom over so many stores.
async fn rate(count: usize) -> f64 {
    let disks = stores(count as u64)
        .into_iter()
        .map(|model| Arc::new(Disk::new(model)) as _);
    let keyloom = Keyloom::over(&topology(count), disks.collect()).await;
    let keyloom = Arc::new(keyloom.unwrap_or_else(|_| panic!("it does not start")));
    let begin = Instant::now() + WARM_UP;
    let end = begin + MEASURED;
    let written = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for client in 0..count * CLIENTS_OF_A_STORE {
        let (keyloom, written) = (keyloom.clone(), written.clone());
        let key = format!("/registry/pods/ns-{}/pod-{client}", client % count);
        clients.push(tokio::spawn(async move {
            while Instant::now() < end {
                keyloom.put(&key, "v").await.unwrap();
                if (begin..end).contains(&Instant::now()) {
                    written.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    sleep_until(end).await;
    for client in clients {
        client.await.unwrap();
    }
    written.load(Ordering::Relaxed) as f64 / MEASURED.as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn six_stores_take_almost_six_times_the_writes_of_one() {
    let one = rate(1).await;
    for (count, least) in [(2, 1.85), (4, 3.7), (6, 5.5)] {
        let several = rate(count).await;
        println!(
            "{count} stores: {several:.0} writes a second, {:.2} x",
            several / one
        );
        assert!(several >= least * one, "{several} a second, with one {one}");
    }
}
