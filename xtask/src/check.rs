//! What needs no server: lints, generated code, house rules, and the tests of the default members.

use std::path::Path;

use crate::{
    codegen,
    process::{cargo, output, run},
    steps::Steps,
    tidy,
};

pub(crate) fn lint(root: &Path, steps: &mut Steps) {
    steps.run("fmt", || {
        run(&mut cargo(root, &["fmt", "--all", "--check"]))
    });
    steps.run("tidy", || tidy::check(root));
    steps.run("codegen", || codegen::check(root));
    // Nothing else here builds that workspace, which would find its lock file out of date only then.
    steps.run("fuzz/guided: lock file", || {
        let manifest = root.join("fuzz/guided/Cargo.toml");
        let mut metadata = cargo(root, &["metadata", "--locked", "--format-version=1"]);
        output(metadata.arg("--manifest-path").arg(manifest)).map(drop)
    });
    // Warnings are denied here and not in RUSTFLAGS, which would build every dependency again.
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    steps.run("clippy", || run(&mut cargo(root, &clippy)));
}

pub(crate) fn test(root: &Path, steps: &mut Steps) {
    let built = steps.run("test: build", || {
        run(&mut cargo(root, &["test", "--locked", "--no-run"]))
    });
    if built.is_some() {
        steps.run("test: run", || run(&mut cargo(root, &["test", "--locked"])));
    }
}
