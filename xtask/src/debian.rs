//! Debian's etcd 3.4, the oldest store that the tests talk to.
//!
//! Where it is not installed, the package is fetched and unpacked into the cache instead: that needs
//! no root, and starts no service on etcd's port.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context, Result, ensure};

use crate::process::{output, run};

pub(crate) const NAME: &str = "etcd-3.4";

const PACKAGE: &str = "etcd-server";
const INSTALLED: &str = "/usr/bin/etcd";

/// The installed one, else the unpacked one.
///
/// # Errors
/// When neither is there and the package cannot be had.
pub(crate) fn find(bin: &Path) -> Result<PathBuf> {
    let unpacked = bin.join(NAME);
    let places = [PathBuf::from(INSTALLED), unpacked.clone()];
    if let Some(place) = places.into_iter().find(|place| is_34(place)) {
        return Ok(place);
    }
    let scratch = bin.join(format!(".{NAME}.{}", process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let result = unpack(&scratch, &unpacked);
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    result.with_context(|| {
        format!("{INSTALLED} is no etcd 3.4, and Debian's package {PACKAGE} cannot be had")
    })?;
    Ok(unpacked)
}

fn unpack(scratch: &Path, path: &Path) -> Result<()> {
    let download = || {
        run(Command::new("apt-get")
            .args(["download", PACKAGE])
            .current_dir(scratch))
    };
    // A fresh machine has no package lists yet; only root may fetch them.
    if download().is_err() {
        run(Command::new("apt-get").arg("update"))?;
        download()?;
    }
    let package = fs::read_dir(scratch)?
        .next()
        .context("apt-get downloaded nothing")??
        .path();
    let tree = scratch.join("tree");
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .args([&package, &tree]))?;
    let program = tree.join(INSTALLED.trim_start_matches('/'));
    ensure!(is_34(&program), "{} holds no etcd 3.4", package.display());
    fs::rename(&program, path).with_context(|| format!("putting {}", path.display()))
}

fn is_34(program: &Path) -> bool {
    program.exists()
        && output(Command::new(program).arg("--version"))
            .is_ok_and(|printed| printed.starts_with("etcd Version: 3.4."))
}
