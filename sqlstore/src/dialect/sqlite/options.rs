//! How a store on SQLite is opened: its file, and the arguments of a `sqlite://` URL.

use std::{collections::BTreeMap, path::PathBuf};

use tokio::time::Duration;

use crate::{error::Origin, options::StoreOptions};

/// When SQLite waits for the disk; in the order of what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Synchronous {
    /// Never. A crash of the machine may corrupt the file.
    Off,
    /// At checkpoints. A loss of power may take acknowledged writes with it.
    Normal,
    /// At each commit. What was acknowledged survives a loss of power.
    #[default]
    Full,
    /// As [`Synchronous::Full`]; SQLite's write-ahead log knows no difference.
    Extra,
}

impl Synchronous {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
            Self::Extra => "EXTRA",
        }
    }
}

/// Everything that can be chosen about a store on SQLite.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// What goes for a store on any dialect.
    pub store: StoreOptions,
    /// The database file; its folder is made where it is missing.
    pub path: PathBuf,
    /// Whether a file that is not there is made.
    pub create: bool,
    /// When SQLite waits for the disk.
    pub synchronous: Synchronous,
    /// How long to wait for a lock that another program holds.
    pub busy_timeout: Duration,
    /// The writer's page cache, in KiB. Each reader has a quarter of it.
    pub cache_kib: u32,
    /// The most pages of 4 KiB that the database may have; no limit where 0.
    pub max_pages: u32,
    /// Set when the file was taken back from a backup.
    pub restored: Option<Restored>,
}

/// Declares that a database file was taken back from a backup: the store becomes a new
/// incarnation, and its revisions go on above everything that was given out. What was given out
/// since the backup is thereby known to be gone, and is never given out again. Where the store is
/// above it already, nothing is done, so that the declaration may be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// No revision above this one was given out; besides what is noted beside the file.
    pub above: Option<i64>,
}

impl SqliteOptions {
    /// The defaults for a store.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            store: StoreOptions::new(name),
            path: path.into(),
            create: true,
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            cache_kib: 64 * 1024,
            max_pages: 0,
            restored: None,
        }
    }

    pub(super) fn origin(&self) -> Origin {
        Origin {
            name: self.store.name.as_str().into(),
            place: self.path.display().to_string().into(),
        }
    }

    /// Takes over the arguments of a `sqlite://` URL, by their canonical names.
    ///
    /// # Errors
    /// Where an argument asks for what this store does not do.
    pub fn with_arguments(
        mut self,
        arguments: &BTreeMap<String, String>,
    ) -> Result<Self, ArgumentError> {
        for (name, value) in arguments {
            self.argument(name, value)?;
        }
        Ok(self)
    }

    fn argument(&mut self, name: &str, value: &str) -> Result<(), ArgumentError> {
        let refused = |why| Err(ArgumentError::new(name, value, why));
        match (name, value.to_ascii_lowercase().as_str()) {
            ("_journal_mode", "wal") => {}
            ("_journal_mode", _) => {
                return refused("only WAL lets readers and the writer work at once");
            }
            ("_busy_timeout", number) => match number.parse() {
                Ok(ms) => self.busy_timeout = Duration::from_millis(ms),
                Err(_) => return refused("must be milliseconds"),
            },
            ("_synchronous", "off" | "0") => self.synchronous = Synchronous::Off,
            ("_synchronous", "normal" | "1") => self.synchronous = Synchronous::Normal,
            ("_synchronous", "full" | "2") => self.synchronous = Synchronous::Full,
            ("_synchronous", "extra" | "3") => self.synchronous = Synchronous::Extra,
            ("_cache_size", number) => match number.parse::<i64>() {
                Ok(size) => self.cache_kib = cache_kib(size),
                Err(_) => return refused("must be a whole number"),
            },
            ("_max_page_count", number) => match number.parse() {
                Ok(pages) => self.max_pages = pages,
                Err(_) => return refused("must be a number of pages of 4 KiB"),
            },
            // One writer and locks taken at once is how this store works anyway; a cache shared
            // between connections would make readers wait for the writer. Every statement is
            // kept prepared. Nothing is rewritten at start, and checkpoints make nobody wait.
            (
                "_txlock"
                | "cache"
                | "_stmt_cache_size"
                | "_kine_disable_startup_vacuum"
                | "_kine_disable_compact_wal_checkpoint"
                | "_kine_disable_wal_autocheckpoint",
                _,
            )
            | ("mode", "rwc") => {}
            ("mode", "rw") => self.create = false,
            ("mode", _) => return refused("the store must be able to write to a file"),
            _ => return refused("unknown"),
        }
        Ok(())
    }
}

/// Pages of 4 KiB where positive, KiB where negative, as in SQLite.
fn cache_kib(size: i64) -> u32 {
    let kib = if size < 0 {
        size.saturating_neg()
    } else {
        size.saturating_mul(4)
    };
    u32::try_from(kib).unwrap_or(u32::MAX).max(1024)
}

/// An argument of a `sqlite://` URL that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("argument {name}={value}: {why}")]
pub struct ArgumentError {
    name: String,
    value: String,
    why: &'static str,
}

impl ArgumentError {
    fn new(name: &str, value: &str, why: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn with(arguments: &[(&str, &str)]) -> Result<SqliteOptions, ArgumentError> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        SqliteOptions::new("a", "b").with_arguments(&arguments.iter().map(pair).collect())
    }

    #[test]
    fn kines_example_is_understood() {
        let options = with(&[
            ("_journal_mode", "WAL"),
            ("cache", "shared"),
            ("_busy_timeout", "30000"),
            ("_txlock", "immediate"),
            ("_synchronous", "NORMAL"),
            ("_cache_size", "-2000"),
            ("_stmt_cache_size", "20"),
            ("_kine_disable_startup_vacuum", ""),
            ("_kine_disable_compact_wal_checkpoint", ""),
            ("_kine_disable_wal_autocheckpoint", ""),
            ("_max_page_count", "1000"),
        ])
        .unwrap();
        assert_eq!(options.busy_timeout, Duration::from_secs(30));
        assert_eq!(options.synchronous, Synchronous::Normal);
        assert_eq!((options.cache_kib, options.max_pages), (2000, 1000));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for argument in [
            ("_journal_mode", "DELETE"),
            ("mode", "memory"),
            ("mode", "ro"),
            ("x", "1"),
            ("_max_page_count", "-1"),
        ] {
            assert!(with(&[argument]).is_err(), "{argument:?}");
        }
        assert!(!with(&[("mode", "rw")]).unwrap().create);
        assert_eq!(with(&[]).unwrap().synchronous, Synchronous::Full);
    }
}
