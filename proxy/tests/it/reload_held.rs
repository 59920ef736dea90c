//! What a change of topology reads while writes to what moves wait for it.

use std::{sync::Arc, time::Duration};

use crate::support::{
    Keyloom,
    changing::{RBAC, Stage, TENANT, changed, topology},
    list, put,
};
use keyloom_etcd_api::{Rpc, etcdserverpb::RangeRequest};
use keyloom_proxy::{Applied, Refusal};
use keyloom_testkit::{
    Step,
    model::{Fault, Gate},
};
use prost::Message as _;
use tokio::{task::JoinHandle, time::sleep};

fn delete(key: &str) -> Step {
    Step::DeleteRange(keyloom_etcd_api::etcdserverpb::DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    })
}

/// A change to [`TENANT`] whose hold waits for a deletion that hangs, over many keys that stay.
struct Held {
    stage: Stage,
    keyloom: Arc<Keyloom>,
    hanging: (Gate, JoinHandle<()>),
    change: JoinHandle<Result<Applied, Refusal>>,
}

impl Held {
    async fn begin(keys: usize) -> Self {
        let stage = Stage::new();
        let default = stage.model("default");
        for number in 0..keys {
            let put = put(&format!("/registry/configmaps/x/{number:05}"), "1");
            default.with(|etcd| etcd.apply(&put)).unwrap();
        }
        let keyloom = Arc::new(stage.start(&topology(&[RBAC])).await);
        let gate = Gate::new();
        default.inject_on(Rpc::DeleteRange, 1, Fault::HangsBeforeApply(gate.clone()));
        let deleting = Arc::clone(&keyloom);
        let hanging = tokio::spawn(async move {
            let none = delete("/registry/pods/tenant-a/none");
            deleting.ask(&none).await.unwrap();
        });
        gate.until_arrived(1).await;
        drop(default.take_received());
        let changing = Arc::clone(&keyloom);
        let change = tokio::spawn(async move { changing.apply(&topology(&[TENANT, RBAC])).await });
        // Time stands still until nothing else goes on.
        sleep(Duration::from_secs(1)).await;
        Self {
            stage,
            keyloom,
            hanging: (gate, hanging),
            change,
        }
    }

    /// The limits of the reads that have reached the default store since the last time.
    fn read(&self) -> Vec<i64> {
        let received = self.stage.model("default").take_received();
        let ranges = received.iter().filter(|(rpc, _)| *rpc == Rpc::Range);
        ranges
            .map(|(_, message)| RangeRequest::decode(message.clone()).unwrap().limit)
            .collect()
    }

    async fn end(self) -> Result<Applied, Refusal> {
        self.hanging.0.release();
        self.hanging.1.await.unwrap();
        self.change.await.unwrap()
    }
}

/// However many keys there are below the registry's prefix: they are read before writes wait.
#[tokio::test(start_paused = true)]
async fn while_writes_wait_a_change_reads_one_key_of_a_store() {
    let held = Held::begin(5000).await;
    assert_eq!(held.read(), [2000; 3]);
    let keyloom = Arc::clone(&held.keyloom);
    let waiting = tokio::spawn(async move { keyloom.put("/registry/pods/tenant-a/p", "1").await });
    sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    assert!(held.read().is_empty());
    let (stage, keyloom) = (
        held.stage.model("default").clone(),
        Arc::clone(&held.keyloom),
    );
    assert_eq!(held.end().await, changed(true));
    waiting.await.unwrap().unwrap();
    let received = stage.take_received();
    let ranges = received.iter().filter(|(rpc, _)| *rpc == Rpc::Range);
    let limits = ranges.map(|(_, message)| RangeRequest::decode(message.clone()).unwrap().limit);
    assert_eq!(limits.collect::<Vec<_>>(), [1]);
    assert_eq!(
        keyloom.range(list("/registry/pods/")).await.unwrap().count,
        1
    );
}

/// What changed while the keys were read is remembered up to a bound; beyond it they are read again.
#[tokio::test(start_paused = true)]
async fn where_too_much_changed_meanwhile_a_change_checks_all_again() {
    let held = Held::begin(10).await;
    let default = held.stage.model("default");
    for number in 0..=10_000 {
        let key = format!("/registry/pods/tenant-a/{number:05}");
        for step in [put(&key, "1"), delete(&key)] {
            default.with(|etcd| etcd.apply(&step)).unwrap();
        }
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(held.end().await, changed(true));
}
