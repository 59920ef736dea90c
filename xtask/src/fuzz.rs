//! libFuzzer over the targets of `fuzz/`, on the toolchain that builds everything else: the flags
//! that count what an input reaches are the compiler's own, and only the sanitizers want another.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    process::{cargo, output, run},
    steps::Steps,
};

pub(crate) const TARGETS: [&str; 8] = [
    "wire", "framing", "routes", "topology", "ledger", "client", "store", "note",
];

/// As `cargo fuzz` sets them, without a sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares \
                     --cfg fuzzing -Ccodegen-units=1";

/// Seconds for one input, after which it counts as a hang; and the memory that it may take.
const TIMEOUT: &str = "-timeout=60";
const MEMORY: &str = "-rss_limit_mb=2048";

/// Each target in its turn; the time is for all of them together.
pub(crate) fn fuzz(root: &Path, steps: &mut Steps, minutes: u64, wanted: Option<&str>) {
    let Some(host) = steps.run("build", || build(root)) else {
        return;
    };
    let targets: Vec<_> = TARGETS
        .into_iter()
        .filter(|name| wanted.is_none_or(|wanted| wanted == *name))
        .collect();
    let seconds = (minutes * 60 / targets.len().max(1) as u64).max(1);
    for name in targets {
        steps.run(name, || target(root, &host, name, seconds));
    }
}

/// Gives back the host's name. Naming it keeps the flags from what runs while building.
fn build(root: &Path) -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names no host")?.to_owned();
    let mut build = cargo(root, &["build", "--release", "--locked", "--manifest-path"]);
    build.arg(root.join("fuzz/guided/Cargo.toml"));
    build
        .args(["--target", &host, "--target-dir"])
        .arg(root.join("target/fuzz"));
    build.env("RUSTFLAGS", FLAGS);
    run(&mut build)?;
    Ok(host)
}

/// What is found stays in `.cache/fuzz`; the committed corpus is read and not written.
fn target(root: &Path, host: &str, name: &str, seconds: u64) -> Result<()> {
    let found = root.join(".cache/fuzz").join(name);
    let failed = root.join(".cache/fuzz/failed");
    for folder in [&found, &failed] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let corpus = root.join("fuzz/corpus").join(name);
    ensure!(corpus.is_dir(), "{} is not there", corpus.display());
    let mut fuzz = Command::new(
        root.join("target/fuzz")
            .join(host)
            .join("release")
            .join(name),
    );
    fuzz.arg(&found).arg(&corpus);
    fuzz.arg(format!("-max_total_time={seconds}"));
    fuzz.arg(format!("-artifact_prefix={}/{name}-", failed.display()));
    fuzz.args([TIMEOUT, MEMORY, "-print_final_stats=1", "-verbosity=0"]);
    run(&mut fuzz)
}
