//! Watchers on everything that is written, and writes at a rate: how long an event takes from its
//! write to each watcher, and whether all of them arrive, once, and in order.
//!
//! The delay counts from when the write was due: it is what somebody waits who wrote and looks for
//! the effect. The value of each write says when that was.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{RangeResponse, TxnResponse, WatchResponse};
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, sleep_until, timeout_at},
};

use super::delivery::{Deliveries, open, revision};
use crate::{
    connection::{Connection, Streams},
    keyspace::{Resource, value},
    pace::{Clock, Pace},
    process::Process,
    request::Request,
    round::{Load, Meter, Tally, describe},
    stats::Figures,
};

/// What the tasks of a round share.
#[derive(Debug)]
struct WatchRound {
    clock: Clock,
    deliveries: Deliveries,
}

/// Runs one round.
///
/// # Errors
/// Where a write fails, and where an event is missing, comes twice or out of order.
pub(crate) async fn watch_round(
    connections: &[Connection],
    load: &Load,
    processes: &[Process],
) -> Result<Figures> {
    let first = connections.first().context("no connection")?;
    let mut keys = Vec::new();
    for number in 0..load.clients {
        keys.push(own_keys(number, load.shape.keyspace.namespaces, first).await?);
    }
    let start = revision(first).await? + 1;
    let mut watchers = JoinSet::new();
    let mut streams = Vec::new();
    for (_, connection) in (0..load.watchers).zip(connections.iter().cycle()) {
        streams.push(open(connection, Resource::Watched, start).await?);
    }
    let shared = Arc::new(WatchRound {
        clock: Clock::new(Instant::now(), load.warmup, load.duration),
        deliveries: Deliveries::default(),
    });
    for stream in streams {
        watchers.spawn(watcher(stream, Arc::clone(&shared)));
    }
    let pace = Pace::new(shared.clock, load.rate, load.most);
    let mut writers = JoinSet::new();
    for (keys, connection) in keys.into_iter().zip(connections.iter().cycle()) {
        let (pace, shared) = (Arc::clone(&pace), Arc::clone(&shared));
        let (size, connection) = (load.shape.keyspace.value_size, connection.clone());
        writers.spawn(writer(keys, size, connection, pace, shared));
    }
    sleep_until(shared.clock.begin).await;
    let meter = Meter::start(processes, shared.deliveries.delivered())?;
    let mut tally = Tally::default();
    let patience = shared.clock.end + load.patience;
    timeout_at(patience, gather(&mut writers, &mut tally))
        .await
        .context("an answer is missing")??;
    let figures = meter.stop(shared.deliveries.delivered())?;
    complete(&shared, watchers, load, figures, tally).await
}

/// Waits until every watcher has every event, and puts the figures together.
async fn complete(
    shared: &WatchRound,
    mut watchers: JoinSet<Result<Tally>>,
    load: &Load,
    mut figures: Figures,
    mut tally: Tally,
) -> Result<Figures> {
    let deliveries = &shared.deliveries;
    let events = deliveries
        .complete(load.watchers, load.patience, &mut watchers)
        .await?;
    while let Some(ended) = watchers.join_next().await {
        for (kind, latencies) in ended.context("a watcher's task")??.kinds {
            tally.kinds.entry(kind).or_default().add(&latencies);
        }
    }
    describe(&tally, &mut figures);
    #[expect(clippy::cast_precision_loss, reason = "a count of one round")]
    figures.insert("events".to_owned(), events as f64);
    Ok(figures)
}

async fn gather(writers: &mut JoinSet<Result<Tally>>, tally: &mut Tally) -> Result<()> {
    while let Some(writer) = writers.join_next().await {
        for (kind, latencies) in writer.context("a writer's task")??.kinds {
            tally.kinds.entry(kind).or_default().add(&latencies);
        }
    }
    Ok(())
}

/// A writer's keys, one in each namespace, each with the revision that it was last written at.
async fn own_keys(
    number: usize,
    namespaces: usize,
    connection: &Connection,
) -> Result<Vec<(Bytes, i64)>> {
    let mut keys = Vec::new();
    for namespace in 0..namespaces {
        let namespace = Resource::Watched.namespace(namespace);
        let key: Bytes = format!("{namespace}writer-{number:05}").into();
        let get = Request::get(&key);
        let answer = RangeResponse::decode(connection.unary(get.rpc, get.frame).await?)?;
        keys.push((key, answer.kvs.first().map_or(0, |kv| kv.mod_revision)));
    }
    Ok(keys)
}

/// Writes as kube-apiserver does: every store has that transaction, and some have no other write.
async fn writer(
    mut keys: Vec<(Bytes, i64)>,
    value_size: usize,
    connection: Connection,
    pace: Arc<Pace>,
    shared: Arc<WatchRound>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut turn: usize = 0;
    while let Some(due) = pace.next().await {
        turn += 1;
        let place = turn % keys.len().max(1);
        let (key, written_at) = keys.get_mut(place).context("a writer without keys")?;
        let value = stamped(key, due, shared.clock, value_size);
        let update = Request::update(key, &value, *written_at);
        let answer = connection.unary(update.rpc, update.frame).await;
        let answer = TxnResponse::decode(answer.context("update")?)?;
        ensure!(answer.succeeded, "a compare failed that must hold");
        *written_at = answer
            .header
            .context("an answer without a header")?
            .revision;
        shared.deliveries.wrote();
        if shared.clock.measures(due) {
            tally.record("update", due.elapsed());
        }
    }
    Ok(tally)
}

async fn watcher(mut stream: Streams, shared: Arc<WatchRound>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut last = 0;
    loop {
        let answer = tokio::select! {
            answer = stream.next() => answer?,
            () = shared.deliveries.over() => return Ok(tally),
        };
        let answer = WatchResponse::decode(answer)?;
        let now = Instant::now();
        shared.deliveries.take(&answer, &mut last)?;
        for event in &answer.events {
            let kv = event.kv.as_ref().context("an event without a key")?;
            let due = due(&kv.value, shared.clock)?;
            if shared.clock.measures(due) {
                tally.record("delivery", now.saturating_duration_since(due));
            }
        }
    }
}

/// A value that says when its write was due: microseconds since the start, then filling.
fn stamped(key: &[u8], due: Instant, clock: Clock, size: usize) -> Bytes {
    let since = due.saturating_duration_since(clock.start).as_micros();
    let stamp = format!("{since:016}");
    let filling = value(key, size.saturating_sub(stamp.len()));
    [stamp.as_bytes(), &filling].concat().into()
}

fn due(value: &[u8], clock: Clock) -> Result<Instant> {
    let stamp = value
        .get(..16)
        .and_then(|stamp| std::str::from_utf8(stamp).ok());
    let Some(Ok(micros)) = stamp.map(str::parse) else {
        bail!("a value that was not written here");
    };
    Ok(clock.start + Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_when_its_write_was_due() {
        let clock = Clock::new(Instant::now(), Duration::ZERO, Duration::from_secs(1));
        let then = clock.start + Duration::from_micros(1_234_567);
        let value = stamped(b"key", then, clock, 64);
        assert_eq!(value.len(), 64);
        assert_eq!(due(&value, clock).unwrap(), then);
        assert_eq!(
            stamped(b"key", then, clock, 1).len(),
            16,
            "the stamp at least"
        );
        assert!(due(b"short", clock).is_err());
        assert!(due(b"0000000000000x00", clock).is_err());
    }
}
