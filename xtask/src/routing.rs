//! What routing costs, in instructions, by the number of routes.
//!
//! Valgrind counts them, on any machine the same. The program that routes is run twice, once with
//! no lookups: the difference is what they cost.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    e2e::{BuildOf, build},
    process::run,
};

const ROUTES: [u32; 5] = [1, 10, 100, 1_000, 10_000];
const LOOKUPS: u64 = 20_000;

/// Prints the table.
///
/// # Errors
/// Where Valgrind is not installed.
pub(crate) fn show(root: &Path) -> Result<()> {
    run(Command::new("valgrind").arg("--version")).context("Debian's package is `valgrind`")?;
    let program = build(root, "keyloom-topology", BuildOf::Example("routing"))?;
    let mut first = None;
    println!("| routes | instructions a lookup | to one route |");
    println!("|-------:|----------------------:|-------------:|");
    for routes in ROUTES {
        let with = instructions(&program, routes, LOOKUPS)?;
        let without = instructions(&program, routes, 0)?;
        let each = with.saturating_sub(without) / LOOKUPS;
        let ratio = each as f64 / *first.get_or_insert(each) as f64;
        println!("| {routes:>6} | {each:>21} | {ratio:>12.3} |");
    }
    Ok(())
}

fn instructions(program: &Path, routes: u32, lookups: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(program);
    command.args([routes.to_string(), lookups.to_string()]);
    let output = command.output().context("starting valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    collected(&text).with_context(|| format!("{command:?}: {text}"))
}

/// What callgrind says at its end: `==1== Collected : 123`.
fn collected(text: &str) -> Option<u64> {
    let (_, after) = text.split_once("Collected :")?;
    after.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_callgrind_says() {
        let text = "==7== Events    : Ir\n==7== Collected : 2150463\n==7==\n";
        assert_eq!(collected(text), Some(2_150_463));
        assert_eq!(collected("valgrind: no such program"), None);
    }
}
