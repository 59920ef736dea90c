//! `keyloom import` and `keyloom export`, from and into real stores.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{
        Compare, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
        TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
    },
    mvccpb::KeyValue,
};
use keyloom_testkit::program::Settings;
use keyloom_tests::{
    Client, Duel, Etcd, Keyloom, Version,
    duel::{everyday_keys, grant_leases},
    keyloom::run,
    poll, port,
    process::Process,
    programs,
    split::everything,
};

/// Runs a command of `keyloom` that must succeed; gives what it said and what it logged.
fn succeeds(arguments: &[&str]) -> (String, String) {
    let output = run(arguments);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (said, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {log}");
    (said, log)
}

/// Runs a command of `keyloom` that must fail; gives its reason.
fn fails(arguments: &[&str]) -> String {
    let output = run(arguments);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let last = log.lines().rfind(|line| line.starts_with("keyloom: "));
    last.expect("a reason").to_owned()
}

async fn contents(client: &Client) -> Vec<KeyValue> {
    let answer = client.kv().range(everything(0)).await;
    answer.expect("a list").into_inner().kvs
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the test's own");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// An etcd with a history, keys of any bytes, and leases.
async fn full_etcd(seed: u64) -> Etcd {
    let etcd = Etcd::start(Version::V36).await;
    let client = etcd.client();
    let mut settings = Settings::new(everyday_keys());
    settings.leases = grant_leases(&[&client]).await;
    Duel::new(seed, settings, client.clone(), client.clone())
        .run_alone(400)
        .await;
    // Pages of several sizes: many small keys, some large values.
    for number in 0..300 {
        client.put(format!("/registry/many/{number:04}"), "x").await;
    }
    for number in 0..6_u8 {
        client
            .put([b'/', 0, 0xff, number], vec![number; 1_000_000])
            .await;
    }
    let lease = LeaseGrantRequest {
        id: 9_009,
        ttl: 600,
    };
    client.lease().lease_grant(lease).await.expect("a lease");
    let put = PutRequest {
        key: "/leased".into(),
        lease: 9_009,
        ..PutRequest::default()
    };
    client.kv().put(put).await.expect("a write");
    etcd
}

async fn ttl(client: &Client, id: i64) -> (i64, i64, usize) {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let answer = client.lease().lease_time_to_live(request).await;
    let answer = answer.expect("a lease").into_inner();
    (answer.ttl, answer.granted_ttl, answer.keys.len())
}

async fn serve(file: &Path) -> Keyloom {
    let endpoint = format!("sqlite://{}?mode=rw", file.display());
    Keyloom::in_front_of(&endpoint).await
}

#[tokio::test]
async fn an_etcd_is_imported_and_exported_whole() {
    let etcd = full_etcd(401).await;
    let original = contents(&etcd.client()).await;
    let revision = etcd.client().revision().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("new.db");
    let to = format!("sqlite://{}", file.display());
    let (said, log) = succeeds(&["import", "--from", &etcd.url(), "--to", &to]);
    for words in [
        format!("at revision {revision}"),
        format!("{} keys, 4 leases", original.len()),
        format!("goes on at revision {}", revision + 1),
    ] {
        assert!(said.contains(&words), "{said}");
    }
    assert!(log.contains("all keys are read"), "{log}");
    let again = fails(&["import", "--from", &etcd.url(), "--to", &to]);
    assert!(again.contains("new.db already"), "{again}");
    assert_eq!(files(folder.path()), ["new.db", "new.db.lock"]);

    let mut keyloom = serve(&file).await;
    let client = keyloom.client();
    assert_eq!(
        contents(&client).await,
        original,
        "revisions and versions included"
    );
    let (left, granted, keys) = ttl(&client, 9_009).await;
    assert!(
        (1..=600).contains(&left) && granted == 600 && keys == 1,
        "{left} {granted} {keys}"
    );
    assert_eq!(ttl(&client, 7_001).await.1, 86_400);
    assert_eq!(client.put("/after", "").await, revision + 2);
    assert_eq!(client.put("/after", "").await, revision + 3);

    // From the running program, and from its file.
    let expected: BTreeMap<_, _> = contents(&client)
        .await
        .into_iter()
        .map(|kv| (kv.key, (kv.value, kv.lease)))
        .collect();
    let copies = Etcd::start_all([Version::V36, Version::V34]).await;
    let url = keyloom.url().to_owned();
    let (said, _) = succeeds(&["export", "--from", &url, "--to", &copies[0].url()]);
    assert!(
        said.contains("read back as they were") && said.contains("the etcd's own"),
        "{said}"
    );
    let busy = fails(&["export", "--from", &to, "--to", &copies[1].url()]);
    assert!(busy.contains("is in use by process"), "{busy}");
    assert!(keyloom.terminate().await.success());
    let (said, _) = succeeds(&["export", "--from", &to, "--to", &copies[1].url()]);
    assert!(
        said.contains(&format!("{} keys read back", expected.len())),
        "{said}"
    );
    for copy in &copies {
        let client = copy.client();
        let found: BTreeMap<_, _> = contents(&client)
            .await
            .into_iter()
            .map(|kv| (kv.key, (kv.value, kv.lease)))
            .collect();
        assert!(found == expected, "{said}");
        let (left, granted, keys) = ttl(&client, 9_009).await;
        assert!(
            left > 500 && granted == 600 && keys == 1,
            "{left} {granted} {keys}"
        );
    }

    // Not into what has contents, unless that is meant.
    copies[0].client().put("/only/here", "1").await;
    copies[0].client().put("/after", "changed").await;
    let refused = fails(&["export", "--from", &to, "--to", &copies[0].url()]);
    assert!(refused.contains("is not empty"), "{refused}");
    let target = copies[0].url();
    let (said, _) = succeeds(&["export", "--from", &to, "--to", &target, "--overwrite"]);
    assert!(said.contains("1 other keys were there and stay"), "{said}");
    let after = copies[0].client().get("/after").await.expect("the key");
    assert_eq!(after.value, "");
}

#[tokio::test]
async fn what_cannot_be_copied_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = format!("sqlite://{}/new.db", folder.path().display());
    let nobody = format!("http://127.0.0.1:{}", port::free());
    let refused = fails(&["import", "--from", &nobody, "--to", &to]);
    assert!(refused.contains(&nobody), "{refused}");
    assert_eq!(files(folder.path()), ["new.db.lock"]);
    let refused = fails(&["import", "--from", &nobody, "--to", &nobody]);
    assert!(
        refused.contains("--to must be a new SQLite file"),
        "{refused}"
    );
    let refused = fails(&["export", "--from", &nobody, "--to", &to]);
    assert!(refused.contains("--to must be an etcd"), "{refused}");
    let etcd = Etcd::start(Version::V36).await;
    let refused = fails(&["export", "--from", &to, "--to", &etcd.url()]);
    assert!(refused.contains("store default ("), "{refused}");
    assert_eq!(etcd.client().revision().await, 1);
    assert!(
        !folder.path().join("new.db").exists(),
        "an export makes no file"
    );
}

/// Left over from an import that was killed: it is neither served nor in the way.
#[tokio::test]
async fn an_import_that_was_killed_is_begun_again() {
    let etcd = full_etcd(402).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = format!("sqlite://{}/new.db", folder.path().display());
    let draft = folder.path().join("new.db.import");
    // Stopped somewhere on its way, wherever that is.
    let mut command = Command::new(programs::keyloom());
    command.args(["import", "--from", &etcd.url(), "--to", &to]);
    let mut import = Process::start("import", &mut command, folder.path());
    let this = std::cell::RefCell::new(&mut import);
    poll::eventually("a beginning, or the end", || async {
        let ended = this.borrow_mut().ended().is_some();
        (draft.exists() || ended).then_some(()).ok_or("neither")
    })
    .await;
    import.kill().await;
    let file = folder.path().join("new.db");
    if !file.exists() {
        fs::write(folder.path().join("new.db.import-rows"), "left over").expect("the test's own");
        succeeds(&["import", "--from", &etcd.url(), "--to", &to]);
    }
    assert!(!draft.exists());
    let keyloom = serve(&file).await;
    assert_eq!(
        contents(&keyloom.client()).await,
        contents(&etcd.client()).await
    );
}

/// A running kine on a SQLite file of its own.
async fn kine(home: &Path) -> (Process, String) {
    for _ in 0..10 {
        let (port, metrics) = (port::free(), port::free());
        let mut command = Command::new(programs::peer("kine"));
        command.arg(format!("--listen-address=tcp://127.0.0.1:{port}"));
        command.arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"));
        command.arg("--endpoint=sqlite://./kine.db?_journal=WAL&cache=shared");
        let mut process = Process::start("kine", command.current_dir(home), home);
        let url = format!("http://127.0.0.1:{port}");
        let this = std::cell::RefCell::new(&mut process);
        let serves = poll::eventually("kine", || async {
            if this.borrow_mut().ended().is_some() {
                return Ok(false);
            }
            let client = Client::new(&url);
            match client.kv().range(everything(0)).await {
                Ok(_) => Ok(true),
                Err(status) => Err(status),
            }
        })
        .await;
        if serves {
            return (process, url);
        }
    }
    panic!("every port was lost to somebody else")
}

#[tokio::test]
async fn a_kine_is_imported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_kine, url) = kine(folder.path()).await;
    let client = Client::new(&url);
    let mut created = BTreeMap::new();
    for number in 0..250 {
        let key = format!("/registry/pods/default/{number:03}");
        let lease = if number % 50 == 0 { 3_600 } else { 0 };
        created.insert(
            key.clone(),
            (kine_create(&client, &key, lease).await, lease),
        );
    }
    let changed = "/registry/pods/default/007";
    let at = kine_update(&client, changed, created[changed].0).await;
    let to = format!("sqlite://{}/new.db", folder.path().display());
    let (said, _) = succeeds(&["import", "--from", &url, "--to", &to]);
    assert!(
        said.contains("a kine has neither versions nor leases"),
        "{said}"
    );

    let keyloom = serve(&folder.path().join("new.db")).await;
    let client = keyloom.client();
    let mut found = 0;
    for kv in contents(&client).await {
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        // Kine has keys of its own.
        let Some((revision, lease)) = created.get(&key) else {
            continue;
        };
        found += 1;
        assert_eq!((kv.create_revision, kv.lease), (*revision, *lease), "{key}");
        let (modified, version, value) = match key == changed {
            true => (at, 2, "changed"),
            false => (*revision, 1, "created"),
        };
        assert_eq!((kv.mod_revision, kv.version), (modified, version), "{key}");
        assert_eq!(kv.value, value);
    }
    assert_eq!(found, 250);
    let (left, granted, keys) = ttl(&client, 3_600).await;
    assert!(
        left > 3_000 && granted == 3_600 && keys == 5,
        "{left} {granted} {keys}"
    );
}

/// As kube-apiserver creates.
async fn kine_create(client: &Client, key: &str, lease: i64) -> i64 {
    kine_txn(client, key, 0, "created", lease).await
}

/// As kube-apiserver updates.
async fn kine_update(client: &Client, key: &str, revision: i64) -> i64 {
    kine_txn(client, key, revision, "changed", 0).await
}

async fn kine_txn(
    client: &Client,
    key: &str,
    revision: i64,
    value: &'static str,
    lease: i64,
) -> i64 {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let put = PutRequest {
        key: key.clone(),
        value: value.into(),
        lease,
        ..PutRequest::default()
    };
    let get = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let failure = match revision {
        0 => Vec::new(),
        _ => vec![op(Request::RequestRange(get))],
    };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put))],
        failure,
    };
    let answer = client.kv().txn(txn).await.expect("a write").into_inner();
    assert!(answer.succeeded);
    answer.header.expect("a header").revision
}
