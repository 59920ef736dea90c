//! Generates the Rust code of etcd's API from the unmodified `.proto` files, without protoc.
//!
//! `etcd-api` gets the messages, which is all that Keyloom itself needs; `etcd-client` gets tonic's
//! clients and servers of them, for tests and measurements.
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

/// Where messages go.
const MESSAGES: &str = "etcd-api/src/generated";
/// Where clients and servers go.
const SERVICES: &str = "etcd-client/src/generated";

/// Writes the generated files.
///
/// # Errors
/// When a `.proto` file does not compile or a file cannot be written.
pub(crate) fn write(root: &Path) -> Result<()> {
    generate(root, &root.join(MESSAGES), &root.join(SERVICES))
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
    let (messages, services) = (scratch.join("messages"), scratch.join("services"));
    generate(root, &messages, &services)?;
    for (made, committed) in [(messages, MESSAGES), (services, SERVICES)] {
        let (made, in_repo) = (contents(&made)?, contents(&root.join(committed))?);
        for name in made.keys().chain(in_repo.keys()) {
            ensure!(
                made.get(name) == in_repo.get(name),
                "{committed}/{} is out of date: run `cargo xtask codegen`",
                name.display()
            );
        }
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

fn generate(root: &Path, messages: &Path, services: &Path) -> Result<()> {
    fs::create_dir_all(messages)?;
    fs::create_dir_all(services)?;
    let include = root.join("etcd-api/proto");
    let set = protox::compile([ROOT_PROTO], [include]).context("compiling etcd's .proto files")?;
    fs::write(messages.join(DESCRIPTOR), set.encode_to_vec())?;
    let ours = FileDescriptorSet {
        file: set
            .file
            .into_iter()
            .filter(|file| PACKAGES.contains(&file.package()))
            .collect(),
    };
    tonic_prost_build::configure()
        .out_dir(messages)
        .bytes(".")
        .build_client(false)
        .build_server(false)
        .compile_fds(ours.clone())
        .context("generating messages")?;
    let with_services = FileDescriptorSet {
        file: ours
            .file
            .into_iter()
            .filter(|file| !file.service.is_empty())
            .collect(),
    };
    let mut builder = tonic_prost_build::configure()
        .out_dir(services)
        .build_transport(false);
    for package in PACKAGES {
        builder = builder.extern_path(
            format!(".{package}"),
            format!("::keyloom_etcd_api::{package}"),
        );
    }
    builder
        .compile_fds(with_services)
        .context("generating clients and servers")
}
