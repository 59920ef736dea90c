//! The simulation's own promises, in the short form that continuous integration runs.

#![allow(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What happened, every message of every client among it, is in the hash.
#[test]
fn a_seed_replays_exactly() {
    for seed in ["3", "12", "17", "21", "30", "44"] {
        let (first, second) = (simulate(&["one", seed]), simulate(&["one", seed]));
        assert_eq!(text(&first), text(&second));
    }
    assert_ne!(
        text(&simulate(&["one", "3"])),
        text(&simulate(&["one", "4"]))
    );
}

#[test]
fn some_hundred_seeds_show_no_violation() {
    let output = simulate(&["many", "--seeds", "300"]);
    println!("{}", text(&output));
    assert!(output.status.success());
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_bug_is_found() {
    let output = simulate(&["planted"]);
    println!("{}", text(&output));
    assert!(output.status.success());
}
