//! SQLite files as stores, alone and among etcds: every answer equals that of one etcd.

use keyloom_etcd_api::etcdserverpb::RangeRequest;
use keyloom_testkit::{
    Step,
    program::{Group, Settings},
};
use keyloom_tests::{
    Duel, Etcd, Keyloom, Version,
    duel::{everyday_keys, grant_leases, steps},
    split::Split,
    topology::{Matcher, Topology},
};

#[tokio::test]
async fn alone_answers_are_equal() {
    let reference = Etcd::start(Version::V36).await;
    let mut keyloom = Keyloom::alone().await;
    let (reference, tested) = (reference.client(), keyloom.client());
    let mut settings = Settings::new(everyday_keys());
    settings.leases = grant_leases(&[&reference, &tested]).await;
    let mut duel = Duel::new(301, settings, reference, tested);
    for _ in 0..3 {
        duel.run(steps(9_000) / 3).await;
        assert!(keyloom.terminate().await.success(), "a clean end");
        keyloom.start_again().await;
        duel.go_on_with(keyloom.client());
        let head = duel.reference().revision().await;
        for revision in 0..=head + 1 {
            let range = RangeRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                revision,
                ..RangeRequest::default()
            };
            duel.compare(&Step::Range(range)).await;
        }
    }
}

fn keys() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["web-1", "web-2"]),
        Group::new("/registry/pods/tenant-a/", &["web-1", "web-2"]),
        Group::new("/registry/secrets/default/", &["token", "tls"]),
        Group::new("/registry/secrets/tenant-a/", &["token"]),
        Group::new("/registry/minions/node-", &["1", "2"]),
        Group::new("compact_rev_key", &[""]),
    ]
}

/// Runs a program in two halves with a restart between them. `stores` says where the keys of each
/// are: in an etcd, or in a file where it is `None`.
async fn same_as_one(seed: u64, stores: [Option<Version>; 3], length: usize) {
    let topology = Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ]);
    let reference = Etcd::start(Version::V36).await;
    let home = tempfile::tempdir().expect("a temporary folder");
    let (mut etcds, mut endpoints) = (Vec::new(), Vec::new());
    for (number, store) in stores.into_iter().enumerate() {
        endpoints.push(match store {
            Some(version) => {
                etcds.push(Etcd::start(version).await);
                etcds[etcds.len() - 1].url()
            }
            None => format!("sqlite://{}/{number}.db", home.path().display()),
        });
    }
    let mut keyloom = Keyloom::start(&topology.file(&endpoints)).await;
    let settings = Settings {
        spanning_writes: false,
        bad_requests: false,
        ..Settings::new(keys())
    };
    let duel = Duel::new(seed, settings, reference.client(), keyloom.client());
    let mut split = Split::new(duel, topology);
    split.run(length / 2).await;
    assert!(keyloom.terminate().await.success(), "a clean end");
    keyloom.start_again().await;
    split.duel.go_on_with(keyloom.client());
    split.compare_history().await;
    split.run(length / 2).await;
    assert_eq!(split.refused, 0, "{}", split.last_refusal);
}

#[tokio::test]
async fn as_the_default_store_over_etcds_answers_are_equal() {
    let stores = [None, Some(Version::V36), Some(Version::V34)];
    same_as_one(302, stores, steps(6_000)).await;
}

#[tokio::test]
async fn as_a_tenants_store_beside_etcds_answers_are_equal() {
    let stores = [Some(Version::V36), None, Some(Version::V36)];
    same_as_one(303, stores, steps(6_000)).await;
}

#[tokio::test]
async fn only_files_answer_as_one_etcd() {
    same_as_one(304, [None; 3], steps(6_000)).await;
}

/// What an operator sees of a file.
#[tokio::test]
async fn usage_and_statements_are_shown() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let endpoint = format!("sqlite://{}/a.db?_busy_timeout=300", home.path().display());
    let keyloom = Keyloom::in_front_of(&endpoint).await;
    let client = keyloom.client();
    client.put("/registry/pods/default/web", "12345").await;
    client.put("/registry/pods/default/db", "1").await;
    client
        .put("/registry/example.com/shirts/default/red", "")
        .await;
    let (status, usage) = keyloom.admin("/usage").await;
    assert_eq!(status, 200);
    assert_eq!(
        usage,
        "default\t/registry/example.com/shirts/\t1\t40\ndefault\t/registry/pods/\t2\t57\n"
    );
    let (_, stores) = keyloom.admin("/stores").await;
    assert!(stores.contains("/a.db\topen"), "{stores}");

    // A lock of another program makes a statement slow.
    let other = rusqlite::Connection::open(home.path().join("a.db")).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let put = Step::Put(keyloom_etcd_api::etcdserverpb::PutRequest {
        key: "a".into(),
        ..Default::default()
    });
    let refused = client.step(&put).await.expect_err("it is locked");
    assert!(
        refused.message().contains("locked by another process"),
        "{refused}"
    );
    other.execute_batch("COMMIT").expect("the lock's end");
    client.step(&put).await.expect("it is free");
    let (_, page) = keyloom.admin("/metrics").await;
    for line in [
        r#"keyloom_sqlstore_slow_statements_total{store="default",statement="begin"} 1"#,
        r#"keyloom_sqlstore_faults_total{store="default",fault="locked by another process"} 1"#,
        r#"keyloom_sqlstore_objects{store="default"} 4"#,
        r#"keyloom_sqlstore_object_bytes{store="default"} 98"#,
        r#"keyloom_sqlstore_statement_duration_seconds_count{store="default",statement="commit"} 4"#,
    ] {
        assert!(
            page.lines().any(|shown| shown == line),
            "{line} is not in\n{page}"
        );
    }
    let log = keyloom.log();
    assert!(
        log.contains("slow statement") && log.contains("statement=begin"),
        "{log}"
    );
}
