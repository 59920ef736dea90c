//! Backends on one cluster are one store: they share its revisions.

use std::collections::BTreeMap;

use keyloom_topology::{StoreIndex, Topology};
use tracing::warn;

/// The topology in which the stores of one cluster are one store, and for each store the first one
/// that is its cluster, most often itself. `clusters` are in the order of the topology's stores;
/// `None` is a store that does not answer. A `known` cluster is stood for by the store that the
/// ledger knows, wherever it is in the file.
pub(super) fn one_store_per_cluster(
    topology: Topology,
    clusters: &[Option<u64>],
    known: impl IntoIterator<Item = (u64, usize)>,
) -> (Topology, Vec<usize>) {
    let mut first_of = BTreeMap::new();
    for (cluster, index) in known {
        first_of.entry(cluster).or_insert(index);
    }
    let same_as = clusters.iter().enumerate().map(|(index, cluster)| {
        cluster.map_or(index, |cluster| *first_of.entry(cluster).or_insert(index))
    });
    let same_as: Vec<usize> = same_as.collect();
    let mut same = Vec::new();
    for (index, first) in same_as.iter().copied().enumerate() {
        if first != index {
            let name = topology.stores().get(index).map(|spec| &*spec.name);
            let first_name = topology.stores().get(first).map(|spec| &*spec.name);
            warn!(
                store = name,
                same_as = first_name,
                "two backends are one cluster; they are served as one store"
            );
            same.push((store_index(first), store_index(index)));
        }
    }
    (topology.with_same_store(&same), same_as)
}

/// A topology has fewer stores than an index can count.
fn store_index(index: usize) -> StoreIndex {
    StoreIndex(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use keyloom_topology::{ParseOptions, parse};

    use super::*;

    const FILE: &str = "
        default: {endpoint: 'http://a:1'}
        backends:
          - {name: b, endpoint: 'http://b:1', prefix: {prefix: pods}}
          - {name: c, endpoint: 'http://c:1', prefix: {prefix: secrets}}
          - {name: d, endpoint: 'http://d:1', prefix: {prefix: leases}}";

    fn same_as(clusters: [Option<u64>; 4], known: &[(u64, usize)]) -> (Topology, Vec<usize>) {
        let topology = parse(FILE, &ParseOptions::default()).unwrap().topology;
        one_store_per_cluster(topology, &clusters, known.iter().copied())
    }

    #[test]
    fn the_store_that_the_ledger_knows_stands_for_its_cluster() {
        let clusters = [Some(1), Some(2), Some(2), None];
        assert_eq!(same_as(clusters, &[]).1, [0, 1, 1, 3]);
        let (topology, same) = same_as(clusters, &[(2, 2)]);
        assert_eq!(same, [0, 2, 2, 3]);
        assert_eq!(topology.route(b"/registry/pods/x"), Some(StoreIndex(2)));
    }

    #[test]
    fn stores_that_do_not_answer_are_not_taken_for_one() {
        assert_eq!(same_as([Some(1), None, None, Some(1)], &[]).1, [0, 1, 2, 0]);
    }
}
