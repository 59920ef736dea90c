//! Watches that are open while the topology changes, over model stores with stopped time.

use std::{sync::Arc, time::Duration};

use crate::support::{
    Keyloom, Watching,
    changing::{ALL, PODS, RBAC, Stage, changed, topology},
    list, put,
};
use keyloom_etcd_api::Rpc;
use keyloom_proxy::{Applied, Refusal};
use keyloom_testkit::{
    Step,
    model::{Fault, Gate},
    program::Chance,
};
use tokio::{task::JoinHandle, time::sleep};

const SOON: Duration = Duration::from_secs(20);

fn delete(key: &str) -> Step {
    Step::DeleteRange(keyloom_etcd_api::etcdserverpb::DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    })
}

/// What one watch is sent, until nothing comes any more: (revision, key, is a deletion).
async fn read(watching: &mut Watching, until: usize) -> Vec<(i64, String, bool)> {
    let mut seen = Vec::new();
    while seen.len() < until {
        let Some(answer) = watching.next(SOON).await else {
            panic!("{} of {until} events came: {seen:?}", seen.len())
        };
        assert!(!answer.canceled, "{answer:?}");
        seen.extend(answer.events.iter().map(|event| {
            let kv = event.kv.as_ref().unwrap();
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            (kv.mod_revision, key, event.r#type == 1)
        }));
    }
    seen
}

/// Watches that are open while their range moves to and fro miss and repeat nothing.
async fn watched(seed: u64) -> usize {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(ALL[0])).await;
    let mut chance = Chance::new(seed);
    let prefixes = [
        "/registry/pods/",
        "/registry/",
        "/registry/pods/tenant-a/",
        "/registry/roles/",
    ];
    let mut watches = Vec::new();
    for prefix in prefixes {
        let mut watching = Watching::open(&keyloom).await;
        watching.watch(prefix, 0);
        assert!(watching.next(SOON).await.unwrap().created);
        watches.push((prefix, watching, 0));
    }
    let resources = [
        "/registry/pods/default/a",
        "/registry/pods/tenant-a/a",
        "/registry/roles/default/r",
        "/registry/services/specs/tenant-a/x",
    ];
    let (mut log, mut taken) = (Vec::new(), 0);
    for _ in 0..120 {
        match chance.below(4) {
            0 => {
                let next = topology(ALL[chance.below(ALL.len())]);
                if let Ok(Applied::Changed { moved: true }) = keyloom.apply(&next).await {
                    taken += 1;
                }
            }
            1 => {
                let key = resources[chance.below(resources.len())];
                let at = keyloom.put(key, "1").await.unwrap();
                log.push((at, key.to_owned(), false));
            }
            2 => {
                // Everything goes, so that routes can change.
                for kv in keyloom.range(list("/registry/")).await.unwrap().kvs {
                    let key = String::from_utf8(kv.key.to_vec()).unwrap();
                    let at = keyloom.ask(&delete(&key)).await.unwrap().revision();
                    log.push((at, key, true));
                }
            }
            _ => {
                // Some read now, others later.
                let (prefix, watching, read_so_far) = &mut watches[chance.below(4)];
                let mine: Vec<_> = log
                    .iter()
                    .filter(|(_, key, _)| key.starts_with(*prefix))
                    .collect();
                let seen = read(watching, mine.len() - *read_so_far).await;
                let expected: Vec<_> = mine[*read_so_far..].iter().map(|e| (*e).clone()).collect();
                assert_eq!(seen, expected, "seed {seed}, {prefix}");
                *read_so_far = mine.len();
            }
        }
    }
    for (prefix, watching, read_so_far) in &mut watches {
        let mine: Vec<_> = log
            .iter()
            .filter(|(_, key, _)| key.starts_with(*prefix))
            .collect();
        let seen = read(watching, mine.len() - *read_so_far).await;
        let expected: Vec<_> = mine[*read_so_far..].iter().map(|e| (*e).clone()).collect();
        assert_eq!(seen, expected, "seed {seed}, {prefix}");
        let more = watching.next(Duration::from_millis(500)).await;
        assert!(more.is_none_or(|more| more.events.is_empty()), "repeated");
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn watches_across_changes_miss_and_repeat_nothing() {
    let mut taken = 0;
    for seed in 0..30 {
        taken += watched(seed).await;
    }
    assert!(taken > 100, "only {taken} changes");
}

/// The first answer that is not of events.
async fn cancelled(watching: &mut Watching) -> Option<i64> {
    let answer = watching.next(Duration::from_millis(900)).await?;
    assert!(answer.canceled && answer.events.is_empty(), "{answer:?}");
    Some(answer.compact_revision)
}

#[tokio::test(start_paused = true)]
async fn only_watches_that_would_gain_keys_begin_anew() {
    let stage = Stage::new();
    let pods = stage.model("pods");
    pods.with(|etcd| etcd.apply(&put("/registry/pods/x/there", "1")))
        .unwrap();
    let keyloom = stage.start(&topology(&[RBAC])).await;
    let before = keyloom.put("/registry/secrets/x/s", "1").await.unwrap();
    let mut watches = Vec::new();
    for prefix in [
        "/registry/pods/",
        "/registry/",
        "/registry/pods/y/",
        "/registry/secrets/",
    ] {
        let mut watching = Watching::open(&keyloom).await;
        watching.watch(prefix, before + 1);
        assert!(watching.next(SOON).await.unwrap().created);
        watches.push(watching);
    }
    assert_eq!(keyloom.apply(&topology(&[RBAC, PODS])).await, changed(true));
    // A client that listed just before and watches just after gains them as well.
    let mut late = Watching::open(&keyloom).await;
    late.watch("/registry/pods/", before + 1);
    assert!(late.next(SOON).await.unwrap().created);
    assert!(cancelled(&mut late).await.unwrap() > before + 1);
    let head = keyloom.put("/registry/secrets/x/t", "1").await.unwrap();
    let [gains, all, other, secrets] = &mut watches[..] else {
        panic!()
    };
    let floor = cancelled(gains).await.unwrap();
    assert!(floor > before && floor < head, "{before} {floor} {head}");
    assert_eq!(cancelled(all).await, Some(floor));
    assert_eq!(read(secrets, 1).await.len(), 1);
    keyloom.put("/registry/pods/y/p", "1").await.unwrap();
    assert_eq!(read(other, 1).await.len(), 1);
    // What was there is seen from then on.
    let listed = keyloom.range(list("/registry/pods/")).await.unwrap();
    assert_eq!(listed.count, 2);
}

/// A write that nobody waits for any more lands on the store that its key has left.
#[tokio::test(start_paused = true)]
async fn a_late_write_is_not_seen_and_raises_an_alarm() {
    let stage = Stage::new();
    let keyloom = stage.start(&topology(&[RBAC])).await;
    assert_eq!(keyloom.apply(&topology(&[RBAC, PODS])).await, changed(true));
    let default = stage.model("default");
    let mut watching = Watching::open(&keyloom).await;
    watching.watch("/registry/", 0);
    assert!(watching.next(SOON).await.unwrap().created);
    default
        .with(|etcd| etcd.apply(&put("/registry/pods/x/late", "1")))
        .unwrap();
    keyloom.put("/registry/secrets/x/s", "1").await.unwrap();
    let seen = read(&mut watching, 1).await;
    assert_eq!(seen[0].1, "/registry/secrets/x/s");
    assert_eq!(keyloom.range(list("/registry/")).await.unwrap().count, 1);
    let metrics = keyloom.metrics();
    let alarm = "keyloom_proxy_topology_late_writes_total{store=\"default\"} 1";
    assert!(metrics.contains(alarm), "{metrics}");
}

/// Two stores that are served under either topology; pods move from the one to the other.
const BEFORE: &[(&str, &str)] = &[("pods", "prefix: {prefix: configmaps}")];
const AFTER: &[(&str, &str)] = &[PODS];

/// A change of topology that waits after it has asked both stores for the last time.
async fn amid_a_change(
    stage: &Stage,
    keyloom: &Arc<Keyloom>,
) -> (Gate, JoinHandle<Result<Applied, Refusal>>) {
    // Keys that route elsewhere are counted at the start.
    sleep(SOON).await;
    let (default, pods) = (stage.model("default"), stage.model("pods"));
    let (open, last) = (Gate::new(), Gate::new());
    open.release();
    // Each store is looked at twice for what it loses and twice for what it gains, at the key itself
    // and at what is below; and, once writes are held, asked where it stands.
    pods.inject_on(Rpc::Range, 4, Fault::HangsAfterApply(open));
    pods.inject_on(Rpc::Range, 1, Fault::HangsAfterApply(last.clone()));
    let looked_before = default.calls(Rpc::Range);
    let change = Arc::clone(keyloom);
    let change = tokio::spawn(async move { change.apply(&topology(AFTER)).await });
    last.until_arrived(1).await;
    assert_eq!(default.calls(Rpc::Range), looked_before + 5);
    (last, change)
}

/// Routes as they are before a change, and a watch of all pods.
async fn watched_pods(stage: &Stage) -> (Arc<Keyloom>, Watching) {
    let keyloom = Arc::new(stage.start(&topology(BEFORE)).await);
    let mut watching = Watching::open(&keyloom).await;
    watching.watch("/registry/pods/", 0);
    assert!(watching.next(SOON).await.unwrap().created);
    (keyloom, watching)
}

/// Somebody else writes a key that moves, after it was looked for: who was shown it would never be
/// told that it is gone.
#[tokio::test(start_paused = true)]
async fn a_key_that_comes_amid_the_change_is_not_hidden() {
    let stage = Stage::new();
    let (keyloom, mut watching) = watched_pods(&stage).await;
    let (gate, change) = amid_a_change(&stage, &keyloom).await;
    stage
        .model("default")
        .with(|etcd| etcd.apply(&put("/registry/pods/x/amid", "1")))
        .unwrap();
    assert_eq!(read(&mut watching, 1).await.len(), 1);
    gate.release();
    let refused = change.await.unwrap();
    assert!(
        matches!(refused, Err(Refusal::Hides { count: 1, .. })),
        "{refused:?}"
    );
    assert_eq!(
        keyloom.range(list("/registry/pods/")).await.unwrap().count,
        1
    );
    // Once it is gone again the change is taken, and the same watch goes on.
    keyloom.ask(&delete("/registry/pods/x/amid")).await.unwrap();
    assert_eq!(keyloom.apply(&topology(AFTER)).await, changed(true));
    keyloom.put("/registry/pods/x/new", "1").await.unwrap();
    assert_eq!(read(&mut watching, 2).await.len(), 2);
}

/// One that came and went again is nobody's loss.
#[tokio::test(start_paused = true)]
async fn a_key_that_comes_and_goes_amid_the_change_is_told_and_forgotten() {
    let stage = Stage::new();
    let (keyloom, mut watching) = watched_pods(&stage).await;
    let (gate, change) = amid_a_change(&stage, &keyloom).await;
    for step in [
        put("/registry/pods/x/amid", "1"),
        delete("/registry/pods/x/amid"),
    ] {
        stage
            .model("default")
            .with(|etcd| etcd.apply(&step))
            .unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    gate.release();
    assert_eq!(change.await.unwrap(), changed(true));
    assert_eq!(read(&mut watching, 2).await.len(), 2);
    assert_eq!(
        keyloom.range(list("/registry/pods/")).await.unwrap().count,
        0
    );
}

/// Somebody else writes a key to the store that keys move to, after it was looked at: whoever
/// watches has to learn of it.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_gained_amid_the_change_is_not_missed() {
    let stage = Stage::new();
    let keyloom = Arc::new(stage.start(&topology(BEFORE)).await);
    let mut watches = Vec::new();
    for prefix in ["/registry/pods/", "/registry/pods/y/"] {
        let mut watching = Watching::open(&keyloom).await;
        watching.watch(prefix, 0);
        assert!(watching.next(SOON).await.unwrap().created);
        watches.push(watching);
    }
    let (gate, change) = amid_a_change(&stage, &keyloom).await;
    let pods = stage.model("pods");
    pods.with(|etcd| etcd.apply(&put("/registry/pods/x/amid", "1")))
        .unwrap();
    // It has its place below the change.
    sleep(Duration::from_secs(1)).await;
    gate.release();
    assert_eq!(change.await.unwrap(), changed(true));
    assert_eq!(
        keyloom.range(list("/registry/pods/")).await.unwrap().count,
        1
    );
    let [gains, other] = &mut watches[..] else {
        panic!()
    };
    assert!(cancelled(gains).await.is_some());
    keyloom.put("/registry/pods/y/p", "1").await.unwrap();
    assert_eq!(read(other, 1).await.len(), 1);
}

/// While a store's watch does not deliver what is ordered already, it is not known what is hidden.
#[tokio::test(start_paused = true)]
async fn a_change_waits_for_what_is_not_delivered() {
    let stage = Stage::new();
    let keyloom = Arc::new(stage.start(&topology(BEFORE)).await);
    let (gate, change) = amid_a_change(&stage, &keyloom).await;
    let default = stage.model("default");
    default.hold_watches(true);
    default
        .with(|etcd| etcd.apply(&put("/registry/pods/x/amid", "1")))
        .unwrap();
    keyloom.put("/registry/secrets/x/s", "1").await.unwrap();
    gate.release();
    let refused = change.await.unwrap();
    let expected = Refusal::Lags {
        store: "default".to_owned(),
    };
    assert_eq!(refused, Err(expected));
    default.hold_watches(false);
    let refused = keyloom.apply(&topology(AFTER)).await;
    assert!(
        matches!(refused, Err(Refusal::Hides { count: 1, .. })),
        "{refused:?}"
    );
}
