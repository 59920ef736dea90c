//! Drives the targets for as long as one likes: `--help` says how.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore reports to its caller"
)]

use std::{process::ExitCode, time::Duration};

use keyloom_fuzz::{
    TARGETS,
    drive::{corpus_of, drive},
};

const USAGE: &str = "keyloom-fuzz [--seconds S] [--seed N] [TARGET]: S seconds of each target, or of \
                     one; an input that fails is added to its corpus";

fn main() -> ExitCode {
    let mut seconds = 10;
    let mut seed = 1;
    let mut wanted = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--seconds" => Some(&mut seconds),
            "--seed" => Some(&mut seed),
            "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => None,
        };
        match (number, arguments_number(&argument, &mut arguments)) {
            (Some(number), Some(given)) => *number = given,
            (None, None) => wanted = Some(argument),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut held = true;
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    for target in TARGETS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let (name, _) = target;
        match drive(target, seed, Duration::from_secs(seconds)) {
            Ok(tried) => println!(
                "{name:<10}{:>8} of the corpus{:>12} mutations",
                tried.corpus, tried.mutations
            ),
            Err(input) => {
                held = false;
                let file = corpus_of(name).join(format!("failed-{seed}-{}", input.len()));
                std::fs::create_dir_all(corpus_of(name)).ok();
                match std::fs::write(&file, &input) {
                    Ok(()) => eprintln!("{name}: FAILED at {}", file.display()),
                    Err(error) => eprintln!("{name}: FAILED at {input:?} ({error})"),
                }
            }
        }
    }
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn arguments_number(argument: &str, rest: &mut impl Iterator<Item = String>) -> Option<u64> {
    if argument.starts_with("--") {
        rest.next()?.parse().ok()
    } else {
        None
    }
}
