//! Where the programs are. A missing one fails the test: nothing is ever skipped.

use std::{env, path::PathBuf};

/// The `keyloom` under test.
#[must_use]
pub fn keyloom() -> PathBuf {
    program(named("KEYLOOM_BIN"))
}

/// One of the pinned peers: `etcd`, `etcdctl`, `etcdutl`, `kine`.
#[must_use]
pub fn peer(name: &str) -> PathBuf {
    program(named("KEYLOOM_PEERS").join(name))
}

/// A program of the newest Kubernetes, or of the older one.
#[must_use]
pub fn kubernetes(old: bool, name: &str) -> PathBuf {
    let folder = if old {
        "KEYLOOM_KUBERNETES_OLD"
    } else {
        "KEYLOOM_KUBERNETES"
    };
    program(named(folder).join(name))
}

/// The distribution's etcd 3.4.
#[must_use]
pub fn etcd34() -> PathBuf {
    program(named("KEYLOOM_ETCD34"))
}

/// The distribution's etcdctl 3.4, beside its etcd if not named.
#[must_use]
pub fn etcdctl34() -> PathBuf {
    let beside = || named("KEYLOOM_ETCD34").with_file_name("etcdctl");
    program(env::var_os("KEYLOOM_ETCDCTL34").map_or_else(beside, PathBuf::from))
}

fn named(variable: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run these tests by `cargo xtask e2e`"),
    }
}

fn program(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "there is no program {}", path.display());
    path
}
