//! A guard against growing dear: what a small request costs Keyloom, in parts of what it costs etcd's
//! own proxy in the same seconds on the same machine.
//!
//! CPU time is compared, never how long something takes, round by round in turns: a busy machine
//! makes both slow and neither dearer. docs/benchmarks.md has the figures; the bound here is far
//! above them and far below what a careless change costs.

use clap::Parser as _;
use keyloom_loadtest::cli::Arguments;
use keyloom_tests::programs;
use serde_json::Value;

/// Half as much was measured.
const AT_MOST: f64 = 0.9;

#[test]
fn a_small_request_costs_less_than_through_etcds_own_proxy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("cost.json");
    let etcd = programs::peer("etcd");
    let arguments = [
        "keyloom-loadtest".into(),
        "compare".into(),
        "--keyloom".into(),
        programs::keyloom().into_os_string(),
        "--etcd".into(),
        etcd.into_os_string(),
        "--json".into(),
        json.clone().into_os_string(),
    ];
    let further = "--only grpc-proxy,keyloom-1 --workload put,get --alone get --rounds 3 \
                   --duration 1.5 --warmup 0.5 --patience 120";
    let all = arguments
        .into_iter()
        .chain(further.split_whitespace().map(Into::into));
    let arguments = Arguments::try_parse_from(all).expect("arguments that are there");
    arguments.run().expect("every answer is right");
    let text = std::fs::read_to_string(json).expect("the results");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    for workload in ["put", "get"] {
        let ratio = ratio(&results, workload);
        assert!(
            ratio < AT_MOST,
            "{workload}: {ratio} of grpc-proxy's CPU time\n{text}"
        );
    }
}

/// The median of the rounds' ratios.
fn ratio(results: &Value, workload: &str) -> f64 {
    let workloads = results["workloads"].as_array().expect("a list");
    let loaded = |each: &&Value| each["workload"] == workload && each["clients"] == 64;
    let loaded = workloads.iter().find(loaded).expect("it was measured");
    let cpu = |target: &str| -> Vec<f64> {
        let targets = loaded["targets"].as_array().expect("a list");
        let found = targets.iter().find(|each| each["name"] == target);
        let rounds = found.expect("it was measured")["rounds"]
            .as_array()
            .expect("a list");
        let figure = |round: &Value| {
            round[format!("cpu_us/{target}")]
                .as_f64()
                .expect("a number")
        };
        rounds.iter().map(figure).collect()
    };
    let (keyloom, grpc_proxy) = (cpu("keyloom-1"), cpu("grpc-proxy"));
    let mut ratios: Vec<_> = keyloom
        .iter()
        .zip(&grpc_proxy)
        .map(|(own, other)| own / other)
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}
