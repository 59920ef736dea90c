//! A new database from the contents of another store: its keys as they are at one revision, with
//! their revisions and versions, and its leases.
//!
//! The database is made under another name and takes its own only when it is whole and on the
//! disk: what is left of an import that failed is never taken for a store, and is removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use keyloom_environment::Random;
use keyloom_etcd_api::mvccpb::KeyValue;

use super::{
    Draft, SqliteOptions, TimedStatements, given_out,
    lock::{self, Ownership},
    store::make_folder,
};
use crate::{
    clock::WallClock,
    error::{OpenError, Origin, SqlFault},
    lease::MIN_TTL,
    metrics::Metrics,
    session::LeaseRow,
};

/// A lease of the other store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportedLease {
    /// Not 0.
    pub id: i64,
    /// What it was granted for, in seconds.
    pub ttl: i64,
    /// What is left of it, in seconds.
    pub remaining: i64,
}

/// What goes with the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// At which the keys were read.
    pub revision: i64,
    /// Every lease that there is. One that a key names and that is not among them ended while the
    /// keys were read; it ends when the database is first opened.
    pub leases: Vec<ImportedLease>,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Keys.
    pub keys: i64,
    /// Leases, those that end at once not among them.
    pub leases: usize,
    /// Where the store goes on: the snapshot's revision and one. Below it nothing can be read.
    pub revision: i64,
}

/// Why there is no new database.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is something already.
    #[error(
        "{origin}: there is a file {file} already, and an import makes a new database: move it \
         away, or choose another path"
    )]
    NotEmpty {
        /// Which.
        origin: Origin,
        /// The file.
        file: String,
    },
    /// What was read makes no store.
    #[error("key {key:?} has {what}: the store that it comes from is damaged, or no etcd")]
    Key {
        /// As far as it can be shown.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two keys that are one, or fewer than were given.
    #[error("{origin}: {given} keys were given and {kept} are there: nothing is kept")]
    Lost {
        /// Which.
        origin: Origin,
        /// As many as were added.
        given: i64,
        /// As many as the database has.
        kept: i64,
    },
    /// The files cannot be used.
    #[error("{origin}: {file}: {why}")]
    File {
        /// Which.
        origin: Origin,
        /// Which file or folder.
        file: String,
        /// What the system says.
        why: io::Error,
    },
    /// The database cannot be made or owned.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<SqlFault> for ImportError {
    fn from(fault: SqlFault) -> Self {
        Self::Open(fault.into())
    }
}

/// A database in the making. Dropped before it is finished, nothing of it remains.
#[derive(Debug)]
pub struct Importer {
    draft: Option<Draft>,
    files: Files,
    origin: Arc<Origin>,
    given: i64,
    _ownership: Ownership,
}

/// The files of an import; those under temporary names go with it.
#[derive(Debug)]
struct Files {
    database: PathBuf,
    draft: PathBuf,
    rows: PathBuf,
}

impl Importer {
    /// Begins a new database. Blocks, as everything here does.
    ///
    /// # Errors
    /// Where there is a database already, and where none can be made.
    pub fn begin(options: &SqliteOptions, random: &dyn Random) -> Result<Self, ImportError> {
        let origin = Arc::new(options.origin());
        let files = Files::of(&options.path);
        files.refuse_existing(&origin)?;
        make_folder(options, &origin)?;
        let ownership = lock::own(&options.path, &origin)?;
        // Whoever owned it before may have made one in the meantime.
        files.refuse_existing(&origin)?;
        files.remove_drafts();
        let watchman = TimedStatements {
            origin: Arc::new(Origin {
                name: origin.name.clone(),
                place: files.draft.display().to_string().into(),
            }),
            metrics: Arc::new(Metrics::default().of_store(&options.store.name)),
            // Every statement here is a slow one.
            slow: tokio::time::Duration::MAX,
            #[cfg(test)]
            injected: Default::default(),
        };
        let draft = Draft::begin(&files.draft, &files.rows, options, watchman, random);
        let importer = |draft| Self {
            draft: Some(draft),
            files,
            origin,
            given: 0,
            _ownership: ownership,
        };
        Ok(importer(draft?))
    }

    /// Adds keys, in any order.
    ///
    /// # Errors
    /// Where they make no sense or the disk does not take them.
    pub fn add(&mut self, kvs: &[KeyValue]) -> Result<(), ImportError> {
        for kv in kvs {
            check(kv)?;
        }
        if let Some(draft) = &mut self.draft {
            draft.add(kvs)?;
        }
        self.given += i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// Makes the database of what was added.
    ///
    /// # Errors
    /// As [`Importer::add`]; then nothing remains.
    pub fn finish(
        mut self,
        snapshot: &Snapshot,
        clock: &dyn WallClock,
    ) -> Result<Imported, ImportError> {
        let now = clock.now_ms();
        let row = |lease: &ImportedLease| LeaseRow {
            ttl: lease.ttl.max(MIN_TTL),
            ..LeaseRow::granted(lease.id, lease.remaining.max(0), now)
        };
        let leases: Vec<_> = snapshot.leases.iter().map(row).collect();
        let ended = LeaseRow {
            id: 0,
            ttl: MIN_TTL,
            expires_ms: now,
        };
        let Some(draft) = self.draft.take() else {
            return Err(self.lost(0));
        };
        // Closed by a revision of its own in which nothing happened: what the snapshot's own
        // revision did is not known, so that no watch may begin there.
        let revision = snapshot.revision.saturating_add(1);
        let kept = draft.finish(snapshot.revision, revision, &leases, ended)?;
        if kept != self.given {
            return Err(self.lost(kept));
        }
        self.publish()?;
        Ok(Imported {
            keys: kept,
            leases: leases.len(),
            revision,
        })
    }

    fn lost(&self, kept: i64) -> ImportError {
        ImportError::Lost {
            origin: self.origin.as_ref().clone(),
            given: self.given,
            kept,
        }
    }

    /// Gives the database its name, and brings it to the disk.
    fn publish(&self) -> Result<(), ImportError> {
        let Files {
            database, draft, ..
        } = &self.files;
        let failed = |file: &Path| {
            let (origin, file) = (self.origin.as_ref().clone(), file.display().to_string());
            move |why| ImportError::File { origin, file, why }
        };
        sync(draft).map_err(failed(draft))?;
        // What an earlier database here gave out says nothing about this one.
        let note = given_out::beside(database);
        match fs::remove_file(&note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&note)(error));
            }
            _ => {}
        }
        fs::rename(draft, database).map_err(failed(database))?;
        let folder = match database.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        sync(folder).map_err(failed(folder))
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        drop(self.draft.take());
        self.files.remove_drafts();
    }
}

impl Files {
    fn of(database: &Path) -> Self {
        Self {
            database: database.to_owned(),
            draft: with_ending(database, ".import"),
            rows: with_ending(database, ".import-rows"),
        }
    }

    fn refuse_existing(&self, origin: &Origin) -> Result<(), ImportError> {
        for file in [&self.database, &with_ending(&self.database, "-wal")] {
            if file.symlink_metadata().is_ok() {
                return Err(ImportError::NotEmpty {
                    origin: origin.clone(),
                    file: file.display().to_string(),
                });
            }
        }
        Ok(())
    }

    fn remove_drafts(&self) {
        for file in [&self.draft, &self.rows] {
            for ending in ["", "-journal", "-wal", "-shm"] {
                // Most of them are not there.
                drop(fs::remove_file(with_ending(file, ending)));
            }
        }
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn check(kv: &KeyValue) -> Result<(), ImportError> {
    let what = if kv.key.is_empty() {
        "no name"
    } else if kv.version < 1 {
        "no version"
    } else if kv.create_revision < 1 || kv.mod_revision < kv.create_revision {
        "revisions that contradict each other"
    } else {
        return Ok(());
    };
    Err(ImportError::Key {
        key: kv.key.escape_ascii().to_string(),
        what,
    })
}
