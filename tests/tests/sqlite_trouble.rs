//! A SQLite file in trouble, under the program itself: a clear error that names the store, no wrong
//! answer, and recovery when it is mended.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use keyloom_etcd_api::{
    Code, EtcdError, Status,
    etcdserverpb::{AlarmRequest, PutRequest},
};
use keyloom_etcd_client::Answered as _;
use keyloom_tests::{Client, Keyloom, disk::SmallDisk, split::everything};
use tempfile::TempDir;

async fn put(client: &Client, key: &str, size: usize) -> Result<i64, Status> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; size].into(),
        ..PutRequest::default()
    };
    let answer = client.kv().put(request).await.answered()?;
    Ok(answer.header.expect("a header").revision)
}

async fn alarms(client: &Client) -> usize {
    let answer = client.maintenance().alarm(AlarmRequest::default()).await;
    answer.expect("alarms").into_inner().alarms.len()
}

async fn count(client: &Client) -> i64 {
    let answer = client.kv().range(everything(0)).await;
    answer.expect("a list").into_inner().count
}

/// A Keyloom on a disk that is nearly full, and what makes room on it. Where no disk can be had,
/// the limit of the database's own size takes its place.
struct Tight {
    keyloom: Keyloom,
    disk: Option<SmallDisk>,
}

impl Tight {
    /// On a real disk where the system lets a test have one.
    async fn start() -> Self {
        let Some(disk) = SmallDisk::new() else {
            return Self::limited().await;
        };
        let home = tempfile::tempdir().expect("a temporary folder");
        let (by, endpoint) = (
            disk.by(),
            format!("sqlite://{}/keyloom.db", disk.path().display()),
        );
        let by: Vec<_> = by.iter().map(String::as_str).collect();
        let mut keyloom = Keyloom::launch_in(home, &by, &["--endpoint", &endpoint]);
        keyloom.ready().await;
        Self {
            keyloom,
            disk: Some(disk),
        }
    }

    async fn limited() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let limited = ["--endpoint", "sqlite://./keyloom.db?_max_page_count=1500"];
        let mut keyloom = Keyloom::launch_in(home, &[], &limited);
        keyloom.ready().await;
        Self {
            keyloom,
            disk: None,
        }
    }

    /// Mends it, for a running program where that can be.
    async fn make_room(&mut self, client: Client) -> Client {
        if let Some(disk) = &self.disk {
            disk.make_room(self.keyloom.id());
            return client;
        }
        assert!(self.keyloom.terminate().await.success());
        let wider = ["--endpoint", "sqlite://./keyloom.db?_max_page_count=3000"];
        self.keyloom.set_arguments(&wider);
        self.keyloom.start_again().await;
        self.keyloom.client()
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_mended() {
    fill_and_mend(Tight::start().await).await;
}

#[tokio::test]
async fn a_database_at_its_limit_is_told_and_mended() {
    fill_and_mend(Tight::limited().await).await;
}

async fn fill_and_mend(mut tight: Tight) {
    let client = tight.keyloom.client();
    let mut written = 0;
    let refused = loop {
        match put(&client, &format!("/k/{written:04}"), 40_000).await {
            Ok(revision) => {
                written += 1;
                assert_eq!(revision, 1 + written);
            }
            Err(refused) => break refused,
        }
        assert!(written < 1_000, "it is never full");
    };
    assert_eq!(
        EtcdError::of(&refused),
        Some(EtcdError::NoSpace),
        "{refused}"
    );
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(alarms(&client).await, 1);
    assert_eq!(client.status().await.errors.len(), 1);
    let log = tight.keyloom.log();
    assert!(
        log.contains("store default (") && log.contains(") is full"),
        "{log}"
    );
    // Nothing of the refused write is there, and what there is can be read.
    assert_eq!(count(&client).await, written);
    assert_eq!(client.revision().await, 1 + written);

    let client = tight.make_room(client).await;
    let before = client.revision().await;
    assert_eq!(before, 1 + written);
    let again = put(&client, "/again", 40_000).await.expect("there is room");
    assert_eq!(again, before + 1, "no revision is skipped");
    assert_eq!(alarms(&client).await, 0);
    assert_eq!(count(&client).await, written + 1);
}

/// Root may write what nobody may: there the program runs as somebody else.
fn as_somebody(home: &Path) -> Vec<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(home, everybody).expect("the folder is the test's own");
    vec![
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]
}

/// A program that somebody else may run, wherever the original lies.
fn public_copy(home: &Path) -> PathBuf {
    let copy = home.join("keyloom-copy");
    fs::copy(keyloom_tests::programs::keyloom(), &copy).expect("a copy of the program");
    copy
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_told_and_mended() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let program = public_copy(home.path());
    let mut by = as_somebody(home.path());
    // The copy is started in place of the program that comes after it.
    let start = "shift; exec \"$0\" \"$@\"";
    let program = program.display().to_string();
    by.extend(["sh", "-c", start, &program]);
    let mut keyloom = Keyloom::launch_in(home, &by, &[]);
    keyloom.ready().await;
    keyloom.client().put("a", "1").await;
    assert!(keyloom.terminate().await.success());

    let file = keyloom.home().join("keyloom.db");
    let allow = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the test's own");
    };
    allow(&file, 0o444);
    keyloom.launch_again();
    let refusal = keyloom.refusal().await;
    assert!(
        refusal.contains("store default (./keyloom.db) is read-only"),
        "{refusal}"
    );
    allow(&file, 0o644);

    let folder = keyloom.home().to_owned();
    allow(&folder, 0o555);
    // Neither a log nor the note of who owns the database can be made there.
    fs::remove_file(folder.join("keyloom.db.lock")).ok();
    keyloom.launch_again();
    let status = keyloom.ended().await;
    allow(&folder, 0o777);
    let log = keyloom.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(!status.success(), "{log}");
    assert!(
        last.contains("store default (./keyloom.db): ./keyloom.db.lock: "),
        "{last}"
    );
    assert_eq!(last.matches("denied").count(), 1, "{last}");

    keyloom.start_again().await;
    let client = keyloom.client();
    assert_eq!(client.get("a").await.expect("the key").mod_revision, 2);
    assert_eq!(client.put("a", "2").await, 3);
}

/// A Keyloom on a file that does not wait long for locks.
async fn impatient() -> Keyloom {
    let home: TempDir = tempfile::tempdir().expect("a temporary folder");
    let endpoint = "sqlite://./keyloom.db?_busy_timeout=200";
    let mut keyloom = Keyloom::launch_in(home, &[], &["--endpoint", endpoint]);
    keyloom.ready().await;
    keyloom
}

fn database(keyloom: &Keyloom) -> rusqlite::Connection {
    rusqlite::Connection::open(keyloom.home().join("keyloom.db")).expect("the database")
}

#[tokio::test]
async fn a_file_that_another_program_locks_is_told_and_mended() {
    let mut keyloom = impatient().await;
    let client = keyloom.client();
    client.put("a", "1").await;
    let other = database(&keyloom);
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let refused = put(&client, "a", 2).await.expect_err("it is locked");
    assert_eq!(refused.code(), Code::Unavailable);
    for words in ["store default (./keyloom.db)", "locked by another process"] {
        assert!(refused.message().contains(words), "{refused}");
    }
    // Reading goes on.
    assert_eq!(client.get("a").await.expect("the key").mod_revision, 2);
    other.execute_batch("ROLLBACK").expect("its end");
    assert_eq!(client.put("a", "3").await, 3, "no revision is skipped");

    // And at start.
    assert!(keyloom.terminate().await.success());
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    keyloom.launch_again();
    let refusal = keyloom.refusal().await;
    for words in ["store default (./keyloom.db)", "locked by another process"] {
        assert!(refusal.contains(words), "{refusal}");
    }
    other.execute_batch("ROLLBACK").expect("its end");
    drop(other);
    keyloom.start_again().await;
    assert_eq!(keyloom.client().put("a", "4").await, 4);
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused_and_left_alone() {
    let mut keyloom = Keyloom::alone().await;
    keyloom.client().put("a", "1").await;
    assert!(keyloom.terminate().await.success());
    let set = |version: i64| {
        let sql = "UPDATE identity SET schema_version = schema_version + ?1";
        database(&keyloom).execute(sql, [version]).expect("the row")
    };
    set(100);
    let before = fs::read(keyloom.home().join("keyloom.db")).expect("the file");
    keyloom.launch_again();
    let refusal = keyloom.refusal().await;
    for words in [
        "store default (./keyloom.db)",
        "schema version 10",
        "use a newer Keyloom",
    ] {
        assert!(refusal.contains(words), "{refusal}");
    }
    let after = fs::read(keyloom.home().join("keyloom.db")).expect("the file");
    assert!(before == after, "the file was changed");
    let set = |version: i64| {
        let sql = "UPDATE identity SET schema_version = schema_version + ?1";
        database(&keyloom).execute(sql, [version]).expect("the row")
    };
    set(-100);
    keyloom.start_again().await;
    assert_eq!(keyloom.client().put("a", "2").await, 3);
}

/// Pages of garbage: refused at start, or told by every read that meets them; never an answer that
/// leaves keys out.
#[tokio::test]
async fn a_corrupted_file_is_told_and_mended() {
    const KEYS: i64 = 400;
    let mut keyloom = Keyloom::alone().await;
    for number in 0..KEYS {
        put(&keyloom.client(), &format!("/k/{number:04}"), 1_500)
            .await
            .expect("a write");
    }
    assert!(keyloom.terminate().await.success());
    let file = keyloom.home().join("keyloom.db");
    let whole = fs::read(&file).expect("the file");
    let pages = whole.len() / 4096;
    let mut refused = 0;
    // One page after the other, all over the file: the header of the file, the roots, the leaves.
    for page in [0, 1, 3, 5, 8, pages / 4, pages / 2, pages * 3 / 4] {
        let mut corrupt = whole.clone();
        corrupt[page * 4096..(page + 1) * 4096].fill(0x5a);
        fs::write(&file, corrupt).expect("the test's own");
        keyloom.launch_again();
        match keyloom.try_ready().await {
            Err(_) => {
                let refusal = keyloom.refusal().await;
                assert!(
                    refusal.contains("store default (./keyloom.db)"),
                    "{refusal}"
                );
                assert!(
                    refusal.contains("corrupt") || refusal.contains("another program"),
                    "{refusal}"
                );
                refused += 1;
            }
            Ok(()) => refused += i32::from(read_all(&keyloom.client(), KEYS).await),
        }
        keyloom.kill().await;
    }
    assert!(refused >= 4, "{refused}");
    fs::write(&file, whole).expect("the test's own");
    for rest in ["keyloom.db-wal", "keyloom.db-shm"] {
        fs::remove_file(keyloom.home().join(rest)).ok();
    }
    keyloom.start_again().await;
    assert_eq!(count(&keyloom.client()).await, KEYS);
    assert_eq!(keyloom.client().put("a", "").await, KEYS + 2);
}

/// Whether a list is refused because of the damage; if it is answered, it is whole.
async fn read_all(client: &Client, keys: i64) -> bool {
    match client.kv().range(everything(0)).await.answered() {
        Ok(answer) => {
            assert_eq!(
                (answer.count, answer.kvs.len()),
                (keys, keys.unsigned_abs() as usize)
            );
            for (number, kv) in answer.kvs.iter().enumerate() {
                assert_eq!(kv.key, format!("/k/{number:04}"));
                assert_eq!(kv.value, vec![b'v'; 1_500]);
            }
            false
        }
        Err(status) => {
            assert_eq!(status.code(), Code::DataLoss, "{status}");
            assert!(status.message().contains("store default ("), "{status}");
            true
        }
    }
}
