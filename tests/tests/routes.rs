//! Where calls go: as `topology route` says, by the stores' own counters; and no more of them than
//! pages and stores.

use std::{collections::BTreeSet, fmt::Write as _};

use futures_util::future::join_all;
use keyloom_etcd_api::etcdserverpb::RangeRequest;
use keyloom_testkit::program::Chance;
use keyloom_tests::{
    Client, Etcd, Keyloom, Version,
    duel::{seed, steps},
    routes::{Query, ask_all, by_stores, query, reads, routes},
    topology::{Matcher, Topology},
};

fn every_matcher() -> Topology {
    Topology::new(&[
        ("tenants", Matcher::Namespaces(&["tenant-a", "tenant-b"])),
        ("rbac", Matcher::Resources(&["roles", "clusterroles"])),
        ("pods", Matcher::Prefix("pods")),
        ("shirts", Matcher::Custom("stable.example.com", "shirts")),
        ("bytes", Matcher::Bytes("events")),
    ])
}

fn with_an_expression_without_an_anchor() -> Topology {
    Topology::new(&[
        ("odd", Matcher::Suffix("-odd")),
        ("teams", Matcher::Namespaces(&["team-a-*", "zone"])),
        ("services", Matcher::Prefix("services")),
        ("nodes", Matcher::Prefix("nodes")),
    ])
}

/// Sends queries in groups that touch the same stores: then each of these stores has answered as
/// many calls as there were queries, and no other store any.
async fn calls_go_where_route_says(topology: Topology, start: u64, count: usize) {
    let versions = vec![Version::V36; topology.stores()];
    let etcds = join_all(versions.into_iter().map(Etcd::start)).await;
    let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
    let keyloom = Keyloom::start(&topology.file(&urls)).await;
    let mut chance = Chance::new(seed(start));
    let queries: Vec<_> = (0..count).map(|_| query(&mut chance)).collect();
    let routes = routes(&keyloom.topology_file(), &queries);
    assert_eq!(routes.len(), count);
    agrees_on_keys(&topology, &queries, &routes);

    let client = keyloom.client();
    let mut before = reads(&etcds).await;
    for (stores, group) in by_stores(&queries, &routes) {
        ask_all(&client, &group).await;
        let after = reads(&etcds).await;
        for ((name, before), after) in topology.names().iter().zip(before).zip(&after) {
            let expected = if stores.iter().any(|store| store == name) {
                group.len()
            } else {
                0
            };
            let calls = after - before;
            assert_eq!(
                calls,
                i64::try_from(expected).expect("few"),
                "{name}, {group:?}"
            );
        }
        before = after;
    }
}

/// A key lies where the first matcher in the file says, by the plain words of this crate.
fn agrees_on_keys(topology: &Topology, queries: &[Query], routes: &[Vec<String>]) {
    for (query, stores) in queries.iter().zip(routes) {
        if query.range_end.is_empty() {
            let expected = topology.names()[topology.store_of(&query.key)];
            assert_eq!(stores, &[expected], "{query:?}");
        }
    }
}

#[tokio::test]
async fn calls_go_where_route_says_for_every_matcher() {
    calls_go_where_route_says(every_matcher(), 401, steps(10_000)).await;
}

#[tokio::test]
async fn calls_go_where_route_says_without_an_anchor() {
    let topology = with_an_expression_without_an_anchor();
    calls_go_where_route_says(topology, 402, steps(10_000)).await;
}

const STORES: usize = 8;
const NAMESPACES: usize = 10_000;
const PODS: usize = 4_000;
const PAGE: usize = 500;

/// Ten thousand namespaces, dealt out to all stores but the default one.
fn ten_thousand_namespaces(etcds: &[Etcd]) -> String {
    let mut file = format!("default:\n  endpoint: {}\nbackends:\n", etcds[0].url());
    for (at, etcd) in etcds.iter().enumerate().skip(1) {
        let mine = (0..NAMESPACES).filter(|namespace| store_of(*namespace) == at);
        let names: Vec<_> = mine.map(|namespace| format!("ns-{namespace:05}")).collect();
        let endpoint = etcd.url();
        write!(
            file,
            "- name: store-{at}\n  endpoint: {endpoint}\n  namespace:\n"
        )
        .expect("strings grow");
        writeln!(file, "    namespaces: [{}]", names.join(", ")).expect("strings grow");
    }
    file
}

/// Neighbours lie on different stores, which is the worst for lists.
fn store_of(namespace: usize) -> usize {
    1 + namespace % (STORES - 1)
}

fn pod(at: usize) -> String {
    let namespace = at * 7 % NAMESPACES;
    format!("/registry/pods/ns-{namespace:05}/web-{at:05}")
}

async fn put_pods(client: &Client) -> BTreeSet<String> {
    let keys: Vec<_> = (0..PODS).map(pod).collect();
    for some in keys.chunks(32) {
        join_all(some.iter().map(|key| client.put(key, "pod"))).await;
    }
    keys.into_iter().collect()
}

fn all_pods() -> RangeRequest {
    RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..RangeRequest::default()
    }
}

/// Reads all pods in pages as kube-apiserver does: all at the revision of the first.
async fn list_in_pages(client: &Client) -> (Vec<String>, usize) {
    let mut request = RangeRequest {
        limit: 500,
        ..all_pods()
    };
    let (mut keys, mut pages) = (Vec::new(), 0);
    loop {
        let page = client
            .kv()
            .range(request.clone())
            .await
            .expect("a page")
            .into_inner();
        pages += 1;
        let left = usize::try_from(page.count).expect("a count") - page.kvs.len();
        keys.extend(
            page.kvs
                .iter()
                .map(|kv| String::from_utf8_lossy(&kv.key).into_owned()),
        );
        assert_eq!(page.more, left > 0);
        assert_eq!(keys.len() + left, PODS, "the count is of all that is left");
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            return (keys, pages);
        };
        request.key = [&last.key[..], b"\0"].concat().into();
        if request.revision == 0 {
            request.revision = page.header.expect("a header").revision;
        }
    }
}

async fn calls_of(etcds: &[Etcd], what: impl Future<Output = ()>) -> i64 {
    let before = reads(etcds).await;
    what.await;
    let after = reads(etcds).await;
    after.iter().sum::<i64>() - before.iter().sum::<i64>()
}

#[tokio::test]
async fn ten_thousand_namespaces_on_eight_stores_cost_a_call_per_store_and_page() {
    let etcds = join_all([Version::V36; STORES].map(Etcd::start)).await;
    let keyloom = Keyloom::start(&ten_thousand_namespaces(&etcds)).await;
    let client = keyloom.client();
    let expected = put_pods(&client).await;
    let stores = i64::try_from(STORES).expect("few");

    let calls = calls_of(&etcds, async {
        let (keys, pages) = list_in_pages(&client).await;
        assert_eq!(pages, PODS / PAGE);
        assert!(keys.iter().eq(&expected), "every pod once, in order");
    });
    let calls = calls.await;
    let pages = i64::try_from(PODS / PAGE).expect("few");
    assert!(
        calls <= stores * pages,
        "{calls} calls for {pages} pages on {stores} stores"
    );

    let calls = calls_of(&etcds, async {
        let request = RangeRequest {
            count_only: true,
            ..all_pods()
        };
        let answer = client
            .kv()
            .range(request)
            .await
            .expect("a count")
            .into_inner();
        assert_eq!(answer.count, i64::try_from(PODS).expect("few"));
    });
    let calls = calls.await;
    assert!(
        calls <= stores,
        "{calls} calls for a count on {stores} stores"
    );

    let calls = calls_of(&etcds, async {
        let answer = client
            .kv()
            .range(all_pods())
            .await
            .expect("a list")
            .into_inner();
        assert_eq!(answer.kvs.len(), PODS);
    });
    let calls = calls.await;
    assert!(
        calls <= stores,
        "{calls} calls for a list on {stores} stores"
    );
}
