//! Three stores against one etcd that has all the keys: the same answers, revisions included.

use keyloom_testkit::program::{Group, Settings};
use keyloom_tests::{
    Duel, Etcd, Keyloom, Version,
    duel::steps,
    split::Split,
    topology::{Matcher, Topology},
};

const STORES: [Version; 3] = [Version::V36, Version::V34, Version::V36];

/// Keys as Kubernetes sets them. Each group lies on one store of any topology below, so that a
/// write inside one is never refused.
fn keys() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["web-1", "web-2", "web-3-odd"]),
        Group::new("/registry/pods/tenant-a/", &["web-1", "web-2"]),
        Group::new("/registry/secrets/default/", &["token", "tls"]),
        Group::new("/registry/secrets/tenant-a/", &["token", "tls"]),
        Group::new(
            "/registry/stable.example.com/shirts/tenant-a/",
            &["red", "blue"],
        ),
        Group::new("/registry/services/specs/tenant-a/", &["web"]),
        // A key in the namespace of a tenant could lie right below `minions/`.
        Group::new("/registry/minions/node-", &["1", "2"]),
        Group::new("calico/", &["pool", "pool/a"]),
        Group::new("compact_rev_key", &[""]),
    ]
}

fn by_namespace_and_prefix() -> Topology {
    Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ])
}

fn by_expression_and_namespace() -> Topology {
    Topology::new(&[
        ("secrets", Matcher::Resources(&["secrets", "configmaps"])),
        ("tenant", Matcher::Namespaces(&["tenant-a", "tenant-b"])),
    ])
}

fn by_bytes_and_suffix() -> Topology {
    Topology::new(&[
        ("calico", Matcher::Bytes("calico/")),
        ("odd", Matcher::Suffix("-odd")),
    ])
}

struct Stage {
    _etcds: [Etcd; 4],
    keyloom: Keyloom,
    split: Split,
}

impl Stage {
    async fn new(topology: Topology, seed: u64, settings: Settings) -> Self {
        let [a, b, c] = STORES;
        let etcds = Etcd::start_all([Version::V36, a, b, c]).await;
        let urls: Vec<_> = etcds[1..].iter().map(Etcd::url).collect();
        let keyloom = Keyloom::start(&topology.file(&urls)).await;
        let duel = Duel::new(seed, settings, etcds[0].client(), keyloom.client());
        Self {
            _etcds: etcds,
            keyloom,
            split: Split::new(duel, topology),
        }
    }

    async fn restart_keyloom(&mut self) {
        assert!(self.keyloom.terminate().await.success(), "a clean end");
        self.keyloom.start_again().await;
        self.split.duel.go_on_with(self.keyloom.client());
    }
}

/// Runs a program in two halves with a restart between them.
async fn same_as_one(topology: Topology, seed: u64, settings: Settings, length: usize) -> Split {
    let mut stage = Stage::new(topology, seed, settings).await;
    stage.split.run(length / 2).await;
    stage.restart_keyloom().await;
    stage.split.compare_history().await;
    stage.split.run(length / 2).await;
    stage.split
}

/// Writes stay on one store, so none may be refused. (A bad request may be bad by touching two.)
fn tame() -> Settings {
    Settings {
        spanning_writes: false,
        bad_requests: false,
        ..Settings::new(keys())
    }
}

#[tokio::test]
async fn split_by_namespace_and_prefix() {
    let split = same_as_one(by_namespace_and_prefix(), 201, tame(), steps(10_000)).await;
    assert_eq!(split.refused, 0, "{}", split.last_refusal);
}

#[tokio::test]
async fn split_by_expression_and_namespace() {
    let split = same_as_one(by_expression_and_namespace(), 202, tame(), steps(10_000)).await;
    assert_eq!(split.refused, 0, "{}", split.last_refusal);
}

#[tokio::test]
async fn split_with_writes_over_several_stores() {
    let settings = Settings::new(keys());
    let split = same_as_one(by_namespace_and_prefix(), 203, settings, steps(10_000)).await;
    assert!(split.refused > 0 && split.split > 0, "{split:?}");
}

/// An expression without an anchor can match in every range: every span has its store.
#[tokio::test]
async fn split_by_an_expression_without_an_anchor() {
    let settings = Settings::new(keys());
    let split = same_as_one(by_bytes_and_suffix(), 204, settings, steps(8_000)).await;
    assert!(split.refused > 0 && split.split > 0, "{split:?}");
}
