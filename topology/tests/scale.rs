//! Ten thousand namespace routes on eight stores, and topologies changed after they were read.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_topology::{Cuts, MAX_INTERVALS, Moved, ParseOptions, StoreIndex, Topology, parse};

fn read(text: &str) -> Topology {
    parse(text, &ParseOptions::default()).unwrap().topology
}

fn prefix(text: &str) -> KeyRange {
    KeyRange::prefix(Bytes::copy_from_slice(text.as_bytes()))
}

/// Backends of 1,250 namespaces each: tenant `n` is on store `n % 8 + 1`.
fn tenants(kinds: &str) -> Topology {
    let mut text = "default: {endpoint: http://main:2379}\nbackends:\n".to_owned();
    for store in 0..8 {
        let names: Vec<_> = (0..10_000)
            .filter(|tenant| tenant % 8 == store)
            .map(|tenant| format!("tenant-{tenant}"))
            .collect();
        text.push_str(&format!(
            "- {{name: s{store}, endpoint: http://s{store}:2379, namespace: {{namespaces: [{}]{kinds}}}}}\n",
            names.join(", "),
        ));
    }
    read(&text)
}

fn stores(topology: &Topology, range: &KeyRange) -> Vec<u16> {
    topology
        .cover(range)
        .iter()
        .map(|part| part.store.0)
        .collect()
}

#[test]
fn ten_thousand_namespaces_are_nine_parts() {
    for kinds in ["", ", kinds: [pods, secrets]"] {
        let topology = tenants(kinds);
        for range in ["/registry/pods/", "/registry/", "/registry/pods/tenant-1"] {
            assert_eq!(
                stores(&topology, &prefix(range)),
                (0..9).collect::<Vec<_>>(),
                "{range}"
            );
        }
        for tenant in [0, 7, 4_321, 9_999] {
            let store = StoreIndex(tenant % 8 + 1);
            let name = format!("/registry/pods/tenant-{tenant}/");
            let parts = topology.cover(&prefix(&name));
            assert_eq!(parts.len(), 1, "{parts:?}");
            assert_eq!((parts[0].store, &parts[0].cuts), (store, &Cuts::Whole));
            assert_eq!(topology.route(format!("{name}x").as_bytes()), Some(store));
        }
        assert_eq!(
            stores(&topology, &prefix("/registry/pods/kube-system/")),
            [0]
        );
        assert_eq!(stores(&topology, &prefix("/registry/pods/tenantless")), [0]);
        // The hulls of the many are as tight as their first and last name.
        let pods = topology.cover(&prefix("/registry/pods/"));
        let first = pods
            .iter()
            .find(|part| part.store == StoreIndex(1))
            .unwrap();
        assert_eq!(first.cuts, Cuts::Filter);
        assert_eq!(first.hull.start, "/registry/pods/tenant-0/");
        assert_eq!(
            first.hull.end.as_ref().unwrap(),
            "/registry/pods/tenant-99920"
        );
    }
}

#[test]
fn ten_thousand_backends_on_eight_clusters_are_nine_parts() {
    let mut text = "default: {endpoint: http://main:2379}\nbackends:\n".to_owned();
    for tenant in 0..10_000 {
        text.push_str(&format!(
            "- {{name: t{tenant}, endpoint: http://s{}:2379, namespace: {{namespace: tenant-{tenant}}}}}\n",
            tenant % 8,
        ));
    }
    let same: Vec<_> = (8..10_000)
        .map(|tenant: u16| (StoreIndex(tenant % 8 + 1), StoreIndex(tenant + 1)))
        .collect();
    let topology = read(&text).with_same_store(&same);
    assert_eq!(
        stores(&topology, &prefix("/registry/pods/")),
        (0..9).collect::<Vec<_>>()
    );
    assert_eq!(
        topology.route(b"/registry/pods/tenant-4321/x"),
        Some(StoreIndex(2))
    );
    assert_eq!(
        topology
            .explain(b"/registry/pods/tenant-4321/x")
            .to_string(),
        "t1: backend t4321, namespace tenant-4321, line 4324",
    );
}

#[test]
fn few_intervals_are_listed_and_many_are_not() {
    let topology = |count: usize| {
        let names: Vec<_> = (0..count).map(|tenant| format!("t{tenant}")).collect();
        read(&format!(
            "default: {{endpoint: http://main:2379}}\nbackends:\n- {{name: a, endpoint: http://a:1, \
             namespace: {{namespaces: [{}]}}}}\n",
            names.join(", "),
        ))
    };
    let cuts = |count: usize| {
        let parts = topology(count).cover(&prefix("/registry/pods/"));
        let number = |cuts: &Cuts| match cuts {
            Cuts::Whole => 1,
            Cuts::Intervals(all) => all.len(),
            Cuts::Filter => 0,
        };
        parts
            .iter()
            .map(|part| number(&part.cuts))
            .collect::<Vec<_>>()
    };
    assert_eq!(cuts(1), [2, 1]);
    assert_eq!(cuts(100), [101, 100]);
    assert_eq!(cuts(MAX_INTERVALS), [0, MAX_INTERVALS]);
    assert_eq!(cuts(MAX_INTERVALS + 1), [0, 0]);
}

#[test]
fn many_names_of_one_store_do_not_blur_the_few_of_another() {
    let many: Vec<_> = (0..500).map(|tenant| format!("t{tenant}")).collect();
    let topology = read(&format!(
        "default: {{endpoint: http://main:2379}}\nbackends:\n\
         - {{name: a, endpoint: http://a:1, namespace: {{namespaces: [{}]}}}}\n\
         - {{name: b, endpoint: http://b:1, namespace: {{namespaces: [t12x, t13x]}}}}\n",
        many.join(", "),
    ));
    let parts = topology.cover(&prefix("/registry/pods/"));
    let cuts: Vec<_> = parts.iter().map(|part| &part.cuts).collect();
    assert!(
        matches!(cuts.as_slice(), [Cuts::Filter, Cuts::Filter, Cuts::Intervals(two)] if two.len() == 2),
        "{cuts:?}",
    );
}

#[test]
fn reserved_keys_are_nobodys() {
    let text = "default: {endpoint: http://main:2379}\nbackends:\n\
                - {name: a, endpoint: http://a:1, prefix: {key: /}}\n";
    let reserved = prefix("\0keyloom/");
    let topology = read(text).with_reserved(Some(reserved.clone()));
    assert_eq!(topology.route(b"\0keyloom/ledger"), None);
    assert_eq!(topology.route(b"\0keyloom"), Some(StoreIndex(0)));
    assert_eq!(topology.explain(b"\0keyloom/x").store, None);
    assert_eq!(topology.cover(&reserved), []);
    assert_eq!(
        topology.cover(&KeyRange::key(Bytes::from("\0keyloom/x"))),
        []
    );
    let parts = topology.cover(&KeyRange::all());
    let Cuts::Intervals(intervals) = &parts[0].cuts else {
        panic!("{parts:?}");
    };
    assert_eq!(intervals.len(), 3);
    assert_eq!(intervals[0].end.as_ref(), Some(&reserved.start));
    assert_eq!(Some(&intervals[1].start), reserved.end.as_ref());
    let free = topology.with_reserved(None);
    assert_eq!(free.route(b"\0keyloom/ledger"), Some(StoreIndex(0)));
}

#[test]
fn backends_on_one_cluster_are_one_store() {
    let text = "default: {endpoint: http://main:2379}\nbackends:\n\
                - {name: a, endpoint: http://a:1, prefix: {prefix: pods}}\n\
                - {name: b, endpoint: http://a:1, prefix: {prefix: secrets}}\n\
                - {name: c, endpoint: http://main:2379, prefix: {prefix: leases}}\n";
    let same = [
        (StoreIndex(1), StoreIndex(2)),
        (StoreIndex(3), StoreIndex(0)),
    ];
    let topology = read(text).with_same_store(&same);
    assert_eq!(
        topology.route(b"/registry/secrets/x/y"),
        Some(StoreIndex(1))
    );
    assert_eq!(topology.route(b"/registry/leases/x/y"), Some(StoreIndex(0)));
    assert_eq!(stores(&topology, &KeyRange::all()), [0, 1]);
    assert_eq!(topology.stores().len(), 4, "indexes do not shift");
}

#[test]
fn a_diff_says_what_moves() {
    let of = |backends: &str| {
        read(&format!(
            "default: {{endpoint: http://main:2379}}\nbackends:\n{backends}"
        ))
    };
    let pods = "- {name: p, endpoint: http://p:1, prefix: {prefix: pods}}\n";
    let tenant = "- {name: t, endpoint: http://t:1, namespace: {namespaces: [x, 'y*']}}\n";
    let said = |old: &str, new: &str| {
        let moves = of(old).diff(&of(new));
        moves.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(said(pods, pods), [""; 0]);
    assert_eq!(
        said("", pods),
        [
            "key b\"/registry/pods\": default -> p",
            "keys b\"/registry/pods/\" to b\"/registry/pods0\": default -> p",
        ],
    );
    assert_eq!(
        said(pods, &format!("{pods}{tenant}")),
        ["namespace x: default -> t", "namespace y*: default -> t",]
    );
    let (first, second) = (format!("{pods}{tenant}"), format!("{tenant}{pods}"));
    assert_eq!(
        said(&first, &second),
        [
            "keys b\"/registry/pods/x/\" to b\"/registry/pods/x0\": p -> t",
            "keys b\"/registry/pods/y\" to b\"/registry/pods/z\": p -> t, p",
        ]
    );
    let expression = "- {name: e, endpoint: http://e:1, regexp: {key: '^[a-z]+/x/[a-m]*e$'}}\n";
    let exact = "- {name: x, endpoint: http://x:1, namespace: {namespace: x}}\n";
    assert_eq!(
        said(
            &format!("{expression}{exact}"),
            &format!("{exact}{expression}")
        ),
        ["keys b\"/registry/\" to b\"/registry0\": default, e, x -> default, x, e"],
    );
    let limited =
        "- {name: t, endpoint: http://t:1, namespace: {namespace: 'y*', kinds: [pods]}}\n";
    assert_eq!(
        said("", limited),
        ["keys b\"/registry/pods/y\" to b\"/registry/pods/z\": default -> default, t",]
    );
    let renamed = pods.replace("http://p:1", "http://q:2");
    assert_eq!(
        said(pods, &renamed),
        [""; 0],
        "a store is known by its name"
    );
    let moves = of("").diff(&of(tenant));
    assert_eq!(moves[0].what, Moved::Namespace("x".into()));
}
