//! Real Kubernetes keys and every matcher: which store has which key.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

use keyloom_topology::{ParseOptions, StoreIndex, Topology, parse};

const DEFAULT: &str = "default: {endpoint: http://main:2379}\nbackends:\n";

fn topology(backends: &str) -> Topology {
    let text = format!("{DEFAULT}{backends}");
    parse(&text, &ParseOptions::default()).unwrap().topology
}

/// One backend with this matcher; which keys does it have?
fn check(matcher: &str, claimed: &[&str], others: &[&str]) {
    let topology = topology(&format!(
        "- {{name: it, endpoint: http://it:2379, {matcher}}}\n"
    ));
    for key in claimed {
        assert_eq!(
            topology.route(key.as_bytes()),
            Some(StoreIndex(1)),
            "{matcher}: {key}"
        );
    }
    for key in others {
        assert_eq!(
            topology.route(key.as_bytes()),
            Some(StoreIndex(0)),
            "{matcher}: not {key}"
        );
    }
}

#[test]
fn prefix_claims_whole_segments_and_the_key_without_a_slash() {
    for prefix in [
        "pods",
        "pods/",
        "/registry/pods",
        "/registry/pods/",
        "/pods",
    ] {
        check(
            &format!("prefix: {{prefix: {prefix}}}"),
            &[
                "/registry/pods",
                "/registry/pods/",
                "/registry/pods/default/web",
                "/registry/pods/\u{ff}",
            ],
            &[
                "/registry/podsecuritypolicies/x",
                "/registry/pod",
                "/registry/pods!",
                "/registry/podtemplates/default/x",
                "/registry",
                "/registry/",
                "pods/default/web",
                "compact_rev_key",
                "/registry/health",
            ],
        );
    }
}

#[test]
fn prefix_takes_the_names_of_kinds() {
    check(
        "prefix: {prefix: services}",
        &[
            "/registry/services/specs",
            "/registry/services/specs/default/web",
        ],
        &[
            "/registry/services/endpoints/default/web",
            "/registry/services",
            "/registry/services/",
        ],
    );
    check(
        "prefix: {prefix: nodes}",
        &["/registry/minions", "/registry/minions/node-1"],
        &["/registry/nodes", "/registry/nodes/node-1"],
    );
    check(
        "prefix: {prefix: pods/kube-system}",
        &[
            "/registry/pods/kube-system",
            "/registry/pods/kube-system/dns",
        ],
        &[
            "/registry/pods",
            "/registry/pods/",
            "/registry/pods/kube-system2/dns",
        ],
    );
}

#[test]
fn a_key_prefix_is_plain_bytes() {
    check(
        "prefix: {key: app}",
        &["app", "apple", "app/x"],
        &["ap", "/app", "/registry/app"],
    );
    check(
        "prefix: {key: /registry/po}",
        &["/registry/pods/a/b", "/registry/po"],
        &["/registry/p"],
    );
}

#[test]
fn custom_resources_are_claimed_by_group_and_plural() {
    for group in ["stable.example.com", "stable.example.com/v1"] {
        check(
            &format!("customresource: {{group: {group}, kind: shirts}}"),
            &[
                "/registry/stable.example.com/shirts",
                "/registry/stable.example.com/shirts/blue",
                "/registry/stable.example.com/shirts/default/blue",
            ],
            &[
                "/registry/stable.example.com",
                "/registry/stable.example.com/shirts2/default/blue",
                "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.stable.example.com",
            ],
        );
    }
    check(
        "customresource: {group: stable.example.com}",
        &[
            "/registry/stable.example.com",
            "/registry/stable.example.com/",
            "/registry/stable.example.com/hats/x",
        ],
        &[
            "/registry/stable.example.com.org/hats/x",
            "/registry/stable.example",
        ],
    );
    check(
        "customresource: {group: apiregistration.k8s.io, kind: apiservices}",
        &["/registry/apiregistration.k8s.io/apiservices/v1.apps"],
        &["/registry/apiregistration.k8s.io/other/x"],
    );
}

#[test]
fn a_namespace_is_every_resource_in_it() {
    check(
        "namespace: {namespace: tenant-a}",
        &[
            "/registry/pods/tenant-a/web",
            "/registry/services/specs/tenant-a/web",
            "/registry/services/endpoints/tenant-a/web",
            "/registry/stable.example.com/shirts/tenant-a/blue",
            "/registry/pods/tenant-a/",
            "/registry/leases/tenant-a/x",
        ],
        &[
            "/registry/namespaces/tenant-a",
            "/registry/pods/tenant-a",
            "/registry/pods/tenant-ab/web",
            "/registry/clusterroles/tenant-a",
            "/registry/stable.example.com/shirts/tenant-a",
            "/registry/stable.example.com/tenant-a/x",
            "/registry/stable.example.com/tenant-a/default/x",
            "/registry/services/tenant-a/x",
            "pods/tenant-a/web",
        ],
    );
}

#[test]
fn a_namespace_can_be_limited_to_kinds() {
    check(
        "namespace: {namespaces: [tenant-a, \"team-*\"], \
         kinds: [pods, deployments.apps, services, shirts.stable.example.com, ingresses]}",
        &[
            "/registry/pods/tenant-a/web",
            "/registry/pods/team-x/web",
            "/registry/deployments/tenant-a/web",
            "/registry/services/specs/team-/web",
            "/registry/ingress/team-x/web",
            "/registry/stable.example.com/shirts/team-x/blue",
        ],
        &[
            "/registry/pods/team/web",
            "/registry/pods/team-x",
            "/registry/configmaps/tenant-a/web",
            "/registry/services/endpoints/tenant-a/web",
            "/registry/stable.example.com/hats/team-x/blue",
        ],
    );
}

#[test]
fn a_regexp_reads_the_key_below_the_registry_prefix() {
    check(
        "regexp: {key: '^(clusterroles|roles)/'}",
        &[
            "/registry/roles/default/x",
            "/registry/clusterroles/x",
            "roles/x",
        ],
        &["/registry/roles", "/other/roles/x", "/registry/x/roles/"],
    );
    check(
        "regexp: {key: 'tenant-[0-9]+/'}",
        &["/registry/pods/tenant-1/x", "/else/tenant-22/"],
        &["/registry/pods/tenant-/x"],
    );
    check(
        "regexp: {prefix: '^/foo'}",
        &["/foo", "/registry//foo"],
        &["/registry/foo"],
    );
}

#[test]
fn keys_are_bytes() {
    let topology = topology(
        "- {name: a, endpoint: http://a:2379, prefix: {prefix: pods}}\n\
         - {name: b, endpoint: http://b:2379, regexp: {key: '^[^/]*x'}}\n\
         - {name: c, endpoint: http://c:2379, namespace: {namespaces: [n, 'm*']}}\n",
    );
    assert_eq!(
        topology.route(b"/registry/pods/\xff\x00"),
        Some(StoreIndex(1))
    );
    assert_eq!(topology.route(b"/registry/\xff\xfex"), Some(StoreIndex(2)));
    assert_eq!(
        topology.route(b"/registry/\xff/m\xff/\xfe"),
        Some(StoreIndex(3))
    );
    assert_eq!(topology.route(b"\xff"), Some(StoreIndex(0)));
    assert_eq!(topology.route(b""), Some(StoreIndex(0)));
}

#[test]
fn the_first_route_wins() {
    let topology = topology(
        "- {name: a, endpoint: http://a:2379, namespace: {namespace: x, kinds: [pods]}}\n\
         - {name: b, endpoint: http://b:2379, prefix: {prefix: pods}}\n\
         - {name: c, endpoint: http://c:2379, namespace: {namespace: x}}\n\
         - {name: d, endpoint: http://d:2379, regexp: {key: '^[a-z]+/x/'}}\n",
    );
    for (key, store) in [
        ("/registry/pods/x/1", 1),
        ("/registry/pods/y/1", 2),
        ("/registry/secrets/x/1", 3),
        ("secrets/x/1", 4),
        ("/registry/secrets/y/1", 0),
    ] {
        assert_eq!(
            topology.route(key.as_bytes()),
            Some(StoreIndex(store)),
            "{key}"
        );
    }
    assert_eq!(
        topology.explain(b"/registry/pods/y/1").to_string(),
        "b: backend b, prefix pods, line 4"
    );
}

#[test]
fn several_apiservers_share_one_keyloom() {
    let text = "registryPrefix: [/registry, /east/]\n\
                default: {endpoint: http://main:2379}\n\
                backends:\n\
                - {name: it, endpoint: http://it:2379, prefix: {prefix: pods}}\n";
    let topology = parse(text, &ParseOptions::default()).unwrap().topology;
    for key in ["/registry/pods/a/b", "/east/pods/a/b", "/east/pods"] {
        assert_eq!(topology.route(key.as_bytes()), Some(StoreIndex(1)), "{key}");
    }
    assert_eq!(topology.route(b"/west/pods/a/b"), Some(StoreIndex(0)));
}
