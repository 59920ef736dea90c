//! Watches of a probe.

use keyloom_etcd_api::{
    Status,
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
};
use keyloom_testkit::history::StreamRecording;
use tokio::time::timeout;

use super::{PATIENCE, Probe};
use crate::{poll, watching::Watching};

/// The id of its streams in the history.
const WATCHER: u64 = 96;

/// One stream with one watch.
struct Open {
    stream: Watching,
    recording: StreamRecording,
}

impl Open {
    fn send(&self, request: RequestUnion) {
        self.recording.asked(&WatchRequest {
            request_union: Some(request.clone()),
        });
        self.stream.send(request);
    }

    async fn next(&mut self) -> Result<WatchResponse, Status> {
        let next = self.stream.next_within(poll::LONG).await;
        let next = next.expect("something on a watch stream")?;
        self.recording.told(&next);
        if next.canceled {
            return Err(Status::cancelled(next.cancel_reason));
        }
        Ok(next)
    }
}

impl Probe<'_> {
    async fn open(&self, key: &'static str) -> Result<Open, Status> {
        let mut open = Open {
            recording: self.recorder().open(WATCHER),
            stream: Watching::open(&self.client),
        };
        open.send(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.into(),
            prev_kv: true,
            ..WatchCreateRequest::default()
        }));
        while !open.next().await?.created {}
        Ok(open)
    }

    /// A new watch is sent the event of a write after it.
    pub(super) async fn watch(&self, key: &'static str) -> Result<(), Status> {
        let mut open = self.open(key).await?;
        let revision = self.put(key).await?;
        loop {
            let told = open.next().await?;
            let mut kvs = told.events.iter().filter_map(|event| event.kv.as_ref());
            if kvs.any(|kv| kv.mod_revision >= revision) {
                return Ok(());
            }
        }
    }

    /// A new watch is told how far it is.
    pub(super) async fn progress(&self, key: &'static str) -> Result<(), Status> {
        let mut open = self.open(key).await?;
        open.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        let told = timeout(PATIENCE, async {
            loop {
                if open.next().await?.watch_id == -1 {
                    return Ok(());
                }
            }
        });
        let late = |_| Status::deadline_exceeded("no progress was told");
        told.await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }
}
