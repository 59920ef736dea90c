//! What can go wrong with a database, and how it is told.
//!
//! Every message names the store and where its database is: an operator with ten of them must
//! not guess.

use std::{fmt, sync::Arc};

use keyloom_etcd_api::{EtcdError, Status};
use keyloom_store::CallError;

use crate::statement::Statement;

/// Which store and database an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The store's name in the topology.
    pub name: Arc<str>,
    /// Where its database is: the path of a file.
    pub place: Arc<str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {} ({})", self.name, self.place)
    }
}

/// What sort of trouble a database is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// No space is left on the disk, or the size that the database may have is reached.
    Full,
    /// It cannot be written.
    ReadOnly,
    /// Another process holds its lock for too long.
    Locked,
    /// Its contents make no sense.
    Corrupt,
    /// Reading or writing the file failed.
    Io,
    /// Anything else.
    Other,
}

impl FaultKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Locked => "locked by another process",
            Self::Corrupt => "corrupt",
            Self::Io => "not readable or writable",
            Self::Other => "failing",
        }
    }

    /// Its label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Locked => "locked",
            Self::Corrupt => "corrupt",
            Self::Io => "io",
            Self::Other => "other",
        }
    }
}

/// A statement that the database did not carry out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{origin} is {}: {statement}: {text}", kind.name())]
pub(crate) struct SqlFault {
    pub(crate) origin: Arc<Origin>,
    pub(crate) kind: FaultKind,
    pub(crate) statement: Statement,
    pub(crate) text: Arc<str>,
}

impl SqlFault {
    /// Whether another request could have succeeded where this one did not.
    pub(crate) fn may_be_of_one_request(&self) -> bool {
        matches!(self.kind, FaultKind::Full | FaultKind::Other)
    }

    /// The answer to a call of which it is certain that it changed nothing.
    pub(crate) fn refusal(&self) -> CallError {
        CallError::Refused(match self.kind {
            // The code and the text that clients know.
            FaultKind::Full => EtcdError::NoSpace.into(),
            FaultKind::Corrupt => Status::data_loss(self.to_string()),
            _ => Status::unavailable(self.to_string()),
        })
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// etcd would not have done it either.
    #[error("{}", .0.text())]
    Etcd(EtcdError),
    #[error(transparent)]
    Sql(#[from] SqlFault),
}

impl From<EtcdError> for Stop {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error)
    }
}

impl Stop {
    pub(crate) fn refusal(&self) -> CallError {
        match self {
            Self::Etcd(error) => CallError::Refused((*error).into()),
            Self::Sql(fault) => fault.refusal(),
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error(
        "{origin} is in use by {owner}: stop that process first; one process at a time can open a database \
         file"
    )]
    InUse {
        /// Which.
        origin: Origin,
        /// What the owner wrote into the lock file.
        owner: String,
    },
    /// The folder or the lock file beside the database cannot be used.
    #[error("{origin}: {file}: {why}")]
    File {
        /// Which.
        origin: Origin,
        /// Which file or folder.
        file: String,
        /// What the system says.
        why: std::io::Error,
    },
    /// It was written by a newer program.
    #[error(
        "{origin} has schema version {found}, and this program knows versions up to {known}: use a newer \
         Keyloom"
    )]
    NewerSchema {
        /// Which.
        origin: Origin,
        /// In the file.
        found: i64,
        /// The newest that this program can read.
        known: i64,
    },
    /// It is a database, but not one of this program.
    #[error("{origin} is a database of another program{hint}")]
    Foreign {
        /// Which.
        origin: Origin,
        /// What to do about it.
        hint: &'static str,
    },
    /// An import was not finished.
    #[error("{origin} is an unfinished import: remove the file and run the import again")]
    Unfinished {
        /// Which.
        origin: Origin,
    },
    /// It stands below what its clients were told.
    #[error(
        "{origin} is at revision {found}, but {noted} was given out, according to {file}: the \
         database is an older backup, or it has lost writes. Put the newer database back, or declare \
         the backup with `--restored {}`: then its revisions go on above all that were given out, \
         and clients list again", origin.name
    )]
    Older {
        /// Which.
        origin: Origin,
        /// Where the database stands.
        found: i64,
        /// What was given out.
        noted: i64,
        /// What says so.
        file: String,
    },
    /// It is declared to be a backup, and nothing says how far the original got.
    #[error(
        "{origin} is declared as restored, but there is no {file} that says which revisions were \
         given out: use `--restored {}=REVISION` with a revision above all of them", origin.name
    )]
    HowFar {
        /// Which.
        origin: Origin,
        /// What is missing.
        file: String,
    },
    /// What is noted beside it cannot be read.
    #[error(
        "{origin}: {file} is damaged, so it does not say which revisions were given out. If the \
         database is the newest one, remove that file. If it is a backup, remove that file and use \
         `--restored {}=REVISION` with a revision above all that were given out", origin.name
    )]
    BadNote {
        /// Which.
        origin: Origin,
        /// The file.
        file: String,
    },
    /// The database refused.
    #[error("{0}")]
    Database(Fault),
    /// Its parts contradict each other.
    #[error("{origin} is corrupt: {what}")]
    Inconsistent {
        /// Which.
        origin: Origin,
        /// What does not hold.
        what: &'static str,
    },
    /// The system gave no thread.
    #[error("{origin}: a thread could not be started: {why}")]
    Thread {
        /// Which.
        origin: Origin,
        /// What the system says.
        why: std::io::Error,
    },
}

/// A database in trouble, as other rooms see it.
#[derive(Clone, Debug)]
pub struct Fault(SqlFault);

impl Fault {
    /// What sort of trouble.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        self.0.kind
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<SqlFault> for OpenError {
    fn from(fault: SqlFault) -> Self {
        Self::Database(Fault(fault))
    }
}
