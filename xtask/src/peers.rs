//! The real stores and clients that the tests talk to, at pinned versions.
//!
//! `tests/peers` is a Go module that pins their sources. They are built once into the cache, in a
//! folder named after what the module's files say, so that another version is another folder.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    fs::File,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    debian,
    process::{output, run},
};

/// Every peer, by the name of its program.
pub(crate) const NAMES: [&str; 5] = ["etcd", "etcdctl", "etcdutl", "kine", debian::NAME];

/// A peer built from the Go module.
#[derive(Debug)]
struct Source {
    name: &'static str,
    package: &'static str,
    /// What makes the program print its version.
    version: &'static str,
    /// The variable that the linker sets to the version, where the source does not know it.
    stamp: Option<&'static str>,
}

const SOURCES: [Source; 4] = [
    Source {
        name: "etcd",
        package: "go.etcd.io/etcd/server/v3",
        version: "--version",
        stamp: None,
    },
    Source {
        name: "etcdctl",
        package: "go.etcd.io/etcd/etcdctl/v3",
        version: "version",
        stamp: None,
    },
    Source {
        name: "etcdutl",
        package: "go.etcd.io/etcd/etcdutl/v3",
        version: "version",
        stamp: None,
    },
    Source {
        name: "kine",
        package: "github.com/k3s-io/kine",
        version: "--version",
        stamp: Some("github.com/k3s-io/kine/pkg/version.Version"),
    },
];

/// All peers, built.
#[derive(Debug)]
pub(crate) struct Peers {
    /// The folder of the programs built from source.
    pub(crate) bin: PathBuf,
    /// Debian's etcd.
    pub(crate) etcd34: PathBuf,
}

impl Peers {
    /// Builds what is missing.
    ///
    /// # Errors
    /// When one peer cannot be had, or is not the version it should be.
    pub(crate) fn all(root: &Path) -> Result<Peers> {
        let cache = Cache::open(root)?;
        for source in &SOURCES {
            report(source.name, &cache.build(source)?);
        }
        let etcd34 = debian::find(&cache.bin)?;
        report(debian::NAME, &etcd34);
        Ok(Peers {
            bin: cache.bin,
            etcd34,
        })
    }
}

/// Builds what is missing of the named peers, or of all, and prints where they lie.
///
/// # Errors
/// As [`Peers::all`].
pub(crate) fn show(root: &Path, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Peers::all(root).map(drop);
    }
    let cache = Cache::open(root)?;
    for name in names {
        let source = SOURCES.iter().find(|source| source.name == name);
        let path = match source {
            Some(source) => cache.build(source)?,
            None if name == debian::NAME => debian::find(&cache.bin)?,
            None => bail!("no peer is named {name}"),
        };
        report(name, &path);
    }
    Ok(())
}

fn report(name: &str, path: &Path) {
    println!("{name:<8} {}", path.display());
}

#[derive(Debug)]
struct Cache {
    module: PathBuf,
    bin: PathBuf,
    /// Held while we build, so that of two chores at once one builds and the other finds it done.
    _lock: File,
}

impl Cache {
    fn open(root: &Path) -> Result<Cache> {
        let module = root.join("tests/peers");
        let folder = cache_folder(root)?
            .join("peers")
            .join(fingerprint(&module)?);
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
        let lock = File::create(folder.join("lock")).context("making the cache's lock")?;
        lock.lock().context("waiting for the cache's lock")?;
        Ok(Cache {
            module,
            bin,
            _lock: lock,
        })
    }

    /// Builds under another name and renames, so that a program that is there is whole.
    fn build(&self, source: &Source) -> Result<PathBuf> {
        let path = self.bin.join(source.name);
        if path.exists() {
            return Ok(path);
        }
        println!("building {}", source.package);
        let version = self.version(source)?;
        let fresh = self.bin.join(format!(".{}.new", source.name));
        let mut build = self.go(&["build", "-mod=readonly", "-trimpath", "-o"]);
        build.arg(&fresh);
        if let Some(variable) = source.stamp {
            build.arg(format!("-ldflags=-X {variable}={version}"));
        }
        run(build.arg(source.package)).with_context(|| format!("building {}", source.name))?;
        let printed = output(Command::new(&fresh).arg(source.version))?;
        let number = version.trim_start_matches('v');
        ensure!(
            printed.contains(number),
            "{} is not {version}: {printed}",
            source.name
        );
        fs::rename(&fresh, &path).with_context(|| format!("putting {}", path.display()))?;
        Ok(path)
    }

    /// What the module pins.
    fn version(&self, source: &Source) -> Result<String> {
        let format = "-f={{.Module.Version}}";
        let version = output(
            self.go(&["list", "-mod=readonly", format])
                .arg(source.package),
        )?;
        Ok(version.trim().to_owned())
    }

    fn go(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("go");
        // kine's SQLite is C; one setting for all lets the packages they share be compiled once.
        command
            .current_dir(&self.module)
            .env("CGO_ENABLED", "1")
            .args(arguments);
        command
    }
}

/// `KEYLOOM_CACHE`, else `.cache` in the workspace.
fn cache_folder(root: &Path) -> Result<PathBuf> {
    let folder = env::var_os("KEYLOOM_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    std::path::absolute(&folder).with_context(|| format!("finding {}", folder.display()))
}

/// Another one whenever the pinned versions or the way of building change.
fn fingerprint(module: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    format!("{SOURCES:?}").hash(&mut hasher);
    for name in ["go.mod", "go.sum"] {
        let file = module.join(name);
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        content.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_name_to_ask_for() {
        let sources = SOURCES.iter().map(|source| source.name);
        let all: Vec<_> = sources.chain([debian::NAME]).collect();
        assert_eq!(all, NAMES);
    }

    #[test]
    fn another_pin_is_another_folder() {
        let module = env::temp_dir().join(format!("keyloom-fingerprint-{}", std::process::id()));
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("go.mod"), "one").unwrap();
        fs::write(module.join("go.sum"), "").unwrap();
        let before = fingerprint(&module).unwrap();
        assert_eq!(before, fingerprint(&module).unwrap());
        fs::write(module.join("go.sum"), "two").unwrap();
        assert_ne!(before, fingerprint(&module).unwrap());
        fs::remove_dir_all(&module).unwrap();
    }
}
