//! What clients do.
//!
//! | | |
//! |---|---|
//! | [`general`] | any client of etcd: ranges with every option, puts, deletes, transactions |
//! | [`kubernetes`] | as kube-apiserver: optimistic writes, pages, compaction |
//! | [`foreign`] | somebody who writes to the stores themselves, past Keyloom |
//! | [`leases`] | grants, keep-alives, revokes, expiry |
//! | [`viewer`] | watches: from a list, from old revisions, with progress, filters, slow readers |

pub(crate) mod foreign;
pub(crate) mod general;
pub(crate) mod kubernetes;
pub(crate) mod leases;
pub(crate) mod viewer;

use keyloom_testkit::program::{Group, Settings};

/// The keys of a run. Each group lies on one store under every topology.
pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group::new("/registry/pods/default/", &["a", "b"]),
        Group::new("/registry/pods/tenant-a/", &["a"]),
        Group::new("/registry/roles/default/", &["a", "b"]),
        Group::new("/registry/secrets/default/", &["a"]),
        Group::new("/registry/secrets/tenant-a/", &["a", "b"]),
        Group::new("/registry/services/default/", &["a"]),
    ]
}

pub(crate) fn settings() -> Settings {
    Settings {
        spanning_writes: false,
        compactions: false,
        bad_requests: false,
        leases: vec![1],
        ..Settings::new(groups())
    }
}
