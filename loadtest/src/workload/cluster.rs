//! A Kubernetes cluster of so many nodes, as its kube-apiserver meets its etcd: the writes and reads
//! of [`Mix`](super::mix) at the rate of the nodes, the apiserver's watches of everything that is
//! written, and consistent reads from its watch cache, which ask for progress every 100 ms until the
//! watch has come to where the store was when they began.
//!
//! Every write must reach the watches once and in order, and every consistent read must end.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use keyloom_etcd_api::{etcdserverpb::WatchResponse, wire::peek_header};
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

use super::{
    Workload,
    delivery::{Deliveries, open, revision},
    script,
};
use crate::{
    connection::{Connection, Streams},
    keyspace::Resource,
    pace::{Clock, Pace},
    request::progress,
    round::{Client, Load, Meter, Tally, describe},
    run::Subject,
    stats::Figures,
};

/// Requests a second of a node and what runs on it: its heartbeat every 10 s is not half of them.
pub(crate) const OF_A_NODE: f64 = 0.2;

/// How often kube-apiserver asks for progress while somebody waits.
const PROGRESS: Duration = Duration::from_millis(100);

/// What the tasks of a round share.
#[derive(Debug)]
struct ClusterRound {
    clock: Clock,
    patience: Duration,
    /// The highest revision of a write that was acknowledged.
    newest: AtomicI64,
    deliveries: Deliveries,
}

/// Runs one round.
///
/// # Errors
/// Where an answer is wrong or missing, and where an event is.
pub(crate) async fn cluster_round(
    connections: &[Connection],
    load: &Load,
    subject: &Subject,
) -> Result<Figures> {
    let first = connections.first().context("no connection")?;
    let mut scripts = Vec::new();
    for (client, connection) in (0..load.clients).zip(connections.iter().cycle()) {
        let script = script(Workload::Mix, load.shape, client, connection).await?;
        scripts.push((script, connection.clone()));
    }
    let start = revision(first).await? + 1;
    let mut streams = Vec::new();
    for resource in [Resource::Singles, Resource::Events] {
        streams.push(open(first, resource, start).await?);
    }
    let shared = Arc::new(ClusterRound {
        clock: Clock::new(Instant::now(), load.warmup, load.duration),
        patience: load.patience,
        newest: AtomicI64::new(0),
        deliveries: Deliveries::default(),
    });
    let mut watches = JoinSet::new();
    for stream in streams {
        watches.spawn(follow(stream, Arc::clone(&shared)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of nodes")]
    let rate = load.rate.unwrap_or(load.nodes as f64 * OF_A_NODE);
    let pace = Pace::new(shared.clock, Some(rate), load.most);
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for (script, connection) in scripts {
        let (pace, shared, done) = (Arc::clone(&pace), Arc::clone(&shared), Arc::clone(&done));
        let client = Client {
            script,
            connection,
            lenient: false,
        };
        clients.spawn(work(client, pace, shared, done));
    }
    sleep_until(shared.clock.begin).await;
    let meter = Meter::start(&subject.processes, done.load(Ordering::Relaxed))?;
    sleep_until(shared.clock.end).await;
    let mut figures = meter.stop(done.load(Ordering::Relaxed))?;
    let mut tally = Tally::default();
    let answers = async {
        while let Some(client) = clients.join_next().await {
            tally.add(client.context("a client's task")??);
        }
        anyhow::Ok(())
    };
    timeout_at(shared.clock.end + load.patience, answers)
        .await
        .context("an answer is missing")??;
    // Each write is of one of the two resources that are watched.
    let deliveries = &shared.deliveries;
    deliveries
        .complete(1, shared.patience, &mut watches)
        .await?;
    while let Some(ended) = watches.join_next().await {
        tally.add(ended.context("a watch's task")??);
    }
    for wait in pace.unsent() {
        tally.record("unsent", wait);
        tally.unsent += 1;
    }
    describe(&tally, &mut figures);
    Ok(figures)
}

async fn work(
    mut client: Client,
    pace: Arc<Pace>,
    shared: Arc<ClusterRound>,
    done: Arc<AtomicU64>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    while let Some(due) = pace.next().await {
        let (kind, answer) = client.ask().await;
        let answer = answer?;
        let took = due.elapsed();
        let header = peek_header(&answer)?.context("an answer without a header")?;
        client.look_at(kind, answer)?;
        // Each of these writes one key.
        if matches!(kind, "update" | "create" | "delete") {
            shared.newest.fetch_max(header.revision, Ordering::Relaxed);
            shared.deliveries.wrote();
        }
        done.fetch_add(1, Ordering::Relaxed);
        if shared.clock.measures(due) {
            tally.record(kind, took);
        }
    }
    Ok(tally)
}

/// A consistent read that waits for the watch to come to a revision.
#[derive(Clone, Copy, Debug)]
struct Waits {
    since: Instant,
    revision: i64,
}

async fn follow(mut stream: Streams, shared: Arc<ClusterRound>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut ticks = interval(PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut waits) = (0, None);
    loop {
        tokio::select! {
            answer = stream.next() => {
                let at = look_at(&WatchResponse::decode(answer?)?, &mut last, &shared)?;
                waits = arrived(waits, at, &shared, &mut tally);
            }
            _ = ticks.tick() => {
                let read: &mut Waits = waits.get_or_insert_with(|| Waits {
                    since: Instant::now(),
                    revision: shared.newest.load(Ordering::Relaxed),
                });
                let waited = read.since.elapsed();
                ensure!(waited < shared.patience, "no progress for {waited:?}");
                stream.send(progress())?;
            }
            () = shared.deliveries.over() => return Ok(tally),
        }
    }
}

/// Up to which revision the watch has everything now.
fn look_at(answer: &WatchResponse, last: &mut i64, shared: &ClusterRound) -> Result<i64> {
    shared.deliveries.take(answer, last)?;
    if !answer.events.is_empty() {
        return Ok(*last);
    }
    let header = answer.header.as_ref().context("no header")?;
    ensure!(
        header.revision >= *last,
        "progress at {} after an event at {last}",
        header.revision
    );
    // Everything up to there was delivered: nothing at or below it may come any more.
    *last = header.revision;
    Ok(header.revision)
}

/// What still waits after the watch has come to a revision.
fn arrived(
    waits: Option<Waits>,
    at: i64,
    shared: &ClusterRound,
    tally: &mut Tally,
) -> Option<Waits> {
    let read = waits.filter(|read| at >= read.revision);
    if let Some(read) = read
        && shared.clock.measures(read.since)
    {
        tally.record("consistent read", read.since.elapsed());
    }
    if read.is_some() { None } else { waits }
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::{
        etcdserverpb::ResponseHeader,
        mvccpb::{Event, KeyValue},
    };

    use super::*;

    fn shared() -> ClusterRound {
        ClusterRound {
            clock: Clock::new(Instant::now(), Duration::ZERO, Duration::from_secs(60)),
            patience: Duration::ZERO,
            newest: AtomicI64::new(0),
            deliveries: Deliveries::default(),
        }
    }

    fn message(header: i64, events: &[i64]) -> WatchResponse {
        let event = |revision: &i64| Event {
            kv: Some(KeyValue {
                mod_revision: *revision,
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader {
                revision: header,
                ..ResponseHeader::default()
            }),
            events: events.iter().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn events_come_once_and_in_order_and_progress_behind_them() {
        let (shared, mut last) = (shared(), 0);
        // A header may run ahead of the events: they say where the watch is.
        assert_eq!(
            look_at(&message(9, &[3, 4]), &mut last, &shared).unwrap(),
            4
        );
        assert_eq!(look_at(&message(7, &[]), &mut last, &shared).unwrap(), 7);
        assert!(
            look_at(&message(9, &[4]), &mut last, &shared).is_err(),
            "twice"
        );
        assert!(
            look_at(&message(3, &[]), &mut last, &shared).is_err(),
            "back"
        );
        assert_eq!(shared.deliveries.delivered(), 2);
    }

    #[test]
    fn a_consistent_read_waits_for_its_revision() {
        let (shared, mut tally) = (shared(), Tally::default());
        let read = Waits {
            since: Instant::now(),
            revision: 5,
        };
        assert!(arrived(Some(read), 4, &shared, &mut tally).is_some());
        assert!(tally.kinds.is_empty());
        assert!(arrived(Some(read), 5, &shared, &mut tally).is_none());
        assert_eq!(tally.kinds["consistent read"].summary().count, 1);
    }
}
