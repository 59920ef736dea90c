//! Reads as fast as they are answered, on a thread of their own, so that an endpoint is busy while
//! the test looks at what its clients were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::join_all;
use keyloom_etcd_api::{KeyRange, etcdserverpb::RangeRequest};
use tokio::{runtime, time::sleep};

use crate::{client::Client, stage::KEYS};

/// They read until this is dropped.
#[derive(Debug)]
pub struct Readers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Readers {
    #[must_use]
    pub fn start(url: &str, number: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let (own, url) = (Arc::clone(&shared), url.to_owned());
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(join_all((0..number).map(|at| read(&url, at, &own))));
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// How many reads were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn read(url: &str, at: usize, shared: &Shared) {
    let client = Client::new(url);
    for number in at.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if client.kv().range(request(number)).await.is_ok() {
            shared.answered.fetch_add(1, Ordering::Relaxed);
        } else {
            // A store is away.
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A key of each store in turn, and now and then a list over several.
fn request(number: usize) -> RangeRequest {
    if number.is_multiple_of(16) {
        let range = KeyRange::prefix("/registry/secrets/".into());
        return RangeRequest {
            range_end: range.range_end(),
            key: range.start,
            limit: 500,
            ..RangeRequest::default()
        };
    }
    RangeRequest {
        key: KEYS[number % KEYS.len()].into(),
        ..RangeRequest::default()
    }
}
