//! One owner per database file.
//!
//! The lock is on a file beside the database: SQLite's own locks are taken per transaction, and
//! a lock of ours on the same file would be lost with the first descriptor that is closed. The
//! system gives it back when the process ends, however it ends. The file stays: taking it away
//! would let two processes each lock a different one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use crate::error::{OpenError, Origin};

/// Held as long as the database is open.
#[derive(Debug)]
pub(crate) struct Ownership {
    _file: File,
}

/// Takes the database, or says who has it.
pub(crate) fn own(database: &Path, origin: &Origin) -> Result<Ownership, OpenError> {
    let path = beside(database);
    let failed = |why| OpenError::File {
        origin: origin.clone(),
        file: path.display().to_string(),
        why,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse {
                origin: origin.clone(),
                owner: owner(file),
            });
        }
        Err(TryLockError::Error(why)) => return Err(failed(why)),
    }
    let note = format!("process {} (store {})\n", std::process::id(), origin.name);
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(note.as_bytes()));
    written.map_err(failed)?;
    Ok(Ownership { _file: file })
}

fn owner(mut file: File) -> String {
    let mut note = String::new();
    match file.read_to_string(&mut note) {
        Ok(_) if !note.trim().is_empty() => note.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
