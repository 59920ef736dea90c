//! A store for a caller on another runtime.

use std::{
    io,
    sync::Arc,
    thread::{self, ThreadId},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use keyloom_environment::{Address, Connection, Dial, OsRandom};
use keyloom_store::Store;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use super::{config, read};
use crate::{Environment, EtcdStore, metrics::Metrics};

/// Refuses every connection, and remembers which threads wanted one.
#[derive(Clone, Debug, Default)]
struct Dialled(Arc<Mutex<Vec<ThreadId>>>);

impl Dial for Dialled {
    fn dial(&self, _: Address) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let Self(dialled) = self.clone();
        async move {
            dialled.lock().push(thread::current().id());
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        .boxed()
    }
}

/// A call on a runtime of its own; the thread that it runs on.
fn call_apart(store: Arc<dyn Store>) -> ThreadId {
    let thread = thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(store.call(read())).unwrap_err();
        thread::current().id()
    });
    thread.join().unwrap()
}

#[test]
fn connections_of_its_own_are_dialled_by_whoever_calls() {
    let dialled = Dialled::default();
    let environment = Environment {
        dial: Arc::new(dialled.clone()),
        random: Arc::new(OsRandom),
    };
    let metrics = Metrics::register(&mut Registry::default());
    // What one learns of an endpoint both know, so that the second would not dial one that refused.
    let store = |name| EtcdStore::new(config(&[name]), &environment, &metrics).unwrap();
    let own = store("b").with_own_connections().unwrap();
    let first = call_apart(Arc::new(store("a")));
    let second = call_apart(own);
    let by = |thread| dialled.0.lock().iter().filter(|by| **by == thread).count();
    assert!(by(first) > 0 && by(second) > 0);
    assert_eq!(by(first) + by(second), dialled.0.lock().len());
}
