//! What it costs to find a key's store, by the number of routes.
//!
//! `cargo bench -p keyloom-topology` prints nanoseconds. For instructions, which no other program
//! on the machine changes, run the program that it builds under callgrind, and divide by the calls:
//! `valgrind --tool=callgrind --toggle-collect='*look_up*' route-… ROUTES`.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "it is a program for the shell"
)]

use std::{fmt::Write as _, hint::black_box, time::Instant};

use keyloom_topology::{NoSource, ParseOptions, StoreIndex, Topology, parse};

const CALLS: usize = 10_000;

/// Namespaces, each on a store of its own, in the way that Kubernetes names them.
fn topology(routes: usize) -> Topology {
    let mut text = "default:\n  endpoint: http://127.0.0.1:1\nbackends:\n".to_owned();
    for route in 0..routes {
        write!(
            text,
            "- name: store-{route}\n  endpoint: http://10.{}.{}.{}:2379\n  namespace: {{namespace: team-{route:05}}}\n",
            route >> 16,
            (route >> 8) & 255,
            route & 255,
        )
        .expect("a string takes all");
    }
    let options = ParseOptions {
        default_endpoint: None,
        source: &NoSource,
    };
    parse(&text, &options).expect("a topology").topology
}

/// Every other key is of a route, the others are of none.
fn keys(routes: usize) -> Vec<Vec<u8>> {
    let key = |call: usize| {
        let route = match call % 2 {
            0 => call.wrapping_mul(7919) % routes,
            _ => 90_000 + call % 1_000,
        };
        format!("/registry/pods/team-{route:05}/pod-{call}").into_bytes()
    };
    (0..CALLS).map(key).collect()
}

#[inline(never)]
fn look_up(topology: &Topology, keys: &[Vec<u8>]) -> usize {
    let stores = keys.iter().map(|key| topology.route(black_box(key)));
    stores
        .filter(|store| *store != Some(StoreIndex::DEFAULT))
        .count()
}

fn main() {
    let asked = std::env::args().filter_map(|argument| argument.parse().ok());
    let mut sizes: Vec<usize> = asked.collect();
    if sizes.is_empty() {
        sizes = vec![1, 10, 100, 1_000, 10_000];
    }
    for routes in sizes {
        let (topology, keys) = (topology(routes), keys(routes));
        let begun = Instant::now();
        let routed = look_up(&topology, &keys);
        let each = begun.elapsed().as_nanos() / CALLS as u128;
        assert_eq!(routed, CALLS / 2);
        println!("{routes:>6} routes: {each} ns for each of {CALLS} keys");
    }
}
