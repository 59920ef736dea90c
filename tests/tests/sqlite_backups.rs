//! A SQLite file that is taken back from an older backup: refused, until it is declared; then its
//! revisions go on above all that were given out.

use std::{fs, path::Path};

use keyloom_etcd_api::EtcdError;
use keyloom_etcd_client::Answered as _;
use keyloom_tests::{
    Client, Etcd, Keyloom, Version,
    split::everything,
    topology::{Matcher, Topology},
};

/// A copy of a file of a stopped Keyloom.
fn take_back(backup: &Path, file: &Path) {
    for rest in ["-wal", "-shm"] {
        let rest = format!("{}{rest}", file.display());
        assert!(
            !Path::new(&rest).exists(),
            "everything is in the file after a clean end"
        );
    }
    fs::copy(backup, file).expect("the test's own");
}

async fn is_compacted(client: &Client, revision: i64) -> bool {
    match client.kv().range(everything(revision)).await.answered() {
        Ok(_) => false,
        Err(status) => EtcdError::of(&status) == Some(EtcdError::Compacted),
    }
}

#[tokio::test]
async fn alone_it_is_refused_until_it_is_declared() {
    let mut keyloom = Keyloom::alone().await;
    let client = keyloom.client();
    client.put("a", "1").await;
    client.put("b", "1").await;
    assert!(keyloom.terminate().await.success());
    let file = keyloom.home().join("keyloom.db");
    let backup = keyloom.home().join("backup");
    fs::copy(&file, &backup).expect("the test's own");
    keyloom.start_again().await;
    let mut given_out = 0;
    for number in 0..50 {
        given_out = keyloom.client().put("a", number.to_string()).await;
    }
    // As after a crash of the program: nothing was tidied up.
    keyloom.kill().await;
    for rest in ["keyloom.db-wal", "keyloom.db-shm"] {
        fs::remove_file(keyloom.home().join(rest)).expect("a log");
    }
    take_back(&backup, &file);
    for _ in 0..2 {
        keyloom.launch_again();
        let refusal = keyloom.refusal().await;
        for words in [
            "store default (./keyloom.db) is at revision 3, but 53 was given out",
            "--restored default",
        ] {
            assert!(refusal.contains(words), "{refusal}");
        }
    }
    keyloom.set_arguments(&["--restored", "default"]);
    keyloom.start_again().await;
    let client = keyloom.client();
    assert_eq!(client.get("a").await.expect("the key").mod_revision, 2);
    assert!(is_compacted(&client, given_out).await);
    assert!(is_compacted(&client, 3).await);
    let next = client.put("a", "after").await;
    assert_eq!(next, given_out + 2);
    // The flag may stay, and may go.
    for arguments in [&["--restored", "default"][..], &[]] {
        assert!(keyloom.terminate().await.success());
        keyloom.set_arguments(arguments);
        keyloom.start_again().await;
        assert_eq!(keyloom.client().revision().await, next);
    }
}

/// On another machine nothing says how far the original got.
#[tokio::test]
async fn elsewhere_its_user_says_how_far_the_original_got() {
    let mut keyloom = Keyloom::alone().await;
    keyloom.client().put("a", "1").await;
    assert!(keyloom.terminate().await.success());
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::copy(
        keyloom.home().join("keyloom.db"),
        home.path().join("keyloom.db"),
    )
    .expect("a copy");
    let mut other = Keyloom::launch_in(home, &[], &["--restored", "default"]);
    let refusal = other.refusal().await;
    assert!(refusal.contains("--restored default=REVISION"), "{refusal}");
    other.set_arguments(&["--restored", "default=1000000"]);
    other.start_again().await;
    assert_eq!(other.client().put("a", "2").await, 1_000_002);
    assert!(other.terminate().await.success());
    other.set_arguments(&["--restored", "nobody"]);
    other.launch_again();
    let refusal = other.refusal().await;
    assert!(
        refusal.contains("there is no store \"nobody\""),
        "{refusal}"
    );
}

/// As the default store, which has the ledger, and as another store: what it gave out before the
/// backup was taken back is never given out again, and nothing that is read below is answered.
async fn among_others(sqlite: usize) {
    let topology = Topology::new(&[("tenant", Matcher::Namespaces(&["tenant-a"]))]);
    let etcd = Etcd::start(Version::V36).await;
    let files = tempfile::tempdir().expect("a temporary folder");
    let file = files.path().join("a.db");
    let mut endpoints = vec![etcd.url(); 2];
    endpoints[sqlite] = format!("sqlite://{}", file.display());
    let text = topology.file(&endpoints);
    let mut keyloom = Keyloom::launch_with(&text, &["--term", "60s"]);
    keyloom.ready().await;
    let keys = [
        "/registry/secrets/default/a",
        "/registry/secrets/tenant-a/a",
    ];
    let client = keyloom.client();
    for key in keys {
        client.put(key, "early").await;
    }
    assert!(keyloom.terminate().await.success());
    let backup = files.path().join("backup");
    fs::copy(&file, &backup).expect("the test's own");
    keyloom.start_again().await;
    let client = keyloom.client();
    let mut given_out = 0;
    for number in 0..40 {
        given_out = client.put(keys[number % 2], number.to_string()).await;
    }
    assert!(keyloom.terminate().await.success());
    take_back(&backup, &file);
    keyloom.launch_again();
    let refusal = keyloom.refusal().await;
    let name = topology.names()[sqlite];
    assert!(refusal.contains(&format!("--restored {name}")), "{refusal}");

    let arguments = [
        "--topology",
        "topology.yaml",
        "--term",
        "60s",
        "--restored",
        name,
    ];
    keyloom.set_arguments(&arguments);
    keyloom.start_again().await;
    let client = keyloom.client();
    let kept = client.get(keys[sqlite]).await.expect("the key");
    assert_eq!(kept.value, "early");
    let other = client.get(keys[1 - sqlite]).await.expect("the key");
    assert_ne!(other.value, "early", "the other store has lost nothing");
    let next = client.put(keys[sqlite], "after").await;
    assert!(
        next > given_out,
        "{next} was given out before, up to {given_out}"
    );
    assert!(is_compacted(&client, given_out).await);
    let everything = client
        .kv()
        .range(everything(0))
        .await
        .expect("a list")
        .into_inner();
    assert_eq!(everything.count, 2);
}

#[tokio::test]
async fn as_a_tenants_store_its_revisions_go_on_above() {
    among_others(1).await;
}

#[tokio::test]
async fn as_the_default_store_its_revisions_go_on_above() {
    among_others(0).await;
}
