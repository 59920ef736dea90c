//! Three stores behind a Keyloom, and one etcd that has all the keys: what the tests of failures
//! begin with.

use keyloom_etcd_api::{
    Status,
    etcdserverpb::{PutRequest, RangeRequest, RangeResponse},
};
use keyloom_etcd_client::Answered as _;
use keyloom_testkit::{
    Step,
    program::{Group, Settings},
};

use crate::{
    client::Client,
    duel::Duel,
    etcd::{Etcd, Version},
    keyloom::Keyloom,
    split::Split,
    topology::{Matcher, Topology},
};

/// A store of a [`Stage`].
pub const DEFAULT: usize = 0;
pub const TENANT: usize = 1;
pub const PODS: usize = 2;

/// A key on each store, by its number.
pub const KEYS: [&str; 3] = [
    "/registry/secrets/default/a",
    "/registry/secrets/tenant-a/a",
    "/registry/pods/default/a",
];

/// A running Keyloom, its stores, and the reference.
#[derive(Debug)]
pub struct Stage {
    pub stores: Vec<Etcd>,
    _reference: Etcd,
    pub keyloom: Keyloom,
    pub split: Split,
    pub file: String,
}

fn topology() -> Topology {
    Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ])
}

fn settings() -> Settings {
    Settings {
        spanning_writes: false,
        bad_requests: false,
        ..Settings::new(vec![
            Group::new("/registry/secrets/default/", &["a", "b"]),
            Group::new("/registry/secrets/tenant-a/", &["a", "b"]),
            Group::new("/registry/pods/default/", &["a", "b"]),
        ])
    }
}

impl Stage {
    /// Stores that have a key each, and a Keyloom with a term that a busy machine keeps.
    pub async fn new(seed: u64) -> Self {
        let versions = [Version::V36, Version::V36, Version::V34, Version::V36];
        let [reference, stores @ ..] = Etcd::start_all(versions).await;
        let urls: Vec<_> = stores.iter().map(Etcd::url).collect();
        let file = topology().file(&urls);
        let mut keyloom = Keyloom::launch_with(&file, &["--term", "5s"]);
        keyloom.ready().await;
        let duel = Duel::new(seed, settings(), reference.client(), keyloom.client());
        let split = Split::new(duel, topology());
        let mut stage = Self {
            stores: stores.into(),
            _reference: reference,
            keyloom,
            split,
            file,
        };
        for key in KEYS {
            stage.put(key).await;
        }
        stage
    }

    /// Puts a key on both sides.
    pub async fn put(&mut self, key: &'static str) {
        let put = PutRequest {
            key: key.into(),
            value: "v".into(),
            ..PutRequest::default()
        };
        self.split.duel.compare(&Step::Put(put)).await;
    }

    /// What a read of this store's key answers through Keyloom.
    ///
    /// # Errors
    /// As Keyloom.
    pub async fn get(&self, store: usize) -> Result<RangeResponse, Status> {
        let request = RangeRequest {
            key: KEYS[store].into(),
            ..RangeRequest::default()
        };
        range(&self.keyloom.client(), request).await
    }

    /// Starts Keyloom again after its end, and goes on with it.
    pub async fn start_keyloom_again(&mut self) {
        self.keyloom.start_again().await;
        self.split.duel.go_on_with(self.keyloom.client());
    }
}

/// One range.
///
/// # Errors
/// As the endpoint.
pub async fn range(client: &Client, request: RangeRequest) -> Result<RangeResponse, Status> {
    client.kv().range(request).await.answered()
}
