//! Watch over several stores: one client stream on the hub.
//!
//! The stream takes from the hub only when its client takes from it, so a slow client holds no
//! more than one batch. Nothing leaves past the leadership.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use keyloom_hub::{ClientStream, StreamError};
use keyloom_store::Requests;
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior, interval, sleep},
};

use super::{Context, Services};
use crate::{failure::Failure, order::OrderError, runtime::MergedRuntime};

/// A progress request that waits is looked at again at least so often.
const LOOK: Duration = Duration::from_millis(50);

impl Services {
    /// Serves one client's Watch stream.
    pub(super) fn watch(
        self: &Arc<Self>,
        runtime: &Arc<MergedRuntime>,
        requests: Requests,
        context: Context,
    ) -> BoxStream<'static, Result<Bytes, Failure>> {
        let stream = runtime.feeds().with(|hub, _| ClientStream::open(hub));
        let changed = Arc::new(Notify::new());
        runtime.feeds().tell(stream.id(), Arc::clone(&changed));
        let mut ticks = interval(self.settings.watch.progress_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let watching = Watching {
            services: Arc::clone(self),
            runtime: Arc::clone(runtime),
            stream,
            changed,
            requests: Some(requests),
            ticks,
            context,
        };
        stream::unfold(Some(watching), |watching| async {
            let mut watching = watching?;
            match watching.next().await {
                Ok(response) => Some((Ok(response), Some(watching))),
                Err(failure) => Some((Err(failure), None)),
            }
        })
        .boxed()
    }
}

struct Watching {
    services: Arc<Services>,
    runtime: Arc<MergedRuntime>,
    stream: ClientStream,
    changed: Arc<Notify>,
    /// `None` once the client has closed its side: it may go on listening.
    requests: Option<Requests>,
    ticks: Interval,
    context: Context,
}

impl Watching {
    async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(response) = self.response()? {
                self.context.until_order_allows(&self.runtime.order).await?;
                return Ok(response);
            }
            let stream = &mut self.stream;
            self.runtime
                .feeds()
                .with(|hub, order| stream.pump(hub, order));
            if self.stream.has_responses() {
                continue;
            }
            self.wait().await?;
        }
    }

    fn response(&mut self) -> Result<Option<Bytes>, Failure> {
        let order = &*self.runtime.order;
        let identity = &self.services.identity;
        let header = |revision| identity.header(revision);
        self.stream.next(&header, order).map_err(failure)
    }

    /// Until there may be something to send.
    async fn wait(&mut self) -> Result<(), Failure> {
        let (order, feeds) = (&self.runtime.order, self.runtime.feeds());
        let stream = &mut self.stream;
        let requests = &mut self.requests;
        let request = async {
            match requests {
                Some(requests) => requests.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changed.notified() => {}
            request = request => match request {
                None => self.requests = None,
                Some(request) => {
                    let taken = feeds.with(|hub, order| stream.request(&request, hub, order));
                    taken.map_err(failure)?;
                }
            },
            _ = self.ticks.tick() => {
                feeds.with(|hub, order| stream.tick(hub, order));
            }
            () = sleep(LOOK), if stream.is_asked() => {}
            // etcd cancels the streams of clients that asked for it when it loses its leader.
            () = order.until_leadership_over(), if self.context.needs_leader => {
                return Err(self.context.ended(OrderError::LeadershipOver));
            }
            () = self.services.stopping.cancelled() => {
                return Err(Failure::Stopped("this instance ends".to_owned()));
            }
        }
        Ok(())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let stream = &mut self.stream;
        let feeds = self.runtime.feeds();
        // In parts: others get to the hub in between.
        while !feeds.with(|hub, _| stream.close_some(hub)) {}
        feeds.forget(self.stream.id());
    }
}

fn failure(error: StreamError) -> Failure {
    match error {
        StreamError::Request => Failure::Malformed(error.to_string()),
        StreamError::Event(_) => Failure::Stopped(error.to_string()),
    }
}
