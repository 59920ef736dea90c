//! Routing costs the same under one route and under ten thousand.
//!
//! What is compared is the CPU time of this thread, in turns: how long it waits for a core does not
//! count, and what disturbs one of the two disturbs the other. The bound is wide, since ten thousand
//! names do not fit into a cache; a search through all routes would be a thousand times slower.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

use std::fs;

use keyloom_topology::{ParseOptions, Topology, parse};

fn topology(routes: usize) -> Topology {
    let names: Vec<_> = (0..routes)
        .map(|tenant| format!("tenant-{tenant:05}"))
        .collect();
    let text = format!(
        "default: {{endpoint: http://main:2379}}\nbackends:\n- {{name: a, endpoint: http://a:1, \
         namespace: {{namespaces: [{}]}}}}\n",
        names.join(", "),
    );
    parse(&text, &ParseOptions::default()).unwrap().topology
}

/// The CPU time of this thread so far, in ns.
fn cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// What it costs to route every key, and how many go to the backend.
fn cost(topology: &Topology, keys: &[String]) -> (u64, usize) {
    let before = cpu();
    let routed = keys
        .iter()
        .filter(|key| {
            topology
                .route(key.as_bytes())
                .is_some_and(|store| store.0 == 1)
        })
        .count();
    (cpu() - before, routed)
}

#[test]
fn ten_thousand_routes_cost_as_much_as_one() {
    let (one, many) = (topology(1), topology(10_000));
    let keys: Vec<_> = (0..10_000)
        .map(|number: usize| format!("/registry/pods/tenant-{:05}/pod", number * 7919 % 10_000))
        .collect();
    let mut ratios = Vec::new();
    for _ in 0..15 {
        let ((first, few), (second, all)) = (cost(&one, &keys), cost(&many, &keys));
        assert_eq!((few, all), (1, 10_000));
        ratios.push(second as f64 / first as f64);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(7).unwrap();
    assert!(*median < 8.0, "{ratios:?}");
}
