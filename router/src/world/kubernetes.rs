//! Worlds under topology files, with Kubernetes' keys.

use bytes::Bytes;
use keyloom_etcd_api::{KeyRange, etcdserverpb::RangeRequest};
use keyloom_topology::{ParseOptions, Topology};
use proptest::prelude::*;

use super::{STORES, World, query_of, write_of};

/// Matchers, each for a store of its own.
const MATCHERS: [&str; 12] = [
    "namespace: {namespace: ns-1}",
    "namespace: {namespaces: [ns-1, 'ns-2*']}",
    "namespace: {namespace: ns-2, kinds: [pods, shirts.stable.example.com]}",
    "prefix: {prefix: pods}",
    "prefix: {prefix: pods/ns-1}",
    "prefix: {key: /registry/c}",
    "prefix: {key: plain}",
    "customresource: {group: stable.example.com, kind: shirts}",
    "regexp: {key: '^(pods|configmaps)/ns-1/'}",
    "regexp: {key: '^pods/.*/b$'}",
    "regexp: {key: 'a$'}",
    "regexp: {key: 'ns-[23]'}",
];

fn topology() -> impl Strategy<Value = Topology> {
    let matchers = prop::collection::vec(prop::sample::select(&MATCHERS[..]), 0..STORES.into());
    let reserved = prop::option::of(prop::sample::select(vec![
        "\0keyloom/",
        "/registry/pods/ns-2/",
    ]));
    (matchers, reserved).prop_map(|(matchers, reserved)| {
        let mut file = "default: {endpoint: 'http://127.0.0.1:1'}\n".to_owned();
        for (n, matcher) in matchers.iter().enumerate() {
            if n == 0 {
                file.push_str("backends:\n");
            }
            let port = n + 2;
            file.push_str(&format!(
                "- name: store-{port}\n  endpoint: http://127.0.0.1:{port}\n  {matcher}\n"
            ));
        }
        let accepted = keyloom_topology::parse(&file, &ParseOptions::default());
        let reserved = reserved.map(|prefix| KeyRange::prefix(Bytes::from(prefix)));
        accepted.unwrap().topology.with_reserved(reserved)
    })
}

fn key() -> impl Strategy<Value = Bytes> {
    let namespaced = (
        prop::sample::select(vec![
            "pods",
            "configmaps",
            "stable.example.com/shirts",
            "services/specs",
        ]),
        prop::sample::select(vec!["ns-1", "ns-2", "ns-22", "ns-3"]),
        prop::sample::select(vec!["/a", "/b", "/ba", "/", ""]),
    );
    prop_oneof![
        8 => namespaced.prop_map(|(kind, namespace, name)| {
            format!("/registry/{kind}/{namespace}{name}")
        }),
        2 => prop::sample::select(vec![
            "/registry/pods", "/registry/pods/", "/registry/minions/a", "/registry/podsets/a",
            "/registry/stable.example.com/", "plain", "plain/a", "compact_rev_key", "\0keyloom/x",
        ])
        .prop_map(str::to_owned),
    ]
    .prop_map(Bytes::from)
}

/// Prefixes as Kubernetes lists them, and any two keys.
fn bounds() -> impl Strategy<Value = (Bytes, Bytes)> {
    let prefix = prop::sample::select(vec![
        "",
        "/",
        "/registry/",
        "/registry/pods/",
        "/registry/pods/ns-1/",
        "/registry/pods/ns-2",
        "/registry/configmaps/",
        "/registry/stable.example.com/shirts/",
        "p",
    ]);
    prop_oneof![
        3 => prefix.prop_map(|prefix| {
            let range = KeyRange::prefix(Bytes::from(prefix));
            (range.start.clone(), range.range_end())
        }),
        1 => (key(), key()),
        1 => key().prop_map(|key| (key, Bytes::new())),
    ]
}

pub(crate) fn world(strays: u32) -> impl Strategy<Value = World<Topology>> {
    let writes = prop::collection::vec(write_of(key(), strays), 0..60);
    (topology(), writes).prop_map(|(map, writes)| World::new(map, &writes))
}

pub(crate) fn query() -> impl Strategy<Value = RangeRequest> {
    query_of(bounds())
}
