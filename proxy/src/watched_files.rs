//! The topology file and the files that it names, watched.
//!
//! What is watched is the folder of each file, not the file: an editor replaces a file by rename,
//! and Kubernetes a mounted volume by a symbolic link. Where the system tells nothing (some network
//! file systems), the files are looked at now and then.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use keyloom_topology::Topology;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

/// How it is learnt that a file changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileChanges {
    /// The system tells, and a SIGHUP is heard.
    #[default]
    Told,
    /// The files are looked at now and then, and that is all: a simulation has neither threads nor
    /// signals.
    Looked,
}

/// A file that is written in pieces is read when it has been left alone for so long,
const QUIET: Duration = Duration::from_millis(100);

/// but not later than so long after the first piece.
const LATEST: Duration = Duration::from_secs(1);

/// What is in a file; `None` where it cannot be read.
type Content = Option<Vec<u8>>;

#[derive(Debug)]
pub(crate) struct Files {
    file: PathBuf,
    /// All files that count.
    named: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
    /// `None` where the system cannot watch.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Files {
    pub(crate) fn watch(file: &Path, changes: FileChanges) -> Self {
        let changed = Arc::new(Notify::new());
        let watcher = match changes {
            FileChanges::Told => system_watcher(Arc::clone(&changed)),
            FileChanges::Looked => None,
        };
        let mut files = Self {
            file: file.to_owned(),
            named: BTreeSet::new(),
            changed,
            watcher,
            folders: BTreeSet::new(),
        };
        files.name([]);
        files
    }

    /// From now on these files count, besides the topology's own.
    pub(crate) fn name<'p>(&mut self, named: impl IntoIterator<Item = &'p PathBuf>) {
        self.named = named.into_iter().cloned().collect();
        self.named.insert(self.file.clone());
        let folders: BTreeSet<_> = self.named.iter().flat_map(|file| folders(file)).collect();
        if let Some(watcher) = &mut self.watcher {
            for old in self.folders.difference(&folders) {
                // It may be gone.
                drop(watcher.unwatch(old));
            }
            for new in folders.difference(&self.folders) {
                if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                    warn!(folder = %new.display(), %error, "the folder cannot be watched; its files are compared every 10 s");
                }
            }
        }
        self.folders = folders;
    }

    /// What all of them hold.
    pub(crate) fn contents(&self) -> Vec<Content> {
        self.named.iter().map(|file| fs::read(file).ok()).collect()
    }

    /// Until something happened in a folder, and some time longer.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
        let latest = Instant::now() + LATEST;
        let quiet = async { while timeout(QUIET, self.changed.notified()).await.is_ok() {} };
        // A folder in which something always happens is looked at all the same.
        drop(timeout_at(latest, quiet).await);
    }
}

fn system_watcher(told: Arc<Notify>) -> Option<RecommendedWatcher> {
    // What happened is looked at in the files themselves; looking is nothing that happened.
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            told.notify_one();
        }
    });
    let watcher = watcher.map_err(|error| {
        warn!(%error, "the system cannot watch files; they are compared every 10 s");
    });
    watcher.ok()
}

/// The folder of a file, and of what it is a link to.
fn folders(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let target = fs::canonicalize(file).ok();
    let mut folders = vec![parent(file)];
    folders.extend(target.map(|target| parent(&target)));
    folders
}

/// Every file that a topology was made of besides its own.
pub(crate) fn files_of(topology: &Topology) -> Vec<PathBuf> {
    let mut files = topology.files().to_vec();
    for tls in topology
        .stores()
        .iter()
        .filter_map(|spec| spec.tls.as_ref())
    {
        let named = [&tls.ca_file, &tls.cert_file, &tls.key_file];
        files.extend(named.into_iter().flatten().cloned());
    }
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn tells(files: &Files) {
        timeout(DEADLINE, files.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn writing_renaming_and_linking_are_seen() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("topology.yaml");
        fs::write(&file, "1").unwrap();
        let files = Files::watch(&file, FileChanges::Told);
        let before = files.contents();

        fs::write(&file, "2").unwrap();
        tells(&files).await;
        assert_ne!(files.contents(), before);

        let other = home.path().join("other");
        fs::write(&other, "3").unwrap();
        fs::rename(&other, &file).unwrap();
        tells(&files).await;
        assert_eq!(files.contents(), [Some(b"3".to_vec())]);
    }

    #[tokio::test]
    async fn looking_at_the_files_is_no_change() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("topology.yaml");
        fs::write(&file, "1").unwrap();
        let files = Files::watch(&file, FileChanges::Told);
        drop(files.contents());
        // What the system tells comes in order: the second file's is behind the first one's.
        fs::write(home.path().join("other"), "2").unwrap();
        tells(&files).await;
        drop(files.contents());
        let told = timeout(QUIET * 5, files.changed.notified()).await;
        assert!(told.is_err(), "told of having looked");
    }

    /// As the kubelet mounts a ConfigMap: the file is a link through `..data`, which is replaced.
    #[tokio::test]
    async fn a_mounted_config_map_is_seen_to_change() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("topology.yaml"), version).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/topology.yaml", at("topology.yaml")).unwrap();
        let files = Files::watch(&at("topology.yaml"), FileChanges::Told);
        assert_eq!(files.contents(), [Some(b"v1".to_vec())]);
        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        tells(&files).await;
        assert_eq!(files.contents(), [Some(b"v2".to_vec())]);
    }

    #[tokio::test]
    async fn a_file_that_is_named_later_counts() {
        let (home, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (file, secret) = (home.path().join("topology.yaml"), secrets.path().join("pw"));
        fs::write(&file, "1").unwrap();
        let mut files = Files::watch(&file, FileChanges::Told);
        files.name([&secret]);
        fs::write(&secret, "2").unwrap();
        tells(&files).await;
        assert!(files.contents().contains(&Some(b"2".to_vec())));
    }
}
