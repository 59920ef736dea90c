//! Routes the keys of a cluster under a topology of so many routes, again and again:
//! `routing ROUTES LOOKUPS`. `cargo xtask bench routing` counts the instructions.

#![allow(
    clippy::print_stdout,
    reason = "its result keeps the work from being left out"
)]

use keyloom_etcd_api::KeyRange;
use keyloom_topology::{ParseOptions, parse};

/// The backends are as many as there are routes, up to eight.
fn text(routes: usize) -> String {
    let mut text = "default: {endpoint: http://main:2379}\nbackends:\n".to_owned();
    let stores = routes.min(8);
    for store in 0..stores {
        let names = (store..routes).step_by(stores);
        let names: Vec<_> = names.map(|tenant| format!("tenant-{tenant:05}")).collect();
        text.push_str(&format!(
            "- {{name: s{store}, endpoint: http://s{store}:2379, namespace: {{namespaces: [{}]}}}}\n",
            names.join(", "),
        ));
    }
    text
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().unwrap_or_default().parse::<usize>();
    let (routes, lookups) = (number()?, number()?);
    let topology = match parse(&text(routes), &ParseOptions::default()) {
        Ok(accepted) => accepted.topology,
        Err(refused) => return Err(refused.in_file("routing").join("\n").into()),
    };
    // Of every four keys one is in no tenant's namespace, and one is a namespace's list.
    let key = |number: usize| match number % 4 {
        0 => format!("/registry/leases/kube-node-lease/node-{number:05}"),
        _ => format!("/registry/pods/tenant-{:05}/pod-0", number * 7919 % 10_000),
    };
    let keys: Vec<_> = (0..1024).map(key).collect();
    let mut sum = 0;
    for (turn, key) in keys.iter().cycle().take(lookups).enumerate() {
        sum += match turn % 4 {
            3 => topology
                .cover(&KeyRange::prefix(key.clone().into_bytes().into()))
                .len(),
            _ => topology
                .route(key.as_bytes())
                .map_or(0, |store| usize::from(store.0)),
        };
    }
    println!("{sum}");
    Ok(())
}
