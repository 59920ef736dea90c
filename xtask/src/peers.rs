//! The real stores and clients that the tests talk to, at pinned versions.
//!
//! Go modules pin their sources: `tests/peers` the stores and their clients, the folders below it a
//! Kubernetes each. They are built once into the cache, in a folder named after what the module's
//! files say, so that another version is another folder.

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

/// Every peer, by the name of its program, and each Kubernetes as one.
pub(crate) const NAMES: [&str; 7] = [
    "etcd",
    "etcdctl",
    "etcdutl",
    "kine",
    debian::NAME,
    KUBERNETES.name,
    KUBERNETES_OLD.name,
];

/// A peer built from the Go module.
#[derive(Clone, Copy, Debug)]
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

/// A Go module, and what is built from it.
#[derive(Clone, Copy, Debug)]
struct Module {
    name: &'static str,
    /// Below the workspace.
    folder: &'static str,
    /// One setting for all of a module lets the packages they share be compiled once.
    cgo: bool,
    sources: &'static [Source],
    /// For the linker, besides the version.
    linker: &'static str,
}

const STORES: Module = Module {
    name: "stores",
    folder: "tests/peers",
    // kine's SQLite is C.
    cgo: true,
    sources: &SOURCES,
    linker: "",
};

const VERSION: Option<&str> = Some("k8s.io/component-base/version.gitVersion");

/// The newest Kubernetes. Its apiserver has a `main` of ours, which says why.
const KUBERNETES: Module = kubernetes_of(
    "kubernetes",
    "tests/peers/kubernetes",
    &[
        program("kube-apiserver", "./apiserver", "--version"),
        CONTROLLERS,
        KUBECTL,
    ],
);

/// One whose client of etcd is older, and asks differently.
const KUBERNETES_OLD: Module = kubernetes_of(
    "kubernetes-old",
    "tests/peers/kubernetes-old",
    &[
        program(
            "kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "--version",
        ),
        CONTROLLERS,
        KUBECTL,
    ],
);

const CONTROLLERS: Source = program(
    "kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "--version",
);

const KUBECTL: Source = program(
    "kubectl",
    "k8s.io/kubernetes/cmd/kubectl",
    "version --client",
);

const fn kubernetes_of(
    name: &'static str,
    folder: &'static str,
    sources: &'static [Source],
) -> Module {
    Module {
        name,
        folder,
        cgo: false,
        sources,
        linker: "-s -w",
    }
}

const fn program(name: &'static str, package: &'static str, version: &'static str) -> Source {
    Source {
        name,
        package,
        version,
        stamp: VERSION,
    }
}

/// All peers, built.
#[derive(Debug)]
pub(crate) struct Peers {
    /// The folder of the programs built from source.
    pub(crate) bin: PathBuf,
    /// Debian's etcd.
    pub(crate) etcd34: PathBuf,
}

impl Peers {
    /// Builds what is missing of the stores and their clients.
    ///
    /// # Errors
    /// When one peer cannot be had, or is not the version it should be.
    pub(crate) fn all(root: &Path) -> Result<Peers> {
        let cache = Cache::open(root, STORES)?;
        cache.build_all()?;
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
        Peers::all(root)?;
        kubernetes(root)?;
        return kubernetes_old(root).map(drop);
    }
    for name in names {
        if let Some(module) = [KUBERNETES, KUBERNETES_OLD]
            .into_iter()
            .find(|module| module.name == name)
        {
            built(root, module)?;
            continue;
        }
        let cache = Cache::open(root, STORES)?;
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

/// The folder of the newest Kubernetes' programs, built.
///
/// # Errors
/// As [`Peers::all`].
pub(crate) fn kubernetes(root: &Path) -> Result<PathBuf> {
    built(root, KUBERNETES)
}

/// The folder of the older Kubernetes' programs, built.
///
/// # Errors
/// As [`Peers::all`].
pub(crate) fn kubernetes_old(root: &Path) -> Result<PathBuf> {
    built(root, KUBERNETES_OLD)
}

/// Builds what is missing of a module, and says in which folder its programs are.
fn built(root: &Path, module: Module) -> Result<PathBuf> {
    let cache = Cache::open(root, module)?;
    cache.build_all()?;
    Ok(cache.bin)
}

fn report(name: &str, path: &Path) {
    println!("{name:<24} {}", path.display());
}

#[derive(Debug)]
struct Cache {
    module: Module,
    folder: PathBuf,
    bin: PathBuf,
    /// Held while we build, so that of two chores at once one builds and the other finds it done.
    _lock: File,
}

impl Cache {
    fn open(root: &Path, module: Module) -> Result<Cache> {
        let folder = root.join(module.folder);
        let cache = cache_folder(root)?
            .join("peers")
            .join(fingerprint(&folder, module.sources)?);
        let bin = cache.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
        let lock = File::create(cache.join("lock")).context("making the cache's lock")?;
        lock.lock().context("waiting for the cache's lock")?;
        Ok(Cache {
            module,
            folder,
            bin,
            _lock: lock,
        })
    }

    fn build_all(&self) -> Result<()> {
        for source in self.module.sources {
            report(source.name, &self.build(source)?);
        }
        Ok(())
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
            let linker = self.module.linker;
            build.arg(format!("-ldflags={linker} -X {variable}={version}"));
        }
        run(build.arg(source.package)).with_context(|| format!("building {}", source.name))?;
        let printed = output(Command::new(&fresh).args(source.version.split(' ')))?;
        let number = version.trim_start_matches('v');
        ensure!(
            printed.contains(number),
            "{} is not {version}: {printed}",
            source.name
        );
        fs::rename(&fresh, &path).with_context(|| format!("putting {}", path.display()))?;
        Ok(path)
    }

    /// What the module pins; a `main` of ours has the version of what it runs.
    fn version(&self, source: &Source) -> Result<String> {
        let format = "-f={{.Module.Version}}";
        let package = match source.package.strip_prefix("./") {
            Some(_) => "k8s.io/kubernetes/cmd/kube-apiserver",
            None => source.package,
        };
        let version = output(self.go(&["list", "-mod=readonly", format]).arg(package))?;
        Ok(version.trim().to_owned())
    }

    fn go(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("go");
        command
            .current_dir(&self.folder)
            .env("CGO_ENABLED", if self.module.cgo { "1" } else { "0" })
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
fn fingerprint(module: &Path, sources: &[Source]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    format!("{sources:?}").hash(&mut hasher);
    let own = sources
        .iter()
        .filter_map(|source| source.package.strip_prefix("./"))
        .map(|folder| module.join(folder).join("main.go"));
    let pins = ["go.mod", "go.sum"].map(|name| module.join(name));
    for file in pins.into_iter().chain(own) {
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
        let all: Vec<_> = sources
            .chain([debian::NAME, KUBERNETES.name, KUBERNETES_OLD.name])
            .collect();
        assert_eq!(all, NAMES);
    }

    #[test]
    fn another_pin_is_another_folder() {
        let module = env::temp_dir().join(format!("keyloom-fingerprint-{}", std::process::id()));
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("go.mod"), "one").unwrap();
        fs::write(module.join("go.sum"), "").unwrap();
        let before = fingerprint(&module, &SOURCES).unwrap();
        assert_eq!(before, fingerprint(&module, &SOURCES).unwrap());
        fs::write(module.join("go.sum"), "two").unwrap();
        assert_ne!(before, fingerprint(&module, &SOURCES).unwrap());
        fs::remove_dir_all(&module).unwrap();
    }
}
