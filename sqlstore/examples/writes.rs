//! Measures a store on SQLite, without a network: writes at several concurrencies, lists and
//! counts at 100,000 keys, and how long writes stall while a compaction sweeps.
//!
//! `cargo run --release -p keyloom-sqlstore --example writes -- [FOLDER] [SECONDS] [KEYS]`.
//! The folder's disk is what is measured: a temporary one may be memory.

#![allow(clippy::print_stdout, reason = "the numbers are its purpose")]

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use keyloom_etcd_api::{
    Metadata, Rpc,
    etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, RangeResponse},
};
use keyloom_sqlstore::{Metrics, SqliteOptions, SqliteStore, SystemClock};
use keyloom_store::{Call, CallError, Lane, Store as _};
use prost::Message;
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const VALUE: usize = 512;

async fn ask(store: &SqliteStore, rpc: Rpc, request: &impl Message) -> Result<Bytes, CallError> {
    let lane = if rpc == Rpc::Range {
        Lane::Bulk
    } else {
        Lane::Unary
    };
    let message = request.encode_to_vec().into();
    store
        .call(Call {
            metadata: Metadata::default(),
            rpc,
            message,
            lane,
            deadline: None,
            idempotent: false,
        })
        .await
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/default/pod-{number:07}").into()
}

async fn put(store: &SqliteStore, number: u64) -> Result<(), CallError> {
    let value = vec![u8::try_from(number % 251).unwrap_or_default(); VALUE].into();
    let request = PutRequest {
        key: key(number),
        value,
        ..PutRequest::default()
    };
    ask(store, Rpc::Put, &request).await.map(drop)
}

/// Latencies of one run.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let place = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(place).copied().unwrap_or_default()
    }

    fn line(&mut self, name: &str, took: Duration) {
        let rate = self.0.len() as f64 / took.as_secs_f64();
        let [half, most, all] = [50, 99, 100].map(|percent| self.at(percent));
        println!(
            "{name:40} {rate:>9.0}/s   p50 {half:>10.3?}   p99 {most:>10.3?}   max {all:>10.3?}"
        );
    }
}

/// Writers that each write as soon as they were answered.
async fn write(
    store: &SqliteStore,
    writers: u64,
    until: impl Fn(u64) -> bool + Clone + Send + 'static,
    number: impl Fn(u64, u64) -> u64 + Clone + Send + 'static,
) -> Outcome<Latencies> {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, until, number) = (store.clone(), until.clone(), number.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for round in 0.. {
                    if until(round) {
                        break;
                    }
                    let began = Instant::now();
                    put(&store, number(writer, round)).await?;
                    latencies.push(began.elapsed());
                }
                Ok::<_, CallError>(latencies)
            })
        })
        .collect();
    let mut all = Latencies(Vec::new());
    for task in tasks {
        all.0.extend(task.await??);
    }
    Ok(all)
}

/// The same few thousand keys again and again, in no order.
fn scattered(writer: u64, round: u64) -> u64 {
    (writer * 7919 + round * 104_729) % 5000
}

async fn range(store: &SqliteStore, name: &str, request: RangeRequest) -> Outcome<()> {
    let mut latencies = Latencies(Vec::new());
    let began = Instant::now();
    let mut answer = Bytes::new();
    for _ in 0..50 {
        let began = Instant::now();
        answer = ask(store, Rpc::Range, &request).await?;
        latencies.0.push(began.elapsed());
    }
    let answer = RangeResponse::decode(answer)?;
    let name = format!("{name} ({} of {})", answer.kvs.len(), answer.count);
    latencies.line(&name, began.elapsed());
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let folder = arguments
        .next()
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let seconds = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let keys: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let path = folder.join(format!("bench-{}.db", std::process::id()));
    let options = SqliteOptions::new("bench", &path);
    let store = SqliteStore::open(options, Arc::new(SystemClock), &Metrics::default()).await?;

    for writers in [1, 16, 64, 256] {
        let began = Instant::now();
        let end = began + Duration::from_secs(seconds);
        let until = move |_| Instant::now() >= end;
        let mut latencies = write(&store, writers, until, scattered).await?;
        latencies.line(&format!("put, {writers} writers, FULL"), began.elapsed());
    }

    let each = keys / 256 + 1;
    let began = Instant::now();
    let fill = move |writer: u64, round: u64| writer * each + round;
    let mut latencies = write(&store, 256, move |round| round >= each, fill).await?;
    latencies.line("create, 256 writers", began.elapsed());
    let old = store.revision();
    let until = move |round| round >= 80;
    write(&store, 256, until, move |writer, round| {
        writer * each + round * 3 % each
    })
    .await?;

    let all = RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..Default::default()
    };
    range(
        &store,
        "list, latest",
        RangeRequest {
            limit: 500,
            ..all.clone()
        },
    )
    .await?;
    let middle = RangeRequest {
        key: key(keys / 2),
        limit: 500,
        ..all.clone()
    };
    range(&store, "list from the middle, latest", middle.clone()).await?;
    range(
        &store,
        "list, old revision",
        RangeRequest {
            revision: old,
            ..middle
        },
    )
    .await?;
    range(
        &store,
        "list, latest",
        RangeRequest {
            limit: 10_000,
            ..all.clone()
        },
    )
    .await?;
    let old_list = RangeRequest {
        limit: 10_000,
        revision: old,
        ..all.clone()
    };
    range(&store, "list, old revision", old_list).await?;
    range(
        &store,
        "count, latest",
        RangeRequest {
            count_only: true,
            ..all.clone()
        },
    )
    .await?;
    let old_count = RangeRequest {
        count_only: true,
        revision: old,
        ..all
    };
    range(&store, "count, old revision", old_count).await?;
    range(
        &store,
        "get",
        RangeRequest {
            key: key(77),
            ..Default::default()
        },
    )
    .await?;

    let compacting = tokio::spawn({
        let (store, revision) = (store.clone(), store.revision());
        async move {
            let began = Instant::now();
            let request = CompactionRequest {
                revision,
                physical: true,
            };
            ask(&store, Rpc::Compact, &request)
                .await
                .map(|_| (began.elapsed(), revision))
        }
    });
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let mut latencies = write(&store, 64, move |_| Instant::now() >= end, scattered).await?;
    latencies.line("put, 64 writers, while compacting", began.elapsed());
    let (took, revision) = compacting.await??;
    println!("compacted {revision} revisions in {took:.3?}");
    store.close().await;
    println!(
        "database: {} MB",
        std::fs::metadata(&path)?.len() / 1_000_000
    );
    std::fs::remove_file(&path)?;
    let mut lock = path.into_os_string();
    lock.push(".lock");
    std::fs::remove_file(lock)?;
    Ok(())
}
