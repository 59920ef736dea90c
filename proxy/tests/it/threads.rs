//! Threads and time that are real: the leadership is renewed while every thread that answers calls is
//! busy.

use std::{
    sync::{
        Arc, Barrier,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_etcd_api::Rpc;
use keyloom_proxy::RenewOn;
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use keyloom_testkit::model::ModelStore;
use tokio::runtime;

use crate::support::{Keyloom, THREE, store};

/// How long this test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

const WORKERS: usize = 2;

/// A default store that tells of every write of the ledger.
#[derive(Clone, Debug)]
struct Heard {
    store: ModelStore,
    writes: Sender<()>,
}

impl Store for Heard {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if call.rpc == Rpc::Txn {
            self.writes.send(()).ok();
        }
        self.store.call(call)
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        self.store.stream(rpc, requests)
    }
}

/// A Keyloom whose workers all wait for the barrier, and the writes of its ledger since.
fn busy(renew_on: RenewOn) -> (runtime::Runtime, Keyloom, Arc<Barrier>, Receiver<()>) {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap();
    let (writes, heard) = channel();
    let default = Heard {
        store: store(1),
        writes,
    };
    let stores: Vec<Arc<dyn Store>> =
        vec![Arc::new(default), Arc::new(store(2)), Arc::new(store(3))];
    let duration = Duration::from_secs(2);
    let keyloom = runtime.block_on(Keyloom::renewed_on(renew_on, THREE, stores, duration));
    let keyloom = keyloom.unwrap();
    let release = Arc::new(Barrier::new(WORKERS + 1));
    let (blocked, is_blocked) = channel();
    for _ in 0..WORKERS {
        let (release, blocked) = (Arc::clone(&release), blocked.clone());
        runtime.spawn(async move {
            blocked.send(()).unwrap();
            release.wait();
        });
    }
    for _ in 0..WORKERS {
        is_blocked.recv_timeout(PATIENCE).unwrap();
    }
    while heard.try_recv().is_ok() {}
    (runtime, keyloom, release, heard)
}

#[test]
fn the_leadership_is_renewed_while_every_thread_is_busy() {
    let (_runtime, keyloom, release, heard) = busy(RenewOn::OwnThread);
    // One every fifth of its duration: more than it lasts without any.
    for _ in 0..6 {
        heard.recv_timeout(PATIENCE).expect("a renewal");
    }
    assert_eq!(keyloom.ready(), Ok(()));
    release.wait();
}

/// What the thread of its own is for: without it nothing is renewed.
#[test]
fn on_the_runtime_of_the_calls_the_leadership_waits_behind_them() {
    let (_runtime, keyloom, release, heard) = busy(RenewOn::ThisRuntime);
    assert!(heard.recv_timeout(Duration::from_secs(2)).is_err());
    assert!(keyloom.ready().is_err());
    release.wait();
}
