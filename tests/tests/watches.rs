//! Watches through Keyloom and on one etcd: what each watch is told is the same.

use keyloom_etcd_api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keyloom_testkit::program::{Group, Settings};
use keyloom_tests::{
    Etcd, Ground, Keyloom, Kind, Version,
    duel::{everyday_keys, steps},
    ground::{self, ETCDS},
    poll::eventually,
    stage::{DEFAULT, KEYS, PODS, Stage, TENANT},
    topology::{Matcher, Topology},
    watching::{WatchDuel, Watching},
};

/// Programs that write what every etcd takes.
pub(crate) fn settings(groups: Vec<Group>) -> Settings {
    Settings {
        bad_requests: false,
        ..Settings::new(groups)
    }
}

#[tokio::test]
async fn in_front_of_etcd_3_6_watches_are_told_the_same() {
    let [reference, store] = Etcd::start_all([Version::V36; 2]).await;
    let keyloom = Keyloom::in_front_of(&store.url()).await;
    let settings = settings(everyday_keys());
    let mut duel = WatchDuel::new(701, settings, reference.client(), keyloom.client());
    duel.run(steps(1_500)).await;
    assert!(duel.events > 1_000 && duel.asked > 20, "{duel:?}");
}

#[tokio::test]
async fn in_front_of_etcd_3_4_watches_are_told_the_same() {
    let [reference, store] = Etcd::start_all([Version::V34; 2]).await;
    let keyloom = Keyloom::in_front_of(&store.url()).await;
    let settings = Settings {
        watches_below_zero: false,
        ..settings(everyday_keys())
    };
    let mut duel = WatchDuel::new(702, settings, reference.client(), keyloom.client());
    duel = duel.with_early_progress();
    duel.run(steps(1_500)).await;
    assert!(duel.events > 1_000, "{duel:?}");
}

fn keys() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["web-1", "web-2", "web-3-odd"]),
        Group::new("/registry/pods/tenant-a/", &["web-1", "web-2"]),
        Group::new("/registry/secrets/default/", &["token", "tls"]),
        Group::new("/registry/secrets/tenant-a/", &["token", "tls"]),
        Group::new("/registry/services/specs/tenant-a/", &["web"]),
        Group::new("/registry/minions/node-", &["1", "2"]),
        Group::new("calico/", &["pool", "pool/a"]),
        Group::new("compact_rev_key", &[""]),
    ]
}

/// Runs a program in two halves with a restart between them.
pub(crate) async fn same_as_one(
    topology: &Topology,
    stores: [Kind; 3],
    seed: u64,
    length: usize,
) -> WatchDuel {
    let (etcd, ground) = tokio::join!(Etcd::start(Version::V36), Ground::start(&stores));
    let file = format!(
        "deleteRangeOverStores: refuse\n{}",
        topology.file(ground.endpoints())
    );
    let mut keyloom = ground::serve(&file).await;
    let (reference, tested) = (etcd.client(), keyloom.client());
    let mut duel = WatchDuel::new(seed, settings(keys()), reference, tested).merged();
    duel.run(length / 2).await;
    assert!(keyloom.terminate().await.success(), "a clean end");
    keyloom.start_again().await;
    duel.go_on_with(keyloom.client()).await;
    duel.run(length / 2).await;
    duel
}

pub(crate) fn by_namespace_and_prefix() -> Topology {
    Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ])
}

/// That a program over several stores has met what there is to meet.
pub(crate) fn assert_eventful(duel: &WatchDuel) {
    assert!(duel.events > 1_000 && duel.asked > 20, "{duel:?}");
    assert!(duel.lost > 0 && duel.refused > 0, "{duel:?}");
}

#[tokio::test]
async fn three_stores_split_by_namespace_and_prefix_tell_as_one() {
    let topology = by_namespace_and_prefix();
    let duel = same_as_one(&topology, ETCDS, 703, steps(2_000)).await;
    assert_eventful(&duel);
}

/// Every span has the store of an expression that can match in every range.
#[tokio::test]
async fn three_stores_split_by_an_expression_without_an_anchor_tell_as_one() {
    let topology = Topology::new(&[
        ("calico", Matcher::Bytes("calico/")),
        ("odd", Matcher::Suffix("-odd")),
    ]);
    let duel = same_as_one(&topology, ETCDS, 704, steps(1_500)).await;
    assert!(duel.events > 1_000 && duel.asked > 20, "{duel:?}");
}

// === a store that hangs ===

fn everything() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().expect("a header").revision
}

/// That the next events have these keys and revisions.
async fn gets(watch: &mut Watching, expected: &[(&str, i64)]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        for event in watch.next().await.events {
            let kv = event.kv.expect("a key");
            got.push((String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision));
        }
    }
    let got: Vec<_> = got.iter().map(|(key, at)| (key.as_str(), *at)).collect();
    assert_eq!(got, expected);
}

async fn progress(watch: &mut Watching) -> i64 {
    watch.ask_progress();
    loop {
        let response = watch.next().await;
        assert!(response.events.is_empty(), "{response:?}");
        if response.watch_id == -1 {
            return revision(&response);
        }
    }
}

#[tokio::test]
async fn a_write_is_delivered_to_a_merged_watch_while_another_store_hangs() {
    let mut stage = Stage::new(705).await;
    let client = stage.keyloom.client();
    let mut merged = Watching::open(&client);
    merged.create(everything());
    assert!(merged.next().await.created);
    // Everything that the store acknowledged is delivered.
    let before = progress(&mut merged).await;
    stage.stores[PODS].pause();
    let mut last = before;
    for _ in 0..20 {
        for store in [DEFAULT, TENANT] {
            last = client.put(KEYS[store], "while another hangs").await;
            gets(&mut merged, &[(KEYS[store], last)]).await;
        }
    }
    assert_eq!(progress(&mut merged).await, last);
    // A watch that begins now works as well, and so does one that begins in the past.
    let mut late = Watching::open(&client);
    late.create(WatchCreateRequest {
        start_revision: last,
        ..everything()
    });
    assert!(late.next().await.created);
    gets(&mut late, &[(KEYS[TENANT], last)]).await;
    // The store's own keys wait for it.
    stage.stores[PODS].resume();
    eventually("the store's return", || stage.get(PODS)).await;
    let own = client.put(KEYS[PODS], "again").await;
    let expected = [(KEYS[PODS], own)];
    gets(&mut merged, &expected).await;
    gets(&mut late, &expected).await;
}
