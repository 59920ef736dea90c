//! The real stack over an in-memory network: h2 on both sides, no socket, and time that
//! stands still while anything is under way.

mod network;
mod peer;

mod attempts;
mod failover;
mod limits;
mod own_connections;
mod recovery;
mod session;
mod streams;
mod tls;
mod writes;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use keyloom_etcd_api::{Metadata, Rpc};
use tokio::time::Instant;

use super::{EndpointState, Environment, EtcdEndpoint, EtcdStore, EtcdStoreConfig};
use crate::{metrics::Metrics, tests::network::Network};
use keyloom_environment::SeededRandom;
use keyloom_store::{Call, CallError, Lane, Store as _};

/// A configuration for hosts of the network, on port 1.
fn config(hosts: &[&str]) -> EtcdStoreConfig {
    let endpoint = |host: &&str| EtcdEndpoint::parse(&format!("http://{host}:1")).unwrap();
    EtcdStoreConfig::new("main", hosts.iter().map(endpoint).collect())
}

fn store_of(network: &Network, config: EtcdStoreConfig) -> EtcdStore {
    let environment = Environment {
        dial: Arc::new(network.clone()),
        random: Arc::new(SeededRandom::new(7)),
    };
    EtcdStore::new(config, &environment, &Metrics::default()).unwrap()
}

fn store(network: &Network, hosts: &[&str]) -> EtcdStore {
    store_of(network, config(hosts))
}

fn read() -> Call {
    Call {
        metadata: Metadata::default(),
        rpc: Rpc::Range,
        message: Bytes::from_static(b"read"),
        lane: Lane::Unary,
        deadline: None,
        idempotent: true,
    }
}

fn write() -> Call {
    Call {
        rpc: Rpc::Txn,
        message: Bytes::from_static(b"write"),
        idempotent: false,
        ..read()
    }
}

fn within(call: Call, time: Duration) -> Call {
    let deadline = Some((Instant::now() + time).into_std());
    Call { deadline, ..call }
}

fn states(store: &EtcdStore) -> Vec<EndpointState> {
    store
        .health()
        .into_iter()
        .map(|health| health.state)
        .collect()
}

/// Waits, in stopped time, until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// How long something takes in stopped time, with its outcome.
async fn timed<T>(future: impl Future<Output = T>) -> (Duration, T) {
    let started = Instant::now();
    let outcome = future.await;
    (started.elapsed(), outcome)
}

#[track_caller]
fn not_sent<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::NotSent(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Unknown(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, CallError>) -> keyloom_etcd_api::Status {
    match result {
        Err(CallError::Refused(status)) => status,
        other => panic!("{other:?}"),
    }
}
