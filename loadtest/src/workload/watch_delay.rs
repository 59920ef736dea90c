//! Watchers on everything that is written, and writes at a rate: how long after a write's answer
//! its event comes (0 where it comes before), and how long a progress request takes meanwhile.
//!
//! Each round says "after-answer", the delay of every event at every watcher, "progress", and
//! "put". One missing event fails it.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use keyloom_etcd_api::{etcdserverpb::WatchResponse, wire::peek_header};
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, timeout, timeout_at},
};

use super::delivery::{Deliveries, open, revision};
use crate::{
    connection::{Connection, Streams},
    keyspace::{Resource, value},
    pace::{Clock, Pace},
    process::Process,
    request::{Request, progress},
    round::{Load, Meter, Tally, describe},
    stats::Figures,
};

/// Between two progress requests: what kube-apiserver leaves between its own.
const ASK: Duration = Duration::from_millis(100);

/// When a progress request is sent again: etcd passes over one while a watcher catches up.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the tasks of a round share.
#[derive(Debug)]
struct DelayRound {
    clock: Clock,
    deliveries: Deliveries,
}

/// Revisions, and when something happened to them.
type Times = Vec<(i64, Instant)>;

/// Runs one round.
///
/// # Errors
/// Where a write fails, and where an event is missing or out of order.
pub(crate) async fn delay_round(
    connections: &[Connection],
    load: &Load,
    processes: &[Process],
) -> Result<Figures> {
    let first = connections.first().context("no connection")?;
    let start = revision(first).await? + 1;
    let mut streams = Vec::new();
    for (_, connection) in (0..=load.watchers).zip(connections.iter().cycle()) {
        streams.push(open(connection, Resource::Watched, start).await?);
    }
    let shared = Arc::new(DelayRound {
        clock: Clock::new(Instant::now(), load.warmup, load.duration),
        deliveries: Deliveries::default(),
    });
    let asking = streams.pop().context("a stream to ask on")?;
    let asker = tokio::spawn(asker(asking, Arc::clone(&shared)));
    let mut watchers = JoinSet::new();
    for stream in streams {
        watchers.spawn(watcher(stream, Arc::clone(&shared)));
    }
    let pace = Pace::new(shared.clock, load.rate, load.most);
    let mut writers = JoinSet::new();
    for (number, connection) in (0..load.clients).zip(connections.iter().cycle()) {
        let (pace, shared) = (Arc::clone(&pace), Arc::clone(&shared));
        writers.spawn(writer(
            number,
            load.clone(),
            connection.clone(),
            pace,
            shared,
        ));
    }
    let meter = Meter::start(processes, 0)?;
    let patience = shared.clock.end + load.patience;
    let written = timeout_at(patience, answers(&mut writers)).await;
    let (answered, mut tally) = written.context("an answer is missing")??;
    let deliveries = &shared.deliveries;
    let mut figures = meter.stop(deliveries.written())?;
    deliveries
        .complete(load.watchers, load.patience, &mut watchers)
        .await?;
    while let Some(watcher) = watchers.join_next().await {
        for (revision, arrived) in watcher.context("a watcher's task")?? {
            if let Some(answered) = answered.get(&revision) {
                let delay = arrived.saturating_duration_since(*answered);
                tally.record("after-answer", delay);
            }
        }
    }
    for took in asker.await.context("the asker's task")?? {
        tally.record("progress", took);
    }
    describe(&tally, &mut figures);
    Ok(figures)
}

/// When each write was answered, and how long that took, once all are.
async fn answers(
    writers: &mut JoinSet<Result<(Times, Vec<Duration>)>>,
) -> Result<(HashMap<i64, Instant>, Tally)> {
    let (mut all, mut tally) = (HashMap::new(), Tally::default());
    while let Some(writer) = writers.join_next().await {
        let (times, took) = writer.context("a writer's task")??;
        all.extend(times);
        took.into_iter().for_each(|took| tally.record("put", took));
    }
    Ok((all, tally))
}

async fn writer(
    number: usize,
    load: Load,
    connection: Connection,
    pace: Arc<Pace>,
    shared: Arc<DelayRound>,
) -> Result<(Times, Vec<Duration>)> {
    let (mut times, mut took) = (Vec::new(), Vec::new());
    let space = load.shape.keyspace;
    let mut turn = number;
    while let Some(due) = pace.next().await {
        turn += 1;
        let namespace = Resource::Watched.namespace(turn % space.namespaces);
        let key: Bytes = format!("{namespace}writer-{number:05}").into();
        let put = Request::put(&key, &value(&key, space.value_size));
        let answer = connection.unary(put.rpc, put.frame).await.context("put")?;
        let answered = Instant::now();
        let header = peek_header(&answer)?.context("an answer without a header")?;
        shared.deliveries.wrote();
        if shared.clock.measures(due) {
            times.push((header.revision, answered));
            took.push(answered.saturating_duration_since(due));
        }
    }
    Ok((times, took))
}

/// When each revision came.
async fn watcher(mut stream: Streams, shared: Arc<DelayRound>) -> Result<Times> {
    let mut times = Vec::new();
    let mut last = 0;
    loop {
        let answer = tokio::select! {
            answer = stream.next() => answer?,
            () = shared.deliveries.over() => return Ok(times),
        };
        let arrived = Instant::now();
        let answer = WatchResponse::decode(answer)?;
        shared.deliveries.take(&answer, &mut last)?;
        let revisions = answer.events.iter().filter_map(|event| event.kv.as_ref());
        times.extend(revisions.map(|kv| (kv.mod_revision, arrived)));
    }
}

/// How long each progress request took.
async fn asker(mut stream: Streams, shared: Arc<DelayRound>) -> Result<Vec<Duration>> {
    let mut all = Vec::new();
    while Instant::now() < shared.clock.end {
        let begun = Instant::now();
        loop {
            stream.send(progress())?;
            if let Ok(told) = timeout(ASK_AGAIN, told(&mut stream)).await {
                told?;
                break;
            }
        }
        if shared.clock.measures(begun) {
            all.push(begun.elapsed());
        }
        // What comes meanwhile is taken, so that nothing waits in front of the next answer.
        let pause = timeout(ASK, async {
            loop {
                stream.next().await?;
            }
        });
        let ended: Result<Result<()>, _> = pause.await;
        if let Ok(Err(error)) = ended {
            return Err(error);
        }
    }
    Ok(all)
}

/// Until progress is told.
async fn told(stream: &mut Streams) -> Result<()> {
    loop {
        let answer = WatchResponse::decode(stream.next().await?)?;
        ensure!(!answer.canceled, "cancelled: {}", answer.cancel_reason);
        if answer.watch_id == -1 {
            return Ok(());
        }
    }
}
