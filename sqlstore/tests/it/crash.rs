//! Kill -9 at random moments, and write-ahead logs whose end is lost or garbled.
//!
//! What is promised: what was acknowledged is there after any kill. Where the disk itself lost
//! the end of the log, which `synchronous=FULL` has it deny, everything up to the first damaged
//! page of the log is there, whole transactions only, and revisions go on from there.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, RangeRequest, WatchCreateRequest,
        WatchProgressRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use keyloom_sqlstore::{Metrics, OpenError, SqliteOptions, SqliteStore, SystemClock};
use keyloom_store::Store as _;
use keyloom_testkit::program::Chance;
use prost::Message as _;

use crate::support::{Place, all, call, list, put};

const DATABASE: &str = "KEYLOOM_CRASH_DATABASE";
const WRITERS: usize = 16;

/// How many revisions the children leave when they compact.
const KEPT: i64 = 1600;

/// A store that was dropped without being closed keeps its file a moment longer.
async fn open(path: &Path) -> SqliteStore {
    loop {
        let options = SqliteOptions::new("crash", path);
        match SqliteStore::open(options, Arc::new(SystemClock), &Metrics::default()).await {
            Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

/// Not a test by itself: the process that is killed. Writes for ever, and says what was
/// acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(path) = std::env::var(DATABASE) else {
        return;
    };
    let store = open(Path::new(&path)).await;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = format!("/w/{writer:02}");
            let mut number = last(&store, &key).await;
            loop {
                number += 1;
                // Sometimes several pages.
                let value = format!("{number}:{}", "v".repeat((number % 7 * 900) as usize));
                let revision = put(&store, &key, &value).await.unwrap();
                let line = format!("ack {writer} {number} {revision}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                if revision % 500 == 0 && revision > KEPT {
                    let compact = CompactionRequest {
                        revision: revision - KEPT,
                        physical: false,
                    };
                    // Another one may have been faster.
                    let _done: Result<CompactionResponse, _> =
                        call(&store, Rpc::Compact, &compact).await;
                }
            }
        })
    });
    futures_util::future::join_all(writers).await;
}

async fn last(store: &SqliteStore, key: &str) -> i64 {
    let request = RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..RangeRequest::default()
    };
    list(store, request)
        .await
        .kvs
        .first()
        .map_or(0, |kv| number(&kv.value))
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value)
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// What a child acknowledged before it was killed: by revision, who and what.
fn killed_child(path: &Path, acknowledgements: usize) -> BTreeMap<i64, (usize, i64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture"])
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = BTreeMap::new();
    let mut line = String::new();
    // What is in the pipe when the child is killed was acknowledged too.
    while lines.read_line(&mut line).unwrap() > 0 {
        if let Some(ack) = line
            .strip_suffix('\n')
            .and_then(|line| line.split_once("ack "))
        {
            let numbers: Vec<i64> = ack.1.split(' ').map(|part| part.parse().unwrap()).collect();
            let what = (usize::try_from(numbers[0]).unwrap(), numbers[1]);
            assert_eq!(
                acknowledged.insert(numbers[2], what),
                None,
                "a revision given twice"
            );
            if acknowledged.len() == acknowledgements {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    acknowledged
}

/// Every event from a revision on.
async fn events(store: &SqliteStore, from: i64) -> Vec<Event> {
    if from > store.revision() {
        // Nothing is there, and no progress is told before a watch begins (`progressIfSync` in etcd's
        // `server/storage/mvcc/watchable_store.go`).
        return Vec::new();
    }
    let requests = [
        RequestUnion::CreateRequest(WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: from,
            ..WatchCreateRequest::default()
        }),
        RequestUnion::ProgressRequest(WatchProgressRequest {}),
    ];
    let requests = requests.map(|request| {
        Bytes::from(
            WatchRequest {
                request_union: Some(request),
            }
            .encode_to_vec(),
        )
    });
    let requests = futures_util::stream::iter(requests).chain(futures_util::stream::pending());
    let mut answers = store.stream(Rpc::Watch, requests.boxed()).await.unwrap();
    let mut events = Vec::new();
    loop {
        let answer = WatchResponse::decode(answers.next().await.unwrap().unwrap()).unwrap();
        assert!(!answer.canceled);
        if answer.watch_id == -1 {
            return events;
        }
        events.extend(answer.events);
    }
}

/// The history since `from` has every revision once, in order, up to the head.
async fn check_history(store: &SqliteStore, from: i64) -> BTreeMap<i64, (Bytes, i64)> {
    let events = events(store, from).await;
    let mut history = BTreeMap::new();
    for event in events {
        let kv = event.kv.unwrap();
        assert!(
            history
                .insert(kv.mod_revision, (kv.key, number(&kv.value)))
                .is_none()
        );
    }
    let revisions: Vec<i64> = history.keys().copied().collect();
    assert_eq!(revisions, (from..=store.revision()).collect::<Vec<_>>());
    history
}

/// `KEYLOOM_KILLS` makes it longer.
#[tokio::test]
async fn no_acknowledged_write_is_lost_by_kill_9() {
    let kills: usize = std::env::var("KEYLOOM_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let place = Place::new();
    let mut chance = Chance::new(11);
    let (mut highest, mut total) = (1, 0);
    for kill in 0..kills {
        let path = place.path();
        let acknowledgements = 1 + chance.below(if kill % 4 == 0 { 3 } else { 1500 });
        let killed = tokio::task::spawn_blocking(move || killed_child(&path, acknowledgements));
        let acknowledged = killed.await.unwrap();
        total += acknowledged.len();
        let first = acknowledged
            .first_key_value()
            .map_or(highest + 1, |(first, _)| *first);
        assert!(
            first > highest,
            "{first} was given out before, up to {highest}"
        );

        let store = open(&place.path()).await;
        let from = (store.revision() - KEPT).max(2);
        let history = check_history(&store, from).await;
        for (revision, (writer, number)) in acknowledged.range(from..) {
            let key = Bytes::from(format!("/w/{writer:02}"));
            assert_eq!(history.get(revision), Some(&(key, *number)), "kill {kill}");
        }
        let latest: BTreeMap<usize, i64> =
            acknowledged
                .values()
                .fold(BTreeMap::new(), |mut latest, (writer, number)| {
                    latest.insert(*writer, *number);
                    latest
                });
        for (writer, number) in latest {
            assert!(
                last(&store, &format!("/w/{writer:02}")).await >= number,
                "kill {kill}"
            );
        }
        highest = store.revision();
        if kill % 3 == 0 {
            store.close().await;
        } else {
            // As after a crash of the checker, too: nothing is tidied up.
            drop(store);
        }
    }
    println!("{kills} kills, {total} acknowledged writes, revision {highest}");
}

/// The log is cut or garbled at any place: whole transactions up to there.
#[tokio::test]
async fn a_torn_log_keeps_everything_before_the_tear() {
    let place = Place::new();
    let store = place.open().await;
    let log = place.folder().join("state.db-wal");
    let mut lengths = vec![(1, fs::metadata(&log).unwrap().len())];
    for number in 1..=60 {
        let value = format!("{number}:{}", "v".repeat(number % 5 * 3000));
        let revision = put(&store, &format!("/k/{}", number % 9), &value)
            .await
            .unwrap();
        lengths.push((revision, fs::metadata(&log).unwrap().len()));
    }
    let files = [fs::read(place.path()).unwrap(), fs::read(&log).unwrap()];
    store.close().await;
    let mut chance = Chance::new(5);
    for round in 0..60 {
        let torn = Place::new();
        let cut = chance.below(files[1].len());
        let mut log = files[1].clone();
        match round % 3 {
            0 => log.truncate(cut),
            1 => log[cut..].fill(0),
            _ => log[cut] ^= 0x40,
        }
        fs::write(torn.path(), &files[0]).unwrap();
        fs::write(torn.folder().join("state.db-wal"), log).unwrap();
        let whole = lengths
            .iter()
            .rev()
            .find(|(_, length)| *length <= cut as u64);
        let Some((expected, _)) = whole else { continue };
        let store = torn.open().await;
        assert!(store.revision() >= *expected, "round {round} at {cut}");
        let history = check_history(&store, 2).await;
        for (revision, (key, number)) in &history {
            assert_eq!(
                (*revision, &key[..]),
                (number + 1, format!("/k/{}", number % 9).as_bytes())
            );
        }
        assert_eq!(
            list(&store, all()).await.count,
            store.revision().saturating_sub(1).min(9)
        );
        let next = store.revision() + 1;
        assert_eq!(put(&store, "/k/1", "1:").await.unwrap(), next);
        store.close().await;
    }
}
