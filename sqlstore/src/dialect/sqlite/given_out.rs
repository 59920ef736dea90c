//! Which revisions were given out, noted beside the database.
//!
//! A database that is taken back from an older backup gives out again, for other contents, the
//! revisions that its clients know already, and nothing inside of it can tell. So the newest
//! revision is also written into a small file beside it, after the commit and before anybody
//! hears of it. Whoever puts an older database there finds it refused when it is opened.
//!
//! Invariants:
//! 1. What is noted is committed: the note is never ahead of the database that it stands beside.
//! 2. It is not synced. A kill of the process loses nothing of it; a loss of power can leave it
//!    behind, and then an older backup is not told by as many revisions. Never the other way.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use crate::{
    error::{OpenError, Origin},
    session::HighWaterMark,
};

/// The first word of the file, with the version of its form.
const MAGIC: &str = "keyloom-given-out-1";

/// What a note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The store that gave it out.
    pub(crate) cluster_id: u64,
    /// Everything up to here may be known to somebody.
    pub(crate) revision: i64,
}

/// The file beside a database, and what was in it.
#[derive(Debug)]
pub(crate) struct NoteFile {
    file: File,
    path: PathBuf,
    found: Option<Noted>,
}

impl NoteFile {
    /// Reads what is noted beside a database; the caller owns the database.
    pub(crate) fn open(database: &Path, origin: &Origin) -> Result<Self, OpenError> {
        let path = beside(database);
        let failed = |why| OpenError::File {
            origin: origin.clone(),
            file: path.display().to_string(),
            why,
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let found = read(&text).ok_or_else(|| OpenError::BadNote {
            origin: origin.clone(),
            file: path.display().to_string(),
        })?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(&path);
        Ok(Self {
            file: file.map_err(failed)?,
            path,
            found,
        })
    }

    /// What was noted before the store was opened.
    pub(crate) fn found(&self) -> Option<Noted> {
        self.found
    }

    /// Goes on noting for the store that was opened.
    pub(crate) fn of_store(self, cluster_id: u64, origin: Arc<Origin>) -> Notes {
        Notes {
            file: self.file,
            path: self.path,
            origin,
            cluster_id,
            written: AtomicI64::new(0),
            failing: AtomicBool::new(false),
        }
    }
}

/// The notes of one open store.
#[derive(Debug)]
pub(crate) struct Notes {
    file: File,
    path: PathBuf,
    origin: Arc<Origin>,
    cluster_id: u64,
    written: AtomicI64,
    failing: AtomicBool,
}

impl HighWaterMark for Notes {
    /// A note that cannot be written costs only that an older backup may not be told.
    fn note(&self, revision: i64) {
        if self.written.swap(revision, Ordering::Relaxed) == revision {
            return;
        }
        let line = line(Noted {
            cluster_id: self.cluster_id,
            revision,
        });
        let failed = self.file.write_all_at(line.as_bytes(), 0).err();
        let before = self.failing.swap(failed.is_some(), Ordering::Relaxed);
        if let Some(error) = failed.filter(|_| !before) {
            tracing::warn!(
                store = %self.origin, file = %self.path.display(), %error,
                "the newest revision could not be recorded beside the database: an older backup of it may \
                 not be detected"
            );
        }
    }
}

/// The file that belongs to a database.
pub(crate) fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".given-out");
    name.into()
}

/// Always the same length: it is written over the one before.
fn line(noted: Noted) -> String {
    let Noted {
        cluster_id,
        revision,
    } = noted;
    format!("{MAGIC} {cluster_id:016x} {revision:020}\n")
}

/// `None` where it is no note; a file that the system had no time to write says nothing.
fn read(text: &[u8]) -> Option<Option<Noted>> {
    if text.iter().all(|byte| *byte == 0) {
        return Some(None);
    }
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let (magic, cluster_id, revision) = (words.next()?, words.next()?, words.next()?);
    let noted = Noted {
        cluster_id: u64::from_str_radix(cluster_id, 16).ok()?,
        revision: revision.parse().ok()?,
    };
    (magic == MAGIC && words.next().is_none()).then_some(Some(noted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for revision in [1, 7, i64::MAX] {
            let noted = Noted {
                cluster_id: 0xabc,
                revision,
            };
            let text = line(noted);
            assert_eq!(read(text.as_bytes()), Some(Some(noted)));
            assert_eq!(
                text.len(),
                line(Noted {
                    cluster_id: u64::MAX,
                    revision: 2
                })
                .len()
            );
        }
    }

    #[test]
    fn what_is_no_note_is_told_from_one_that_says_nothing() {
        assert_eq!(read(b""), Some(None));
        assert_eq!(read(&[0; 40]), Some(None));
        for text in [
            &b"hello"[..],
            b"keyloom-given-out-2 00 1",
            b"keyloom-given-out-1 00",
            b"keyloom-given-out-1 00 1 2",
            b"\xff\xff",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
