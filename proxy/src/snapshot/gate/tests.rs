//! What is held, what is waited for, and what begins anew.

use std::time::Duration;

use futures_util::FutureExt as _;
use keyloom_ledger::StoreSlot;
use keyloom_store::Store;
use keyloom_testkit::model::ModelStore;
use keyloom_topology::{Moved, ParseOptions, parse};
use tokio::time::timeout;

use super::*;
use crate::{
    order::Order,
    snapshot::{Floors, Validity},
};

fn snapshot() -> ServingSnapshot {
    let accepted = parse(
        "default: {endpoint: 'http://a:1'}",
        &ParseOptions::default(),
    );
    ServingSnapshot {
        topology: accepted.unwrap().topology,
        backends: vec![ServingStore {
            name: "default".to_owned(),
            store: Arc::new(ModelStore::default()) as Arc<dyn Store>,
            slot: StoreSlot::DEFAULT,
            is_alias: false,
            cluster_id: 1,
            traffic: Arc::default(),
        }],
        generation: 0,
        order: Order::Native,
        floors: Floors::default(),
        validity: Validity::default(),
    }
}

fn moved() -> Affected {
    let keys = keyloom_etcd_api::KeyRange::prefix("moved".into());
    Affected::of(&[Moved::Keys(keys)], &[])
}

fn key(key: &'static str) -> impl Fn(&Affected) -> bool {
    move |affected| affected.holds(key.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn only_what_moves_is_held_and_goes_on_when_the_gate_opens() {
    let (gate, snapshot) = (Arc::new(Gate::default()), snapshot());
    let member = snapshot.default_member().unwrap();
    let holding = gate.hold(moved());
    let other = gate.enter(&snapshot, member, key("other")).await;
    assert!(other.is_ok());
    let mut held = Box::pin(gate.enter(&snapshot, member, key("moved/x")));
    assert!(held.as_mut().now_or_never().is_none());
    drop(holding);
    assert_eq!(held.await.unwrap_err(), Superseded);
    assert!(gate.enter(&snapshot, member, key("moved/x")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_for_the_writes_before_it_and_not_for_others_since() {
    let (gate, snapshot) = (Arc::new(Gate::default()), snapshot());
    let member = snapshot.default_member().unwrap();
    let stores = [Arc::clone(&member.traffic)];
    let before = gate.enter(&snapshot, member, key("moved/x")).await.unwrap();
    for _ in 0..3 {
        let holding = gate.hold(moved());
        // What a change gave up to wait for is still waited for by the next.
        let drained = timeout(Duration::from_secs(1), holding.drain(&stores)).await;
        assert!(drained.is_err());
    }
    let holding = gate.hold(moved());
    let mut drained = Box::pin(holding.drain(&stores));
    assert!(drained.as_mut().now_or_never().is_none());
    drop(before);
    drained.await;
    let since = gate.enter(&snapshot, member, key("other")).await.unwrap();
    drop(holding);
    let holding = gate.hold(moved());
    let mut drained = Box::pin(holding.drain(&stores));
    assert!(drained.as_mut().now_or_never().is_none());
    drop(since);
    drained.await;
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_under_a_snapshot_that_was_replaced() {
    let (gate, snapshot) = (Arc::new(Gate::default()), snapshot());
    let member = snapshot.default_member().unwrap();
    snapshot.validity.replace();
    let entered = gate.enter(&snapshot, member, key("other")).await;
    assert_eq!(entered.unwrap_err(), Superseded);
}
