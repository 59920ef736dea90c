//! The rooms that only decide link no network and no runtime, not even through another crate.

use std::path::Path;

use anyhow::Result;

use super::Fault;
use crate::process::{cargo, output};

/// Rooms without a socket, a task or a clock.
const ROOMS: [&str; 7] = [
    "etcd-api", "planted", "topology", "router", "ledger", "hub", "store",
];

/// What brings sockets, tasks and clocks.
const KEPT_OUT: [&str; 8] = [
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "rustls",
    "tokio",
    "tonic",
    "tower",
];

pub(super) fn check(root: &Path) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for room in ROOMS {
        let tree = output(&mut cargo(
            root,
            &[
                "tree",
                "--locked",
                "--edges=normal",
                "--prefix=none",
                "--format={p}",
                &format!("--package=keyloom-{room}"),
            ],
        ))?;
        faults.extend(linked(room, &tree));
    }
    Ok(faults)
}

/// What a room links that it must not, from the lines of `cargo tree`: a name, then its version.
fn linked(room: &str, tree: &str) -> Vec<Fault> {
    let mut names: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| KEPT_OUT.contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
        .iter()
        .map(|name| Fault {
            place: room.to_owned(),
            what: format!("is pure and links {name}: `cargo tree -p keyloom-{room} -i {name}`"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_through_another_crate_is_found_once() {
        let tree = "keyloom-hub v0.0.0 (/house/hub)\nbytes v1.12.1\ntonic v0.14.9\n\
                    tokio v1.54.1\nbytes v1.12.1 (*)\ntokio v1.54.1 (*)\n";
        let faults: Vec<_> = linked("hub", tree)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            faults,
            [
                "hub: is pure and links tokio: `cargo tree -p keyloom-hub -i tokio`",
                "hub: is pure and links tonic: `cargo tree -p keyloom-hub -i tonic`",
            ]
        );
    }

    #[test]
    fn a_name_that_only_begins_so_is_no_fault() {
        let tree = "keyloom-hub v0.0.0 (/house/hub)\ntokio-stream-like v1.0.0\nhttp v1.3.1\n";
        assert_eq!(linked("hub", tree), []);
    }
}
