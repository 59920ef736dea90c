//! Which room may use which: the arrows of the house point one way.
//!
//! Only `[dependencies]` and `[build-dependencies]` are arrows; a room's tests may use any other.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Fault;
use crate::process::{cargo, output};

/// A room, and the rooms it may use.
type Room = (&'static str, &'static [&'static str]);

const ROOMS: [Room; 21] = [
    ("etcd-api", &[]),
    ("etcd-semantics", &["etcd-api"]),
    ("planted", &[]),
    ("topology", &["etcd-api"]),
    (
        "router",
        &["etcd-api", "etcd-semantics", "planted", "topology"],
    ),
    ("ledger", &["etcd-api", "planted"]),
    (
        "hub",
        &[
            "etcd-api",
            "etcd-semantics",
            "planted",
            "topology",
            "ledger",
        ],
    ),
    ("store", &["etcd-api"]),
    ("environment", &[]),
    (
        "etcd-store",
        &["etcd-api", "planted", "store", "environment"],
    ),
    ("kine-store", &["etcd-api", "store", "environment"]),
    (
        "sqlstore",
        &["etcd-api", "etcd-semantics", "store", "environment"],
    ),
    (
        "proxy",
        &[
            "etcd-api",
            "planted",
            "topology",
            "router",
            "ledger",
            "hub",
            "store",
            "environment",
            "etcd-store",
            "kine-store",
            "sqlstore",
        ],
    ),
    ("etcd-client", &["etcd-api"]),
    (
        "loadtest",
        &[
            "etcd-api",
            "etcd-client",
            "environment",
            "store",
            "topology",
            "proxy",
        ],
    ),
    ("testkit", &["etcd-api", "store"]),
    ("model", &[]),
    (
        "fuzz",
        &[
            "etcd-api",
            "topology",
            "router",
            "ledger",
            "store",
            "environment",
            "sqlstore",
            "proxy",
            "testkit",
        ],
    ),
    (
        "simulation",
        &[
            "etcd-api",
            "planted",
            "topology",
            "store",
            "environment",
            "etcd-store",
            "proxy",
            "testkit",
        ],
    ),
    (
        "tests",
        &[
            "etcd-api",
            "etcd-client",
            "topology",
            "router",
            "ledger",
            "hub",
            "store",
            "sqlstore",
            "proxy",
            "loadtest",
            "testkit",
        ],
    ),
    ("xtask", &[]),
];

const OURS: &str = "keyloom-";

pub(super) fn check(root: &Path) -> Result<Vec<Fault>> {
    let metadata = output(&mut cargo(
        root,
        &["metadata", "--no-deps", "--format-version=1"],
    ))?;
    let metadata = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
    faults(&metadata).context("cargo's metadata has another shape than it had")
}

/// `None` when the metadata is not what cargo writes.
fn faults(metadata: &Value) -> Option<Vec<Fault>> {
    let mut faults = Vec::new();
    for package in metadata.get("packages")?.as_array()? {
        let name = package.get("name")?.as_str()?;
        let name = name.strip_prefix(OURS).unwrap_or(name);
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == name) else {
            faults.push(fault(name, "has no row in the table of rooms"));
            continue;
        };
        for dependency in package.get("dependencies")?.as_array()? {
            let used = dependency.get("name")?.as_str()?.strip_prefix(OURS);
            let in_tests = dependency.get("kind")? == "dev";
            if let Some(used) = used.filter(|used| !in_tests && !allowed.contains(used)) {
                faults.push(fault(name, &format!("may not depend on {used}")));
            }
        }
    }
    Some(faults)
}

fn fault(room: &str, what: &str) -> Fault {
    Fault {
        place: room.to_owned(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(package: &str, dependency: &str, kind: &Value, expected: &[&str]) {
        let metadata = json!({"packages": [
            {"name": package, "dependencies": [{"name": dependency, "kind": kind}]}
        ]});
        let faults = faults(&metadata).unwrap();
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn arrows_point_one_way() {
        check("keyloom-router", "keyloom-topology", &json!(null), &[]);
        check(
            "keyloom-topology",
            "keyloom-router",
            &json!(null),
            &["topology: may not depend on router"],
        );
        check(
            "keyloom-etcd-api",
            "keyloom-store",
            &json!("build"),
            &["etcd-api: may not depend on store"],
        );
        check(
            "keyloom-proxy",
            "keyloom-testkit",
            &json!(null),
            &["proxy: may not depend on testkit"],
        );
        check("keyloom-proxy", "keyloom-testkit", &json!("dev"), &[]);
        check("keyloom-etcd-api", "prost", &json!(null), &[]);
    }

    #[test]
    fn every_room_has_a_row() {
        check(
            "keyloom-attic",
            "prost",
            &json!(null),
            &["attic: has no row in the table of rooms"],
        );
    }

    #[test]
    fn the_table_names_rooms_and_has_no_circle() {
        for (at, (_, uses)) in ROOMS.iter().enumerate() {
            for used in *uses {
                let place = ROOMS.iter().position(|(room, _)| room == used).unwrap();
                assert!(place < at, "{used}");
            }
        }
    }
}
