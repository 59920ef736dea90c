//! What writers notice of a compaction.
//!
//! Writers send at a rate, whether they are answered or not, so that a stall is in the latency of
//! every write that was due in it. First without, then until the compaction says that it is done.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use keyloom_etcd_api::{Rpc, etcdserverpb::CompactionRequest};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use super::{
    database::Database,
    fill::{Pass, write},
};
use crate::{
    connection::framed,
    pace::{Clock, Pace},
    round::{Client, Load, Meter, Tally, describe},
    run::Outcome,
    stats::Figures,
    workload::{self, Workload},
};

/// No compaction takes longer.
const LONGEST: Duration = Duration::from_secs(600);

/// What there is to sweep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    pub(super) objects: usize,
    /// Superseded versions of each, in one compaction.
    pub(super) versions: usize,
}

/// Fills the databases, and compacts each in turn, round by round.
pub(super) async fn measure(
    databases: &mut [Database],
    swept: Swept,
    rounds: usize,
    load: &Load,
) -> Result<Outcome> {
    let names = databases.iter().map(|each| each.kind.name().to_owned());
    let mut outcome = Outcome {
        workload: "writes while compacting".to_owned(),
        clients: load.clients,
        targets: names.map(|name| (name, Vec::new())).collect(),
    };
    let mut versions = 0..;
    let (size, objects) = (load.shape.keyspace.value_size, swept.objects);
    for _ in 0..rounds {
        let fresh: Vec<usize> = versions.by_ref().take(swept.versions).collect();
        for (database, (name, rounds)) in databases.iter_mut().zip(&mut outcome.targets) {
            let figures = async {
                let mut revision = 0;
                for &version in &fresh {
                    let pass = Pass {
                        objects,
                        every: 1,
                        version,
                        size,
                    };
                    revision = write(database, pass).await?;
                }
                round(database, revision, load).await
            };
            let figures = figures
                .await
                .with_context(|| format!("compacting {name}"))?;
            rounds.push(figures);
            // It may still be busy with what it was asked for: not while another is measured.
            database.stop();
        }
    }
    Ok(outcome)
}

/// A write: when it was due, and how long it took; none where it failed.
type Sample = (Instant, Option<Duration>);

async fn round(database: &Database, revision: i64, load: &Load) -> Result<Figures> {
    let subject = database.subject()?;
    let connection = database.connect().await?;
    workload::prepare(Workload::Update, load.shape, load.clients, &connection).await?;
    let pace = Pace::new(
        Clock::new(Instant::now(), Duration::ZERO, LONGEST),
        load.rate,
        None,
    );
    let (samples, mut taken) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for number in 0..load.clients {
        let connection = database.connect().await?;
        let script = workload::script(Workload::Update, load.shape, number, &connection).await?;
        let writer = Client {
            script,
            connection,
            lenient: subject.lenient,
        };
        writers.spawn(work(writer, Arc::clone(&pace), samples.clone()));
    }
    drop(samples);
    sleep(load.warmup).await;
    let quiet = Instant::now();
    sleep(load.duration).await;
    let mib = database.mib()?;
    let meter = Meter::start(&subject.processes, 0)?;
    let began = Instant::now();
    compact(&connection, revision).await?;
    let ended = Instant::now();
    let compacting = meter.stop(1)?;
    // A write that was due just before the end shows its stall only after it.
    sleep(load.warmup).await;
    pace.end();
    while let Some(writer) = writers.join_next().await {
        writer.context("a writer's task")??;
    }
    let mut all = Vec::new();
    while let Some(sample) = taken.recv().await {
        all.push(sample);
    }
    let mut figures = figures(&all, quiet, began, ended);
    let cpu = compacting
        .into_iter()
        .filter(|(name, _)| name.starts_with("rss_mib"));
    figures.extend(cpu);
    figures.insert("mib_before".to_owned(), mib);
    figures.insert("mib_after".to_owned(), database.mib()?);
    Ok(figures)
}

async fn work(
    mut writer: Client,
    pace: Arc<Pace>,
    samples: mpsc::UnboundedSender<Sample>,
) -> Result<()> {
    while let Some(due) = pace.next().await {
        let (kind, answer) = writer.ask().await;
        let took = due.elapsed();
        match answer.and_then(|answer| writer.look_at(kind, answer)) {
            Ok(()) => samples.send((due, Some(took)))?,
            Err(_) if writer.lenient => {
                samples.send((due, None))?;
                writer.relearn(&pace).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sweeps everything that is superseded at a revision, and answers when that is done.
async fn compact(connection: &crate::connection::Connection, revision: i64) -> Result<()> {
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    let answer = connection.unary(Rpc::Compact, framed(&request)).await;
    answer.map(drop).context("compacting")
}

/// The latencies of the writes that were due while the compaction went on, beside those before.
fn figures(samples: &[Sample], quiet: Instant, began: Instant, ended: Instant) -> Figures {
    let within = |from: Instant, to: Instant| {
        let mut tally = Tally::default();
        for (due, took) in samples.iter().filter(|(due, _)| *due >= from && *due < to) {
            match took {
                Some(took) => tally.record("update", *took),
                None => tally.failed(anyhow::anyhow!("a write at {due:?}")),
            }
        }
        let mut figures = Figures::new();
        describe(&tally, &mut figures);
        figures
    };
    let mut figures = within(began, ended);
    let before = within(quiet, began);
    for name in ["p50_us", "p99_us", "max_us"] {
        let value = before.get(name).copied().unwrap_or_default();
        figures.insert(format!("{name}/before"), value);
    }
    let took = ended.duration_since(began).as_secs_f64();
    figures.insert("compaction_s".to_owned(), took);
    #[expect(clippy::cast_precision_loss, reason = "a count of one round")]
    let writes = samples
        .iter()
        .filter(|(due, _)| *due >= began && *due < ended)
        .count() as f64;
    figures.insert("rate".to_owned(), writes / took);
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_that_of_the_writes_due_in_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let took = |ms| Some(Duration::from_millis(ms));
        let samples = [
            (at(0), took(500)),
            (at(10), took(1)),
            (at(20), took(30)),
            (at(21), None),
            (at(29), took(50)),
            (at(30), took(900)),
        ];
        let figures = figures(&samples, at(10), at(20), at(30));
        let near = |name: &str, ms: f64| (figures[name] / 1000.0 / ms - 1.0).abs() < 0.01;
        assert!(
            near("max_us", 50.0) && near("max_us/before", 1.0),
            "{figures:?}"
        );
        assert!((figures["errors"] - 1.0).abs() < f64::EPSILON);
        assert!((figures["compaction_s"] - 0.01).abs() < 1e-9);
    }
}
