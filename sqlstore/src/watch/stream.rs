//! A stream of watches: requests in, answers out, one task.
//!
//! Everything of a stream happens in one task, in order, so that `created` answers come in the
//! order of their requests and a progress follows every event that it speaks for.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use keyloom_etcd_api::{
    etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion},
    mvccpb::Event,
};
use keyloom_etcd_semantics::watch::{Reply, Watches};
use keyloom_store::{CallError, Lane, Requests};
use tokio::{
    sync::mpsc,
    time::{Duration, Interval, MissedTickBehavior},
};

use super::{
    Ask, CaughtUp, catch_up,
    positions::{Hindmost, Positions},
    watcher::Watcher,
};
use crate::{
    feed::{Recent, Revision},
    readers::Readers,
    session::Session,
    shared::Shared,
    wire::{decode, encode},
};

/// A step of a watch that is behind reads about so much.
const STEP_BYTES: usize = 1 << 20;

/// How long to wait after a read that failed.
const AFTER_A_FAULT: Duration = Duration::from_millis(200);

pub(crate) type Answer = Result<Bytes, CallError>;

/// Nobody reads the stream any more.
struct Gone;

struct Stream<S> {
    shared: Arc<Shared>,
    readers: Arc<Readers<S>>,
    watches: Watches<Watcher>,
    positions: Positions,
    out: mpsc::Sender<Answer>,
}

/// Serves a stream until the client leaves it or the store is closed.
pub(crate) async fn serve<S: Session>(
    shared: Arc<Shared>,
    readers: Arc<Readers<S>>,
    requests: Requests,
    out: mpsc::Sender<Answer>,
) {
    let stream = Stream {
        shared,
        readers,
        watches: Watches::default(),
        positions: Positions::default(),
        out,
    };
    // Who has gone needs no error.
    let _gone: Result<(), Gone> = stream.run(requests).await;
}

/// What woke the stream.
enum Woken {
    Request(Bytes),
    /// The head has moved, or the store is closed.
    Head(bool),
    Tick,
}

impl<S: Session> Stream<S> {
    async fn run(mut self, requests: Requests) -> Result<(), Gone> {
        // As in etcd, a client that sends no more may go on listening.
        let mut requests = requests.chain(stream::pending());
        let mut heads = self.shared.feed.subscribe();
        let mut ticks = ticks(self.shared.options.progress_interval);
        loop {
            let woken = if self.is_behind() {
                match requests.next().now_or_never().flatten() {
                    Some(request) => Woken::Request(request),
                    None => {
                        self.step().await?;
                        continue;
                    }
                }
            } else {
                self.answer_progress().await?;
                let out = self.out.clone();
                tokio::select! {
                    Some(request) = requests.next() => Woken::Request(request),
                    changed = heads.changed() => Woken::Head(changed.is_ok()),
                    _ = ticks.tick() => Woken::Tick,
                    () = out.closed() => return Ok(()),
                }
            };
            match woken {
                Woken::Request(request) => self.receive(request).await?,
                Woken::Tick => self.tick().await?,
                Woken::Head(true) => {}
                Woken::Head(false) => return Ok(()),
            }
        }
    }

    async fn send(&self, answer: &WatchResponse) -> Result<(), Gone> {
        self.out.send(Ok(encode(answer))).await.map_err(|_| Gone)
    }

    async fn reply(&self, reply: Reply) -> Result<(), Gone> {
        let response = reply.response(|revision| self.shared.header(revision));
        self.send(&response).await
    }

    // === requests ===

    async fn receive(&mut self, request: Bytes) -> Result<(), Gone> {
        let request = match decode::<WatchRequest>(request) {
            Ok(request) => request,
            Err(status) => {
                let ended = Err(CallError::Refused(status));
                return self.out.send(ended).await.map_err(|_| Gone).and(Err(Gone));
            }
        };
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => {
                self.watches.ask(self.shared.feed.head());
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Gone> {
        let admitted = match self.watches.admit(&request) {
            Ok(admitted) => admitted,
            Err(reason) => {
                let head = self.shared.feed.head();
                return self.reply(Reply::refused(reason, head)).await;
            }
        };
        // Counted before the head is read: what is committed from then on carries what was
        // before, and what is not is read from the history.
        let mut watcher = Watcher::new(&admitted, self.shared.clone());
        let head = self.shared.feed.head();
        let (id, cursor) = (admitted.id, admitted.cursor(head));
        self.reply(Reply::created(id, head.min(cursor))).await?;
        watcher.next = cursor + 1;
        let compacted = self.shared.feed.compacted();
        if watcher.next < compacted {
            self.watches.insert(&admitted, None);
            return self.reply(Reply::compacted(id, compacted)).await;
        }
        self.positions.insert(id, watcher.next);
        self.watches.insert(&admitted, Some(watcher));
        Ok(())
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        let Some(watcher) = self.watches.remove(id) else {
            return Ok(());
        };
        let head = self.shared.feed.head();
        let revision = match watcher {
            Some(watcher) => {
                self.positions.remove(id, watcher.next);
                head.min(watcher.next - 1)
            }
            None => head,
        };
        self.reply(Reply::canceled(id, revision)).await
    }

    // === progress ===

    /// Called while no watch is behind.
    async fn answer_progress(&mut self) -> Result<(), Gone> {
        let head = self.shared.feed.head();
        if self.watches.asked().is_none() || self.is_behind() {
            return Ok(());
        }
        if self.watches.may_tell_all(head) {
            self.watches.answered();
            self.reply(Reply::progress_of_all(head)).await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Gone> {
        let head = self.shared.feed.head();
        for (id, start) in self.watches.due() {
            let next = self.watches.get(id).map(|watcher| watcher.next);
            if next == Some(head + 1) && start <= head {
                self.reply(Reply::progress(id, head)).await?;
            }
        }
        Ok(())
    }

    // === events ===

    fn is_behind(&self) -> bool {
        self.positions.is_behind(self.shared.feed.head())
    }

    /// Brings the watches that are furthest behind on by one step.
    async fn step(&mut self) -> Result<(), Gone> {
        let Some(group) = self.positions.hindmost() else {
            return Ok(());
        };
        let watchers = || group.ids.iter().filter_map(|id| self.watches.get(*id));
        let with_prev = watchers().any(|watcher| watcher.options.prev_kv);
        let (from, to) = (group.next, group.to);
        match self.shared.feed.take(from, to, with_prev, STEP_BYTES) {
            Recent::Here(revisions) => {
                let reached = revisions.last().map_or(from - 1, |last| last.revision);
                let revisions: Vec<&Revision> = revisions.iter().map(AsRef::as_ref).collect();
                self.deliver(&group, reached, &revisions).await
            }
            Recent::Gone => {
                let ask = Ask {
                    from,
                    to,
                    ranges: watchers().map(|watcher| watcher.range.clone()).collect(),
                    with_prev,
                    bytes: STEP_BYTES,
                };
                self.catch_up(&group, ask).await
            }
        }
    }

    async fn catch_up(&mut self, group: &Hindmost, ask: Ask) -> Result<(), Gone> {
        self.shared.metrics.catch_ups.inc();
        let read = move |session: &mut S| catch_up(session, &ask);
        match self.readers.run(Lane::Watch, read).await {
            Ok(CaughtUp::To(reached, revisions)) => {
                let revisions: Vec<&Revision> = revisions.iter().collect();
                self.deliver(group, reached, &revisions).await
            }
            Ok(CaughtUp::Compacted(compacted)) => self.end_compacted(group, compacted).await,
            Err(CallError::NotSent(_)) => Err(Gone),
            Err(error) => {
                tracing::warn!(store = %self.shared.origin, %error, "a watch could not read the history; trying again");
                tokio::time::sleep(AFTER_A_FAULT).await;
                Ok(())
            }
        }
    }

    async fn end_compacted(&mut self, group: &Hindmost, compacted: i64) -> Result<(), Gone> {
        for id in &group.ids {
            self.positions.remove(*id, group.next);
            drop(self.watches.lose(*id));
            self.reply(Reply::compacted(*id, compacted)).await?;
        }
        Ok(())
    }

    /// Sends watches that stand together what they want of the revisions up to `reached`.
    async fn deliver(
        &mut self,
        group: &Hindmost,
        reached: i64,
        revisions: &[&Revision],
    ) -> Result<(), Gone> {
        let compacted = self.shared.feed.compacted();
        let limit = self.shared.options.max_request_bytes;
        for id in &group.ids {
            let Some(watcher) = self.watches.get_mut(*id) else {
                continue;
            };
            self.positions.remove(*id, watcher.next);
            watcher.next = reached + 1;
            self.positions.insert(*id, watcher.next);
            let events = revisions.iter().flat_map(|revision| &revision.events);
            let events: Vec<Event> = watcher.select(events, compacted);
            if events.is_empty() {
                continue;
            }
            let answer = WatchResponse {
                header: Some(self.shared.header(reached)),
                watch_id: *id,
                events,
                ..WatchResponse::default()
            };
            let parts = watcher.fragments(answer, limit);
            self.watches.sent(*id);
            for part in parts {
                self.send(&part).await?;
            }
        }
        Ok(())
    }
}

fn ticks(every: Duration) -> Interval {
    let every = every.max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
