//! A stream of watches: requests in, answers out, one task.
//!
//! Everything of a stream happens in one task, in order, so that `created` answers come in the
//! order of their requests and a progress follows every event that it speaks for.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion},
    mvccpb::Event,
};
use keyloom_store::{CallError, Lane, Requests};
use tokio::{
    sync::mpsc,
    time::{Duration, Interval, MissedTickBehavior},
};

use super::{
    Ask, CaughtUp, catch_up,
    watcher::{Watcher, range_of},
};
use crate::{
    feed::{Found, Revision},
    readers::Readers,
    session::Session,
    shared::Shared,
    wire::{decode, encode},
};

/// A step of a watch that is behind reads about so much.
const STEP_BYTES: usize = 1 << 20;

/// How long to wait after a read that failed.
const AFTER_A_FAULT: Duration = Duration::from_millis(200);

/// What etcd answers a progress request on a stream, and a watch that never was.
const NO_WATCH: i64 = -1;

pub(crate) type Answer = Result<Bytes, CallError>;

/// Nobody reads the stream any more.
struct Gone;

struct Stream<S> {
    shared: Arc<Shared>,
    readers: Arc<Readers<S>>,
    watchers: BTreeMap<i64, Watcher>,
    /// Watches that were told that their place is compacted, and the last revision that each was
    /// told of. As in etcd, each keeps its id, and keeps the stream from its progress, until the
    /// client cancels it.
    lost: BTreeMap<i64, i64>,
    /// The next id for a client that chooses none.
    next_id: i64,
    /// Whether a progress is to be sent as soon as every watch has everything.
    progress_asked: bool,
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
        watchers: BTreeMap::new(),
        lost: BTreeMap::new(),
        next_id: 0,
        progress_asked: false,
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

    fn answer(&self, watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse {
            header: Some(self.shared.header(revision)),
            watch_id,
            ..WatchResponse::default()
        }
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
                // Of no watch there is no progress; etcd is silent too.
                self.progress_asked = !(self.watchers.is_empty() && self.lost.is_empty());
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, mut request: WatchCreateRequest) -> Result<(), Gone> {
        let (range, id) = match self.examine(&request) {
            Ok(examined) => examined,
            Err(reason) => return self.refuse(&reason).await,
        };
        // Counted before the head is read: what is committed from then on carries what was
        // before, and what is not is read from the history.
        let start = request.start_revision;
        let mut watcher = Watcher::new(id, range, &request, self.shared.clone());
        let head = self.shared.feed.head();
        if start == 0 {
            request.start_revision = head + 1;
            watcher.next = head + 1;
        }
        let revision = head.min(watcher.next - 1);
        let created = WatchResponse {
            created: true,
            ..self.answer(id, revision)
        };
        self.send(&created).await?;
        let compacted = self.shared.feed.compacted();
        if watcher.next < compacted {
            self.lost.insert(id, revision);
            return self.send(&self.compacted(id, compacted)).await;
        }
        self.watchers.insert(id, watcher);
        Ok(())
    }

    /// The range and the id of a watch that is asked for.
    fn examine(&mut self, request: &WatchCreateRequest) -> Result<(KeyRange, i64), String> {
        if request.start_revision < 0 {
            return Err(EtcdError::Compacted.text().to_owned());
        }
        let range = range_of(request).ok_or("mvcc: watcher range is empty")?;
        if request.watch_id == 0 {
            while self.has(self.next_id) {
                self.next_id += 1;
            }
            self.next_id += 1;
            return Ok((range, self.next_id - 1));
        }
        if self.has(request.watch_id) {
            return Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned());
        }
        Ok((range, request.watch_id))
    }

    fn has(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.lost.contains_key(&id)
    }

    async fn refuse(&self, reason: &str) -> Result<(), Gone> {
        let refusal = WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.answer(NO_WATCH, self.shared.feed.head())
        };
        self.send(&refusal).await
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        let told = self.watchers.remove(&id).map(|watcher| watcher.next - 1);
        let Some(told) = told.or_else(|| self.lost.remove(&id)) else {
            return Ok(());
        };
        let revision = self.shared.feed.head().min(told);
        let canceled = WatchResponse {
            canceled: true,
            ..self.answer(id, revision)
        };
        self.send(&canceled).await
    }

    fn compacted(&self, id: i64, compact_revision: i64) -> WatchResponse {
        WatchResponse {
            canceled: true,
            compact_revision,
            ..self.answer(id, 0)
        }
    }

    // === progress ===

    async fn answer_progress(&mut self) -> Result<(), Gone> {
        if !self.progress_asked {
            return Ok(());
        }
        let head = self.shared.feed.head();
        // A watch that begins in the future must not hear of anything before.
        let has_everything = |watcher: &Watcher| watcher.next == head + 1;
        if self.lost.is_empty() && self.watchers.values().all(has_everything) {
            self.progress_asked = false;
            self.send(&self.answer(NO_WATCH, head)).await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Gone> {
        let head = self.shared.feed.head();
        let mut due = Vec::new();
        for watcher in self.watchers.values_mut() {
            let quiet = std::mem::replace(&mut watcher.quiet, true);
            if watcher.progress_notify && quiet && watcher.next == head + 1 {
                due.push(watcher.id);
            }
        }
        for id in due {
            self.send(&self.answer(id, head)).await?;
        }
        Ok(())
    }

    // === events ===

    fn is_behind(&self) -> bool {
        let head = self.shared.feed.head();
        self.watchers.values().any(|watcher| watcher.next <= head)
    }

    /// Brings the watches that are furthest behind on by one step.
    async fn step(&mut self) -> Result<(), Gone> {
        let Some(from) = self.watchers.values().map(|watcher| watcher.next).min() else {
            return Ok(());
        };
        // Up to where the next ones are, so that they go on together.
        let others = self
            .watchers
            .values()
            .map(|watcher| watcher.next)
            .filter(|next| *next > from);
        let to = others.min().unwrap_or(i64::MAX).saturating_sub(1);
        let group = || {
            self.watchers
                .values()
                .filter(|watcher| watcher.next == from)
        };
        let with_prev = group().any(|watcher| watcher.prev_kv);
        match self.shared.feed.take(from, to, with_prev, STEP_BYTES) {
            Found::Here(revisions) => {
                let reached = revisions.last().map_or(from - 1, |last| last.revision);
                let revisions: Vec<&Revision> = revisions.iter().map(AsRef::as_ref).collect();
                self.deliver(from, reached, &revisions).await
            }
            Found::Gone => {
                let ranges = group().map(|watcher| watcher.range.clone()).collect();
                let ask = Ask {
                    from,
                    to,
                    ranges,
                    with_prev,
                    bytes: STEP_BYTES,
                };
                self.catch_up(ask).await
            }
        }
    }

    async fn catch_up(&mut self, ask: Ask) -> Result<(), Gone> {
        self.shared.metrics.catch_ups.inc();
        let from = ask.from;
        let read = move |session: &mut S| catch_up(session, &ask);
        match self.readers.run(Lane::Watch, read).await {
            Ok(CaughtUp::To(reached, revisions)) => {
                let revisions: Vec<&Revision> = revisions.iter().collect();
                self.deliver(from, reached, &revisions).await
            }
            Ok(CaughtUp::Compacted(compacted)) => self.end_compacted(from, compacted).await,
            Err(CallError::NotSent(_)) => Err(Gone),
            Err(error) => {
                tracing::warn!(store = %self.shared.origin, %error, "a watch could not read the history; trying again");
                tokio::time::sleep(AFTER_A_FAULT).await;
                Ok(())
            }
        }
    }

    async fn end_compacted(&mut self, from: i64, compacted: i64) -> Result<(), Gone> {
        let ended = self
            .watchers
            .extract_if(.., |_, watcher| watcher.next == from);
        let ended: Vec<i64> = ended.map(|(id, _)| id).collect();
        for id in ended {
            self.lost.insert(id, from - 1);
            self.send(&self.compacted(id, compacted)).await?;
        }
        Ok(())
    }

    /// Sends the watches at `from` what they want of the revisions up to `reached`.
    async fn deliver(
        &mut self,
        from: i64,
        reached: i64,
        revisions: &[&Revision],
    ) -> Result<(), Gone> {
        let group = self
            .watchers
            .values()
            .filter(|watcher| watcher.next == from);
        let ids: Vec<i64> = group.map(|watcher| watcher.id).collect();
        let compacted = self.shared.feed.compacted();
        for id in ids {
            let events = |watcher: &Watcher| -> Vec<Event> {
                let events = revisions.iter().flat_map(|revision| &revision.events);
                watcher.select(events, compacted)
            };
            let events = self.watchers.get(&id).map(events).unwrap_or_default();
            let answer = WatchResponse {
                events,
                ..self.answer(id, reached)
            };
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            watcher.next = reached + 1;
            if answer.events.is_empty() {
                continue;
            }
            watcher.quiet = false;
            let limit = self.shared.options.max_request_bytes;
            for part in watcher.fragments(answer, limit) {
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
