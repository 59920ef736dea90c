//! Generates the Rust code of etcd's API from the unmodified `.proto` files, without protoc.
//!
//! The result is committed, so that a build of the workspace needs neither this step nor its crates.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use anyhow::{Context, Result, ensure};
use prost::Message;
use prost_types::FileDescriptorSet;

/// The packages that get Rust code. The other files only hold options (HTTP annotations), which
/// the reflection service still shows.
const PACKAGES: [&str; 4] = ["etcdserverpb", "mvccpb", "authpb", "versionpb"];

const ROOT_PROTO: &str = "etcd/api/etcdserverpb/rpc.proto";
const DESCRIPTOR: &str = "descriptor.bin";

/// Writes the generated files below `etcd-api/src/generated`.
///
/// # Errors
/// When a `.proto` file does not compile or a file cannot be written.
pub(crate) fn write(root: &Path) -> Result<()> {
    generate(root, &root.join("etcd-api/src/generated"))
}

/// Generates into a scratch folder and compares with what is committed.
///
/// # Errors
/// When a committed file differs from what its `.proto` file says, or one is missing or too many.
pub(crate) fn check(root: &Path) -> Result<()> {
    let scratch = root.join("target/codegen");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    generate(root, &scratch)?;
    let (made, committed) = (
        contents(&scratch)?,
        contents(&root.join("etcd-api/src/generated"))?,
    );
    for name in made.keys().chain(committed.keys()) {
        ensure!(
            made.get(name) == committed.get(name),
            "{} is out of date: run `cargo xtask codegen`",
            name.display()
        );
    }
    Ok(())
}

fn contents(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let files = entries.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name(), fs::read(entry.path())?))
    });
    files.collect()
}

fn generate(root: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let include = root.join("etcd-api/proto");
    let set = protox::compile([ROOT_PROTO], [include]).context("compiling etcd's .proto files")?;
    fs::write(out.join(DESCRIPTOR), set.encode_to_vec())?;
    let ours = FileDescriptorSet {
        file: set
            .file
            .into_iter()
            .filter(|file| PACKAGES.contains(&file.package()))
            .collect(),
    };
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .build_transport(false)
        .compile_fds(ours)
        .context("generating Rust code")
}
