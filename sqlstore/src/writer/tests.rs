//! The writer over a database that fails: who is told what, and what is there afterwards.

use std::sync::Arc;

use keyloom_environment::SeededRandom;
use keyloom_etcd_api::{
    Code, EtcdError, KeyRange,
    etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest},
};
use rusqlite::ffi;
use tempfile::TempDir;

use super::*;
use crate::{
    clock::SystemClock,
    dialect::sqlite::{
        Checkpointer, Connect, Role, SqliteOptions, SqliteSession, TimedStatements,
        inject::{Injected, When},
    },
    error::Origin,
    feed::{Feed, Recent},
    key_counts::KeyCounts,
    metrics::Metrics,
    session::{At, ChangeSeq, HighWaterMark, Values},
    statement::Statement,
    usage::Usages,
};

mod counts;
mod memory;

/// Nothing asks for the notes here.
#[derive(Debug)]
struct Nowhere;

impl HighWaterMark for Nowhere {
    fn note(&self, _: i64) {}
}

struct Bench {
    writer: Writer<SqliteSession>,
    shared: Arc<Shared>,
    reader: SqliteSession,
    injected: Injected,
    _folder: TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let options = Arc::new(SqliteOptions::new("test", folder.path().join("state.db")));
    let origin = Arc::new(Origin {
        name: "test".into(),
        place: options.path.display().to_string().into(),
    });
    let metrics = Arc::new(Metrics::default().of_store("test"));
    let injected = Injected::default();
    let watchman = TimedStatements {
        origin: origin.clone(),
        metrics: metrics.clone(),
        slow: options.store.slow_statement,
        injected: injected.clone(),
    };
    let connect = Connect {
        options: options.clone(),
        watchman,
    };
    let random = Arc::new(SeededRandom::new(1));
    let shared = Arc::new(Shared {
        identity: connect.prepare(random.as_ref(), None).unwrap(),
        given_out: Box::new(Nowhere),
        origin,
        clock: Arc::new(SystemClock),
        random,
        metrics,
        feed: Feed::new(1 << 20),
        key_counts: KeyCounts::default(),
        usages: Usages::default(),
        next_end: i64::MAX.into(),
        full: false.into(),
        options: options.store.clone(),
    });
    let checkpointer = Arc::new(Checkpointer::default());
    let file = connect.file().unwrap();
    let mut session = connect
        .session(Role::Writer, file.clone(), Some(checkpointer))
        .unwrap();
    let marks = session.marks().unwrap();
    let reader = connect.session(Role::Reader, file, None).unwrap();
    let writer = Writer::new(session, shared.clone(), marks).unwrap();
    Bench {
        writer,
        shared,
        reader,
        injected,
        _folder: folder,
    }
}

fn put(key: &str) -> Request {
    Request::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: "v".into(),
        ..PutRequest::default()
    })
}

type Answer = oneshot::Receiver<Result<Bytes, CallError>>;

impl Bench {
    fn ask(&mut self, requests: Vec<Request>) -> Vec<Result<Bytes, CallError>> {
        let ask = |request| {
            let (reply, answer) = oneshot::channel();
            self.writer.take(Job::Write(request, reply));
            answer
        };
        let asked: Vec<Answer> = requests.into_iter().map(ask).collect();
        self.writer.run_waiting();
        asked
            .into_iter()
            .map(|mut answer| answer.try_recv().unwrap())
            .collect()
    }

    fn keys(&mut self) -> Vec<String> {
        let mut keys = Vec::new();
        self.reader
            .scan(&KeyRange::all(), At::Now, Values::Leave, &mut |row| {
                keys.push(String::from_utf8(row.key.to_vec()).unwrap());
                true
            })
            .unwrap();
        keys
    }

    /// Memory says what the file says.
    fn check(&mut self) {
        let marks = self.reader.marks().unwrap();
        assert_eq!(self.writer.marks, marks);
        assert_eq!(self.shared.feed.head(), marks.revision);
        assert_eq!(
            self.shared.key_counts.total(),
            i64::try_from(self.keys().len()).unwrap()
        );
        let objects: i64 = self
            .shared
            .usages
            .list()
            .iter()
            .map(|(_, usage)| usage.objects)
            .sum();
        assert_eq!(self.shared.key_counts.total(), objects);
        self.check_counts();
    }

    /// What is kept of counts is what a look at every key finds, and what is in memory.
    fn check_counts(&mut self) {
        let kept = self.reader.counts().unwrap().expect("counts are kept");
        let usages = Usages::default();
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], size: i64| {
            usages.add(key, size + i64::try_from(key.len()).unwrap());
            keys.push(key.to_vec());
        };
        self.reader.sizes(&mut visit).unwrap();
        assert_eq!(kept.classes, usages.list());
        assert_eq!(kept.classes, self.shared.usages.list());
        let bytes: i64 = kept.classes.iter().map(|(_, usage)| usage.bytes).sum();
        assert_eq!(self.shared.usages.bytes(), bytes);
        assert_eq!(kept.blocks[0].0, "");
        let ends = kept.blocks.iter().skip(1).map(|(start, _)| Some(start));
        for ((start, count), end) in kept.blocks.iter().zip(ends.chain([None])) {
            let is_in =
                |key: &&Vec<u8>| key[..] >= start[..] && end.is_none_or(|end| key[..] < end[..]);
            let found = i64::try_from(keys.iter().filter(is_in).count()).unwrap();
            assert_eq!(*count, found, "{start:?} to {end:?}");
        }
        let changed = |(start, count): &(Bytes, i64)| (start.clone(), Some(*count));
        let kept: Vec<_> = kept.blocks.iter().map(changed).collect();
        assert_eq!(self.shared.key_counts.blocks(), kept);
    }
}

fn code(answer: &Result<Bytes, CallError>) -> Code {
    match answer {
        Ok(_) => Code::Ok,
        Err(CallError::Refused(status)) => status.code(),
        Err(CallError::Unknown(_)) => Code::Unknown,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn requests_of_a_batch_see_each_other_and_fail_alone() {
    let mut bench = bench();
    let lost = PutRequest {
        key: "b".into(),
        ignore_value: true,
        ..PutRequest::default()
    };
    let kept = PutRequest {
        key: "a".into(),
        ignore_value: true,
        ..PutRequest::default()
    };
    let leased = PutRequest {
        key: "c".into(),
        lease: 5,
        ..PutRequest::default()
    };
    let answers = bench.ask(vec![
        put("a"),
        Request::Put(lost),
        Request::Put(kept),
        Request::Put(leased.clone()),
        Request::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 100 }),
        Request::Put(leased),
    ]);
    let codes: Vec<Code> = answers.iter().map(code).collect();
    let refused = [Code::InvalidArgument, Code::NotFound];
    assert_eq!(
        codes,
        [
            Code::Ok,
            refused[0],
            Code::Ok,
            refused[1],
            Code::Ok,
            Code::Ok
        ]
    );
    assert_eq!(
        bench.writer.marks.revision, 4,
        "the refused ones took no revision"
    );
    bench.check();
}

#[test]
fn a_commit_that_fails_is_unknown_to_all_of_its_batch() {
    for (when, there) in [(When::Instead, 0), (When::After, 3)] {
        let mut bench = bench();
        bench
            .injected
            .fail(Statement::Commit, when, ffi::SQLITE_IOERR_FSYNC, 0);
        let answers = bench.ask(vec![put("a"), put("b"), put("c")]);
        assert!(
            answers.iter().all(|answer| code(answer) == Code::Unknown),
            "{answers:?}"
        );
        assert_eq!(bench.keys().len(), there);
        bench.check();
        // What came of it is in the history; the feed must not skip it.
        let head = bench.shared.feed.head();
        assert_eq!(head, 1 + i64::try_from(there).unwrap());
        if there > 0 {
            assert!(matches!(
                bench.shared.feed.take(2, head, false, 1),
                Recent::Gone
            ));
        }
        assert_eq!(code(&bench.ask(vec![put("d")])[0]), Code::Ok);
        assert_eq!(
            bench.shared.feed.head(),
            head + 1,
            "no revision twice, none left out"
        );
        bench.check();
    }
}

/// A log that has no room for the mark of the commit has no commit.
#[test]
fn a_commit_without_space_is_refused_unless_it_is_there() {
    for (when, expected, there) in [
        (When::Instead, Code::ResourceExhausted, 0),
        (When::After, Code::Unknown, 1),
    ] {
        let mut bench = bench();
        let full = ffi::SQLITE_FULL;
        bench.injected.fail(Statement::Commit, when, full, 0);
        assert_eq!(code(&bench.ask(vec![put("a")])[0]), expected);
        assert_eq!(bench.keys().len(), there);
        let head = bench.shared.feed.head();
        assert_eq!(code(&bench.ask(vec![put("b")])[0]), Code::Ok);
        assert_eq!(bench.shared.feed.head(), head + 1);
        bench.check();
    }
    // What is too large together may fit one by one.
    let mut bench = bench();
    let full = ffi::SQLITE_FULL;
    bench
        .injected
        .fail(Statement::Commit, When::Instead, full, 0);
    let answers = bench.ask(vec![put("a"), put("b")]);
    assert!(answers.iter().all(|answer| code(answer) == Code::Ok));
    bench.check();
}

#[test]
fn what_one_request_finds_no_space_for_does_not_take_the_others() {
    let mut bench = bench();
    // Once in the batch, once when it is tried alone: the third put.
    bench
        .injected
        .fail(Statement::Append, When::Instead, ffi::SQLITE_FULL, 2);
    bench
        .injected
        .fail(Statement::Append, When::Instead, ffi::SQLITE_FULL, 2);
    let answers = bench.ask(vec![put("a"), put("b"), put("c"), put("d")]);
    let codes: Vec<Code> = answers.iter().map(code).collect();
    assert_eq!(
        codes,
        [Code::Ok, Code::Ok, Code::ResourceExhausted, Code::Ok]
    );
    let Err(CallError::Refused(status)) = &answers[2] else {
        panic!()
    };
    assert_eq!(EtcdError::of(status), Some(EtcdError::NoSpace));
    assert_eq!(bench.keys(), ["a", "b", "d"]);
    assert_eq!(bench.writer.marks.revision, 4);
    bench.check();
}

#[test]
fn a_database_that_cannot_be_written_refuses_by_name_and_recovers() {
    let mut bench = bench();
    for (code_of, expected) in [
        (ffi::SQLITE_READONLY, Code::Unavailable),
        (ffi::SQLITE_BUSY, Code::Unavailable),
        (ffi::SQLITE_CORRUPT, Code::DataLoss),
    ] {
        bench
            .injected
            .fail(Statement::Begin, When::Instead, code_of, 0);
        let answers = bench.ask(vec![put("a"), put("b")]);
        for answer in &answers {
            assert_eq!(code(answer), expected);
            let Err(CallError::Refused(status)) = answer else {
                panic!()
            };
            assert!(status.message().contains("store test ("), "{status:?}");
            assert!(status.message().contains("state.db"), "{status:?}");
        }
        assert!(bench.keys().is_empty());
        bench.check();
    }
    assert_eq!(code(&bench.ask(vec![put("a")])[0]), Code::Ok);
    bench.check();
}

#[test]
fn leases_are_read_anew_after_a_failed_commit() {
    let mut bench = bench();
    bench
        .injected
        .fail(Statement::Commit, When::Instead, ffi::SQLITE_IOERR, 0);
    let grant = || Request::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 100 });
    assert_eq!(code(&bench.ask(vec![grant()])[0]), Code::Unknown);
    assert!(!bench.writer.leases.has(5));
    assert_eq!(code(&bench.ask(vec![grant()])[0]), Code::Ok);
    assert!(bench.writer.leases.has(5));
}

/// A sweep that cannot go on takes neither a write nor a waiting caller with it; the next opening
/// goes on with it, and what is compacted stays compacted.
#[test]
fn a_sweep_that_fails_fails_alone() {
    let mut bench = bench();
    for _ in 0..3 {
        let puts = (0..200)
            .map(|number| put(&format!("k{number:03}")))
            .collect();
        bench.ask(puts);
    }
    let last = bench.writer.marks.revision;
    let fail = |skip| {
        let statement = Statement::SweepSuperseded;
        bench
            .injected
            .fail(statement, When::Instead, ffi::SQLITE_IOERR, skip);
    };
    fail(0);
    fail(0);
    let compact = CompactionRequest {
        revision: last,
        physical: true,
    };
    let (reply, mut swept) = oneshot::channel();
    bench
        .writer
        .take(Job::Write(Request::Compact(compact), reply));
    bench.writer.run_waiting();
    assert!(swept.try_recv().is_err(), "not yet");
    // The slice along with this batch fails; the batch does not, and the caller is told.
    assert_eq!(code(&bench.ask(vec![put("x")])[0]), Code::Ok);
    assert_eq!(code(&swept.try_recv().unwrap()), Code::Unknown);
    assert_eq!(bench.writer.marks.compacted, last);
    assert!(!bench.writer.do_chore(), "it rests");
    assert_eq!(code(&bench.ask(vec![put("y")])[0]), Code::Ok);
    bench.check();
    bench.injected.clear();
    bench.writer.chores = Chores::default();
    bench.writer.load(true).unwrap();
    while bench.writer.do_chore() {}
    bench.check();
    let mut rows = 0;
    let mut count = |_: ChangeSeq, _: &crate::session::Row<'_>| {
        rows += 1;
        true
    };
    bench
        .reader
        .changes(ChangeSeq(0), ChangeSeq(i64::MAX), Values::Leave, &mut count)
        .unwrap();
    assert_eq!(rows, 202);
}

/// A write that comes while a chore is done waits for it, so no chore may write much at once:
/// neither sweeping keys that lie far apart, each on pages of its own, nor giving space back.
#[test]
fn no_chore_writes_much_at_once() {
    let mut bench = bench();
    for round in 0..3_u64 {
        for batch in 0..8_u64 {
            // Each round in another order, so that what one change supersedes is nowhere near
            // what the next one does.
            let key = |number: u64| (batch * 500 + number) * [1, 1237, 2741][round as usize] % 4001;
            let puts = (0..500).map(|number| {
                Request::Put(PutRequest {
                    key: format!("/{:05}", key(number)).into(),
                    value: vec![b'v'; 1500].into(),
                    ..PutRequest::default()
                })
            });
            bench.ask(puts.collect());
        }
    }
    let revision = bench.writer.marks.revision;
    let compact = CompactionRequest {
        revision,
        physical: false,
    };
    bench.ask(vec![Request::Compact(compact)]);
    bench.writer.chores.defragment(oneshot::channel().0);
    let mut written = Vec::new();
    while bench.writer.do_chore() {
        written.push(bench.writer.session.pages_of_last_commit());
    }
    // 512 KiB are aimed at; a slice may be larger where the ones before it were easy.
    assert!(*written.iter().max().unwrap() <= 3 * 128, "{written:?}");
    assert!(written.len() > 50, "{written:?}");
    bench.check();
}

/// A chore's commit waits for no disk, and every write's does, before and after it.
#[test]
fn writes_wait_for_the_disk_and_chores_do_not() {
    const NORMAL: i64 = 1;
    const FULL: i64 = 2;
    let mut bench = bench();
    for _ in 0..2 {
        bench.ask(vec![put("a"), put("a")]);
        assert_eq!(bench.writer.session.synchronous(), FULL);
        let revision = bench.writer.marks.revision;
        let physical = false;
        bench.ask(vec![Request::Compact(CompactionRequest {
            revision,
            physical,
        })]);
        assert_eq!(bench.writer.session.synchronous(), FULL);
        let mut slices = 0;
        while bench.writer.do_chore() {
            assert_eq!(bench.writer.session.synchronous(), NORMAL);
            slices += 1;
        }
        assert!(slices > 0, "there was nothing to do");
    }
    bench.check();
}

/// Counts that somebody has made wrong behind the store's back are found again.
#[test]
fn counts_that_are_not_those_of_the_newest_change_are_counted_anew() {
    let mut bench = bench();
    bench.ask(
        (0..50)
            .map(|number| put(&format!("/a/b/{number}")))
            .collect(),
    );
    let wrong = CountChanges {
        blocks: vec![(Bytes::new(), Some(7))],
        classes: Vec::new(),
    };
    bench.writer.session.begin_write(Survives::Power).unwrap();
    bench.writer.session.set_counts(&wrong, true).unwrap();
    let place = bench.writer.marks.next_place;
    let marks = Marks {
        next_place: ChangeSeq(place.0 + 1),
        ..bench.writer.marks
    };
    bench.writer.session.set_marks(&marks).unwrap();
    bench.writer.session.commit().unwrap();
    bench.ask(vec![put("/a/b/c")]);
    assert_eq!(bench.shared.key_counts.total(), 51);
    bench.check();
}

/// Who writes without a pause does not stay ahead of the sweep.
#[test]
fn a_sweep_ends_though_the_writer_never_rests() {
    let mut bench = bench();
    let batch = |version: u64| {
        let put = move |number: u64| put(&format!("k{:04}", (number * 7 + version) % 1000));
        (0..400).map(put).collect::<Vec<_>>()
    };
    for version in 0..20 {
        bench.ask(batch(version));
    }
    let revision = bench.writer.marks.revision;
    let compact = CompactionRequest {
        revision,
        physical: false,
    };
    bench.ask(vec![Request::Compact(compact)]);
    let end = bench
        .writer
        .session
        .seq_at(revision, &bench.writer.marks)
        .unwrap();
    let mut batches = 0;
    while bench.writer.marks.swept.0 + 1 < end.0 {
        bench.ask(batch(batches));
        batches += 1;
        assert!(batches <= 12, "8000 changes, 400 writes in a batch");
    }
    bench.check();
}
