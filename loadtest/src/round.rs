//! One round: the clients of one workload against one target, for one warm-up and one measurement.

use std::{
    collections::BTreeMap,
    io::{Write as _, stderr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    connection::Connection,
    endpoint::Target,
    pace::{Clock, Pace},
    process::{Process, Usage},
    run::Subject,
    stats::{Figures, Latencies},
    workload::{self, Script, Shape, Workload},
};

/// What every round of a run has in common.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Requests a second: an open loop.
    pub(crate) rate: Option<f64>,
    /// At most so many requests in a round.
    pub(crate) most: Option<u64>,
    /// How long an answer may be awaited after the end.
    pub(crate) patience: Duration,
    pub(crate) shape: Shape,
    /// In the watch workload.
    pub(crate) watchers: usize,
    /// In the cluster workload.
    pub(crate) nodes: usize,
}

/// Latencies by kind of request.
pub(crate) type ByKind = BTreeMap<&'static str, Latencies>;

/// What a round counted and timed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kinds: ByKind,
    pub(crate) unsent: u64,
    pub(crate) errors: u64,
    /// What went wrong first, where it did not end the run.
    first_error: Option<anyhow::Error>,
}

impl Tally {
    pub(crate) fn failed(&mut self, error: anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }

    pub(crate) fn record(&mut self, kind: &'static str, latency: Duration) {
        self.kinds.entry(kind).or_default().record(latency);
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (kind, latencies) in &other.kinds {
            self.kinds.entry(kind).or_default().add(latencies);
        }
        self.errors += other.errors;
        if let (None, Some(error)) = (&self.first_error, other.first_error) {
            self.first_error = Some(error);
        }
    }
}

/// Runs one round.
///
/// # Errors
/// Where a request fails or an answer is wrong.
pub(crate) async fn round(subject: &Subject, workload: Workload, load: &Load) -> Result<Figures> {
    let connections = connect(&subject.target, load.connections).await?;
    let first = connections.first().context("no connection")?;
    let mut load = load.clone();
    if workload == Workload::Cluster {
        // A client writes for the nodes that it is dealt.
        load.shape.keyspace.keys = load.nodes.div_ceil(load.clients).max(1);
    }
    workload::prepare(workload, load.shape, load.clients, first).await?;
    let load = &load;
    if workload == Workload::Cluster {
        return workload::cluster_round(&connections, load, subject).await;
    }
    if workload == Workload::Watch {
        return workload::watch_round(&connections, load, &subject.processes).await;
    }
    if workload == Workload::WatchDelay {
        return workload::delay_round(&connections, load, &subject.processes).await;
    }
    let mut scripts = Vec::new();
    for (client, connection) in (0..load.clients).zip(connections.iter().cycle()) {
        let script = workload::script(workload, load.shape, client, connection).await?;
        scripts.push((script, connection.clone()));
    }
    drive(scripts, load, subject).await
}

pub(crate) async fn connect(target: &Target, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(&target.endpoint).await?);
    }
    Ok(connections)
}

async fn drive(
    scripts: Vec<(Box<dyn Script>, Connection)>,
    load: &Load,
    subject: &Subject,
) -> Result<Figures> {
    let clock = Clock::new(Instant::now(), load.warmup, load.duration);
    let pace = Pace::new(clock, load.rate, load.most);
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for (script, connection) in scripts {
        let (pace, done) = (Arc::clone(&pace), Arc::clone(&done));
        let lenient = subject.lenient;
        clients.spawn(async move {
            let client = Client {
                script,
                connection,
                lenient,
            };
            client.work(&pace, clock, &done).await
        });
    }
    let mut tally = Tally::default();
    sleep_until(clock.begin).await;
    let meter = Meter::start(&subject.processes, done.load(Ordering::Relaxed))?;
    // The clients may be ready before the time is, where their number of requests is bounded.
    let early = timeout_at(clock.end, gather(&mut clients, &mut tally)).await;
    let mut figures = meter.stop(done.load(Ordering::Relaxed))?;
    match early {
        Ok(result) => result?,
        Err(_) => {
            let late =
                timeout_at(clock.end + load.patience, gather(&mut clients, &mut tally)).await;
            late.unwrap_or_else(|_| bail!("an answer is missing"))?;
        }
    }
    for wait in pace.unsent() {
        tally.record("unsent", wait);
        tally.unsent += 1;
    }
    if let Some(error) = &tally.first_error {
        let (name, count) = (&subject.target.name, tally.errors);
        // Nothing depends on its being read.
        drop(writeln!(
            stderr(),
            "{name}: {count} errors, the first: {error:#}"
        ));
    }
    describe(&tally, &mut figures);
    Ok(figures)
}

/// Adds up what the clients saw, until the last has ended.
async fn gather(clients: &mut JoinSet<Result<Tally>>, tally: &mut Tally) -> Result<()> {
    while let Some(client) = clients.join_next().await {
        tally.add(client.context("a client's task")??);
    }
    Ok(())
}

/// One client, with one request at a time.
pub(crate) struct Client {
    pub(crate) script: Box<dyn Script>,
    pub(crate) connection: Connection,
    /// What goes wrong is counted, and the client goes on.
    pub(crate) lenient: bool,
}

impl Client {
    async fn work(mut self, pace: &Pace, clock: Clock, done: &AtomicU64) -> Result<Tally> {
        let mut tally = Tally::default();
        while let Some(due) = pace.next().await {
            let (kind, answered) = self.ask().await;
            let took = due.elapsed();
            let checked = answered.and_then(|answer| self.look_at(kind, answer));
            match checked {
                Ok(()) => {
                    done.fetch_add(1, Ordering::Relaxed);
                    if clock.measures(due) {
                        tally.record(kind, took);
                    }
                }
                Err(error) if self.lenient => {
                    tally.failed(error);
                    self.relearn(pace).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(tally)
    }

    /// Sends the script's next request.
    pub(crate) async fn ask(&mut self) -> (&'static str, Result<Bytes>) {
        let request = self.script.request();
        let answer = self.connection.unary(request.rpc, request.frame).await;
        let kind = request.kind;
        (kind, answer.with_context(|| kind.to_owned()))
    }

    /// Looks at the answer.
    pub(crate) fn look_at(&mut self, kind: &'static str, answer: Bytes) -> Result<()> {
        let answered = self.script.answer(answer);
        answered.with_context(|| format!("the answer to a {kind}"))
    }

    /// After a request whose outcome nobody knows: where does everything stand?
    pub(crate) async fn relearn(&mut self, pace: &Pace) {
        while !pace.is_over() && self.script.relearn(&self.connection).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Puts a tally into figures.
pub(crate) fn describe(tally: &Tally, figures: &mut Figures) {
    let mut all = Latencies::default();
    for (kind, latencies) in &tally.kinds {
        all.add(latencies);
        describe_kind(&format!("/{kind}"), latencies, figures);
    }
    describe_kind("", &all, figures);
    #[expect(clippy::cast_precision_loss, reason = "a count of one round")]
    {
        figures.insert("unsent".to_owned(), tally.unsent as f64);
        figures.insert("errors".to_owned(), tally.errors as f64);
    }
}

fn describe_kind(kind: &str, latencies: &Latencies, figures: &mut Figures) {
    let summary = latencies.summary();
    for (name, value) in [
        ("mean_us", summary.mean),
        ("p50_us", summary.p50),
        ("p90_us", summary.p90),
        ("p99_us", summary.p99),
        ("p999_us", summary.p999),
        ("max_us", summary.max),
    ] {
        figures.insert(format!("{name}{kind}"), value);
    }
}

/// What the processes use while something is measured.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    processes: &'a [Process],
    before: Vec<Usage>,
    count: u64,
    at: Instant,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(processes: &'a [Process], count: u64) -> Result<Self> {
        let before = processes.iter().map(Process::usage);
        Ok(Self {
            processes,
            before: before.collect::<Result<_>>()?,
            count,
            at: Instant::now(),
        })
    }

    /// Figures per request (or event) since then.
    pub(crate) fn stop(self, count: u64) -> Result<Figures> {
        let seconds = self.at.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of one round")]
        let count = count.saturating_sub(self.count) as f64;
        let mut figures = Figures::from([
            ("requests".to_owned(), count),
            ("seconds".to_owned(), seconds),
            ("rate".to_owned(), count / seconds),
        ]);
        for (process, before) in self.processes.iter().zip(&self.before) {
            let after = process.usage()?;
            let (name, used) = (&process.name, after.cpu_us - before.cpu_us);
            figures.insert(format!("cpu_us/{name}"), used / count);
            #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
            figures.insert(
                format!("rss_mib/{name}"),
                after.rss_bytes as f64 / 1_048_576.0,
            );
        }
        Ok(figures)
    }
}
