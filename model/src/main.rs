//! Explores the scenes, and prints how many states each has: `--help` says how.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a chore reports to its caller, and has no simulated clock"
)]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use keyloom_model::{Scene, scenes};
use stateright::{Checker as _, Expectation, Model as _};

const USAGE: &str = "keyloom-model [--size N] [--seconds S] [SCENE]: explores every scene, or those \
                     whose name contains SCENE, at size 1 (the tests' size) or larger, each for at \
                     most S seconds";

fn main() -> ExitCode {
    let mut size = 1;
    let mut seconds = 3600;
    let mut wanted = String::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--size" => match arguments.next().and_then(|size| size.parse().ok()) {
                Some(given @ 1..=9) => size = given,
                _ => {
                    eprintln!("{USAGE}");
                    return ExitCode::FAILURE;
                }
            },
            "--seconds" => match arguments.next().and_then(|seconds| seconds.parse().ok()) {
                Some(given) => seconds = given,
                None => {
                    eprintln!("{USAGE}");
                    return ExitCode::FAILURE;
                }
            },
            "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            name => wanted = name.to_owned(),
        }
    }
    let scenes = scenes::all(size)
        .into_iter()
        .filter(|scene| scene.name.contains(&wanted));
    let mut kept = true;
    for scene in scenes {
        kept &= explore(scene, Duration::from_secs(seconds));
    }
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn explore(scene: Scene, most: Duration) -> bool {
    let (name, began) = (scene.name, Instant::now());
    let scene_properties = scene.properties();
    let checker = scene.checker().threads(2).timeout(most).spawn_bfs().join();
    let took = began.elapsed();
    println!(
        "{name:<22}{:>12} states{:>6} deep{:>9.1} s{}",
        checker.unique_state_count(),
        checker.max_depth(),
        took.as_secs_f64(),
        if took < most { "" } else { "  (not all)" }
    );
    let mut kept = true;
    for property in scene_properties {
        let found = checker.discovery(property.name);
        match (&property.expectation, found) {
            (Expectation::Always, Some(path)) => {
                kept = false;
                println!("  NOT TRUE: {}", property.name);
                for (_, step) in path.into_vec() {
                    if let Some(step) = step {
                        println!("    {step:?}");
                    }
                }
            }
            (Expectation::Sometimes, None) => {
                kept = false;
                println!("  never reached: {}", property.name);
            }
            _ => {}
        }
    }
    kept
}
