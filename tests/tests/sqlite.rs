//! SQLite files as stores, alone and among etcds: every answer equals that of one etcd.

use futures_util::StreamExt as _;
use keyloom_etcd_api::{
    etcdserverpb::{
        LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, WatchCreateRequest,
        WatchRequest, watch_request::RequestUnion,
    },
    mvccpb::Event,
};
use keyloom_testkit::{
    Step,
    program::{Group, Settings},
};
use keyloom_tests::{
    Client, Duel, Etcd, Ground, Keyloom, Kind, Version,
    duel::{everyday_keys, grant_leases, steps},
    ground::{self, FILE_AMONG, FILE_FIRST, FILES},
    split::Split,
    topology::{Matcher, Topology},
};
use tokio::sync::watch;

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

/// Runs a program in two halves with a restart between them.
async fn same_as_one(seed: u64, stores: [Kind; 3], length: usize) {
    let topology = Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ]);
    let (reference, ground) = tokio::join!(Etcd::start(Version::V36), Ground::start(&stores));
    let mut keyloom = ground::serve(&topology.file(ground.endpoints())).await;
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
    same_as_one(302, FILE_FIRST, steps(6_000)).await;
}

#[tokio::test]
async fn as_a_tenants_store_beside_etcds_answers_are_equal() {
    same_as_one(303, FILE_AMONG, steps(6_000)).await;
}

#[tokio::test]
async fn only_files_answer_as_one_etcd() {
    same_as_one(304, FILES, steps(6_000)).await;
}

/// What an operator sees of a file.
#[tokio::test]
async fn usage_and_statements_are_shown() {
    let home = tempfile::tempdir().expect("a temporary folder");
    // As kine's examples say it.
    let endpoint = format!(
        "sqlite://{}/a.db?_journal=WAL&cache=shared&_busy_timeout=300&_txlock=immediate\
         &_kine_disable_startup_vacuum",
        home.path().display()
    );
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
    let put = Step::Put(PutRequest {
        key: "a".into(),
        ..PutRequest::default()
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
        r#"keyloom_sqlstore_faults_total{store="default",fault="locked"} 1"#,
        r#"keyloom_sqlstore_objects{store="default"} 4"#,
        r#"keyloom_sqlstore_object_bytes{store="default"} 98"#,
        r#"keyloom_sqlstore_statement_duration_seconds_count{store="default",statement="commit"} 5"#,
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

/// Every event from a revision on, in the order of arrival, until there is one at `end`, which may
/// be made known later. After a delete that had nothing to delete there is none: `end` is one of a
/// put.
async fn events(client: Client, from: i64, mut end: watch::Receiver<i64>) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: from,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // The requests' end would be the stream's end.
    let requests = futures_util::stream::iter([request]).chain(futures_util::stream::pending());
    let answers = client.watch().watch(requests).await.expect("a stream");
    let mut answers = answers.into_inner();
    let mut events: Vec<Event> = Vec::new();
    loop {
        let last = events.last().and_then(|event| event.kv.as_ref());
        if last.is_some_and(|kv| kv.mod_revision >= *end.borrow_and_update()) {
            return events;
        }
        tokio::select! {
            answer = answers.message() => {
                let answer = answer.expect("an answer").expect("more of them");
                assert!(!answer.canceled, "{answer:?}");
                events.extend(answer.events);
            }
            changed = end.changed() => changed.expect("its sender lives"),
        }
    }
}

fn known(end: i64) -> watch::Receiver<i64> {
    let (tell, told) = watch::channel(end);
    // Never told anything else.
    std::mem::forget(tell);
    told
}

/// What watches deliver while it is written, afterwards and after a restart is what those of an
/// etcd deliver.
#[tokio::test]
async fn watches_deliver_what_those_of_an_etcd_deliver() {
    let reference = Etcd::start(Version::V36).await;
    let mut keyloom = Keyloom::alone().await;
    let (theirs, ours) = (reference.client(), keyloom.client());
    let mut settings = Settings::new(everyday_keys());
    settings.leases = grant_leases(&[&theirs, &ours]).await;
    settings.compactions = false;
    let mut duel = Duel::new(305, settings, theirs.clone(), ours.clone());
    let (tell, told) = watch::channel(i64::MAX);
    let live = [&theirs, &ours].map(|client| tokio::spawn(events(client.clone(), 2, told.clone())));
    duel.run(steps(3_000)).await;
    let revoked = LeaseRevokeRequest { id: 7_002 };
    for client in [&theirs, &ours] {
        client
            .lease()
            .lease_revoke(revoked)
            .await
            .expect("a revoke");
    }
    let head = theirs.put("last", "").await;
    assert_eq!(ours.put("last", "").await, head);
    tell.send(head).expect("they watch");
    let [expected, found] = live;
    let (expected, found) = (
        expected.await.expect("a watch"),
        found.await.expect("a watch"),
    );
    assert!(found == expected, "live");
    assert!(events(ours, 2, known(head)).await == expected, "afterwards");
    assert!(keyloom.terminate().await.success());
    keyloom.start_again().await;
    let middle = head / 2;
    let is_later = |event: &&Event| {
        event
            .kv
            .as_ref()
            .is_some_and(|kv| kv.mod_revision >= middle)
    };
    let later: Vec<_> = expected.iter().filter(is_later).cloned().collect();
    let found = events(keyloom.client(), middle, known(head)).await;
    assert!(found == later, "after a restart");
}

/// Leases end as those of an etcd do: one revision for each, and a DELETE with what was there. One
/// whose end comes while nobody serves ends when somebody does again.
#[tokio::test]
async fn leases_end_as_those_of_an_etcd_do() {
    let reference = Etcd::start(Version::V36).await;
    let mut keyloom = Keyloom::alone().await;
    let mut ended = Vec::new();
    for client in [reference.client(), keyloom.client()] {
        lease_with_keys(&client, 2, 5).await;
        ended.push(events(client, 5, known(5)).await);
    }
    let deleted = |events: &[Event]| -> Vec<_> {
        let mut keys: Vec<_> = events
            .iter()
            .map(|event| (event.clone().kv, event.clone().prev_kv, event.r#type))
            .collect();
        // Their order within the revision is nobody's promise.
        keys.sort_by(|(a, ..), (b, ..)| {
            a.as_ref()
                .map(|kv| &kv.key)
                .cmp(&b.as_ref().map(|kv| &kv.key))
        });
        keys
    };
    assert_eq!(ended[0].len(), 3);
    assert_eq!(deleted(&ended[1]), deleted(&ended[0]));

    lease_with_keys(&keyloom.client(), 3, 6).await;
    keyloom.kill().await;
    keyloom.start_again().await;
    let again = events(keyloom.client(), 9, known(9)).await;
    assert_eq!(again.len(), 3);
    assert_eq!(keyloom.client().get("/leased/0").await, None);
}

/// Grants a lease and hangs three keys on it, one revision each.
async fn lease_with_keys(client: &Client, ttl: i64, id: i64) {
    let grant = LeaseGrantRequest { ttl, id };
    client.lease().lease_grant(grant).await.expect("a lease");
    for number in 0..3 {
        let put = PutRequest {
            key: format!("/leased/{number}").into(),
            value: "held".into(),
            lease: id,
            ..PutRequest::default()
        };
        client.kv().put(put).await.expect("a write");
    }
}
