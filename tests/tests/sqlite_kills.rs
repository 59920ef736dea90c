//! kill -9 of the program at random moments under write load, and what is then in its file: no
//! acknowledged write is lost, no revision is reused or skipped, watches resume exactly.
//!
//! `KEYLOOM_KILLS` says how often: a test of every day can afford a few.

use std::{collections::BTreeMap, env, fs, path::Path};

use keyloom_etcd_api::{
    etcdserverpb::{
        CompactionRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest,
        watch_request::RequestUnion,
    },
    mvccpb::KeyValue,
};
use keyloom_testkit::program::Chance;
use keyloom_tests::{Client, Keyloom, duel::seed, stage::range};
use tokio::sync::mpsc;

const WRITERS: usize = 8;

/// How many revisions are kept when a round compacts.
const KEPT: i64 = 300;

/// A log this long may have been moved into the database in part, and may then lose only what was
/// not: no disk that keeps what it was told to keep loses more.
const CHECKPOINTED: u64 = 8 << 20;

/// A write that was answered: revision, writer, and the writer's own count.
type Acknowledged = (i64, usize, u64);

fn key(writer: usize) -> String {
    format!("/registry/w/{writer}")
}

fn value(writer: usize, count: u64) -> String {
    // Sometimes several pages.
    let filling = usize::try_from(count % 7).expect("small") * 900;
    format!("{writer}:{count}:{}", "v".repeat(filling))
}

/// Writes until the endpoint is gone, and tells what was answered.
async fn write(
    client: Client,
    writer: usize,
    mut count: u64,
    told: mpsc::Sender<Acknowledged>,
) -> u64 {
    loop {
        count += 1;
        let request = PutRequest {
            key: key(writer).into(),
            value: value(writer, count).into(),
            ..PutRequest::default()
        };
        let Ok(answer) = client.kv().put(request).await else {
            // Whether it was written is not known: its number is not used again.
            return count;
        };
        let revision = answer.into_inner().header.expect("a header").revision;
        if told.send((revision, writer, count)).await.is_err() {
            return count;
        }
    }
}

/// What a watch over everything has seen: an event for each revision, and none but once.
#[derive(Default)]
struct Seen {
    last: i64,
    by_revision: BTreeMap<i64, KeyValue>,
}

/// Watches from where the one before ended, until the endpoint is gone or `enough` is reached.
async fn watch(client: Client, mut seen: Seen, enough: Option<i64>) -> Seen {
    let create = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: seen.last + 1,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let (requests, sent) = mpsc::channel(1);
    requests.send(request).await.expect("the receiver is here");
    let sent = futures_util::stream::unfold(sent, |mut sent| async move {
        sent.recv().await.map(|request| (request, sent))
    });
    let Ok(answers) = client.watch().watch(sent).await else {
        return seen;
    };
    let mut answers = answers.into_inner();
    while enough.is_none_or(|enough| seen.last < enough) {
        let Ok(Some(answer)) = answers.message().await else {
            break;
        };
        assert!(!answer.canceled, "{answer:?}");
        for event in answer.events {
            let kv = event.kv.expect("a key");
            assert_eq!(
                kv.mod_revision,
                seen.last + 1,
                "a revision is missing, or here again"
            );
            seen.last += 1;
            seen.by_revision.insert(seen.last, kv);
        }
    }
    drop(requests);
    seen
}

/// Makes keys that are never written again, of a few classes, until the endpoint is gone.
async fn make_keys(client: Client, mut chance: Chance) {
    loop {
        let (class, name) = (chance.below(5), chance.next_number());
        let request = PutRequest {
            key: format!("/registry/made-{class}/{name:x}").into(),
            value: "v".repeat(chance.below(50)).into(),
            ..PutRequest::default()
        };
        if client.kv().put(request).await.is_err() {
            return;
        }
    }
}

/// The counts that are kept are those of a look at every key.
async fn check_counts(keyloom: &Keyloom) {
    let all = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..RangeRequest::default()
    };
    let found = range(&keyloom.client(), all.clone()).await.expect("a list");
    let mut classes = BTreeMap::<_, (usize, usize)>::new();
    for kv in &found.kvs {
        let key = std::str::from_utf8(&kv.key).expect("a key of this test");
        let (class, _) = key.rsplit_once('/').expect("a name");
        let class = classes.entry(class.to_owned()).or_default();
        *class = (class.0 + 1, class.1 + key.len() + kv.value.len());
    }
    let line = |(class, (keys, bytes))| format!("default\t{class}/\t{keys}\t{bytes}\n");
    let expected: String = classes.into_iter().map(line).collect();
    assert_eq!(keyloom.admin("/usage").await, (200, expected));
    let middle = found.kvs[found.kvs.len() / 2].key.clone();
    for (key, range_end) in [(all.key, middle.clone()), (middle, all.range_end)] {
        let part = RangeRequest {
            key,
            range_end,
            ..RangeRequest::default()
        };
        let listed = range(&keyloom.client(), part.clone())
            .await
            .expect("a list");
        let counted = RangeRequest {
            count_only: true,
            ..part
        };
        let counted = range(&keyloom.client(), counted).await.expect("a count");
        assert_eq!(Ok(counted.count), i64::try_from(listed.kvs.len()));
    }
}

fn kills(usual: usize) -> usize {
    env::var("KEYLOOM_KILLS").map_or(usual, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kills_of_the_program() {
    let kills = kills(6);
    let mut chance = Chance::new(seed(311));
    let mut keyloom = Keyloom::alone().await;
    let mut counts = [0; WRITERS];
    let mut seen = Seen {
        last: 1,
        ..Seen::default()
    };
    let mut total = 0;
    for kill in 0..kills {
        let acknowledged = round(&mut keyloom, &mut counts, &mut seen, &mut chance).await;
        total += acknowledged.len();
        if chance.below(3) == 0 {
            torn_log(&keyloom, &seen, &mut chance).await;
        }
        keyloom.start_again().await;
        let client = keyloom.client();
        let head = client.revision().await;
        // From where the client was when it was cut off.
        seen = watch(client.clone(), seen, Some(head)).await;
        assert_eq!(seen.last, head, "kill {kill}");
        check(&client, &acknowledged, &seen).await;
        check_counts(&keyloom).await;
        if head > 2 * KEPT {
            let request = CompactionRequest {
                revision: head - KEPT,
                physical: chance.below(2) == 0,
            };
            client.kv().compact(request).await.expect("a compaction");
        }
    }
    println!(
        "{kills} kills, {total} acknowledged writes, revision {}",
        seen.last
    );
}

/// Writes and watches until some writes are acknowledged, and kills the program in the midst of it.
async fn round(
    keyloom: &mut Keyloom,
    counts: &mut [u64; WRITERS],
    seen: &mut Seen,
    chance: &mut Chance,
) -> Vec<Acknowledged> {
    let (told, mut hear) = mpsc::channel(1024);
    let writers: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(writer, count)| tokio::spawn(write(keyloom.client(), writer, *count, told.clone())))
        .collect();
    drop(told);
    let more = Chance::new(chance.next_number());
    let making = tokio::spawn(make_keys(keyloom.client(), more));
    let watching = tokio::spawn(watch(keyloom.client(), std::mem::take(seen), None));
    let wanted = 1 + chance.below(600);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < wanted {
        acknowledged.push(hear.recv().await.expect("writers write until the kill"));
    }
    keyloom.kill().await;
    // What was on its way was acknowledged too.
    while let Some(more) = hear.recv().await {
        acknowledged.push(more);
    }
    for (count, writer) in counts.iter_mut().zip(writers) {
        *count = writer.await.expect("a writer");
    }
    making.await.expect("who makes keys");
    *seen = watching.await.expect("the watch");
    acknowledged
}

async fn check(client: &Client, acknowledged: &[Acknowledged], seen: &Seen) {
    let mut newest = BTreeMap::new();
    for (revision, writer, count) in acknowledged {
        let kv = seen
            .by_revision
            .get(revision)
            .expect("no revision is skipped");
        assert_eq!(
            kv.key,
            key(*writer),
            "revision {revision} was given out for another write"
        );
        assert_eq!(kv.value, value(*writer, *count));
        let newest = newest.entry(*writer).or_insert(*revision);
        *newest = (*newest).max(*revision);
    }
    for (writer, revision) in newest {
        let found = client.get(key(writer)).await.expect("the key");
        assert!(
            found.mod_revision >= revision,
            "{found:?} is older than {revision}"
        );
        assert_eq!(seen.by_revision.get(&found.mod_revision), Some(&found));
    }
}

/// A copy of the files as the kill left them, with a log whose end is torn: everything before the
/// tear is there, whole, and revisions go on from there. With the note of what was given out
/// beside it, the copy is refused if it has lost anything.
async fn torn_log(keyloom: &Keyloom, seen: &Seen, chance: &mut Chance) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let copy = |name: &str| fs::copy(keyloom.home().join(name), home.path().join(name));
    copy("keyloom.db").expect("the database");
    let Ok(length) = copy("keyloom.db-wal") else {
        return;
    };
    if length >= CHECKPOINTED {
        return;
    }
    tear(&home.path().join("keyloom.db-wal"), chance);
    let mut torn = Keyloom::launch_in(home, &[], &[]);
    torn.ready().await;
    let client = torn.client();
    let head = client.revision().await;
    let floor = (head - KEPT / 2).max(1);
    let start = Seen {
        last: floor,
        ..Seen::default()
    };
    let found = watch(client.clone(), start, Some(head)).await;
    for (revision, kv) in &found.by_revision {
        if let Some(before) = seen.by_revision.get(revision) {
            assert_eq!(kv, before, "revision {revision} has other contents");
        }
    }
    check_counts(&torn).await;
    assert_eq!(client.put("/after", "").await, head + 1);
    torn.kill().await;
    if head + 1 < seen.last {
        let note = "keyloom.db.given-out";
        fs::copy(keyloom.home().join(note), torn.home().join(note)).expect("the note");
        torn.launch_again();
        let refusal = torn.refusal().await;
        assert!(refusal.contains("was given out"), "{refusal}");
    }
}

fn tear(log: &Path, chance: &mut Chance) {
    let mut bytes = fs::read(log).expect("the log");
    if bytes.is_empty() {
        return;
    }
    // Mostly near its end, where a crash of a machine tears it.
    let from = if chance.below(4) == 0 {
        0
    } else {
        bytes.len() / 10 * 9
    };
    let at = from + chance.below(bytes.len() - from);
    match chance.below(3) {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        _ => bytes[at] ^= 0x40,
    }
    fs::write(log, bytes).expect("the folder is the test's own");
}

/// Both of two programs on one file: the second is told who has it.
#[tokio::test]
async fn a_second_program_is_told_who_has_the_file() {
    let keyloom = Keyloom::alone().await;
    keyloom.client().put("a", "1").await;
    let endpoint = format!("sqlite://{}/keyloom.db", keyloom.home().display());
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut second = Keyloom::launch_in(home, &[], &["--endpoint", &endpoint]);
    let refusal = second.refusal().await;
    let owner = format!("is in use by process {} (store default)", keyloom.id());
    assert!(refusal.contains(&owner), "{refusal}");
    assert!(refusal.contains("store default ("), "{refusal}");
    assert_eq!(keyloom.client().put("a", "2").await, 3);
}
