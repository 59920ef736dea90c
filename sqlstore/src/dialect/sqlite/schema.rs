//! The schema's versions, and who the store is.
//!
//! A database is brought to the newest version in one transaction when it is opened. One that
//! is newer than the program is refused, and so is one of another program.

use std::path::PathBuf;

use keyloom_environment::Random;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Restored, TimedStatements, given_out::Noted, sql};
use crate::{
    error::{OpenError, SqlFault},
    session::Identity,
    statement::Statement,
};

/// What brings a database from the version before to the next.
const MIGRATIONS: &[&str] = &[sql!("schema_1"), sql!("schema_2")];

/// The newest version.
const NEWEST: i64 = 2;

/// In SQLite's header, so that `file` and we can tell whose database it is: "kyLm".
const APPLICATION: i64 = 0x6b79_4c6d;

/// The same of a database that an import has not finished: "kyLd".
const DRAFT: i64 = 0x6b79_4c64;

/// Nobody takes the database for a whole one from here on.
pub(super) fn begin_draft(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", DRAFT)
}

/// It is whole.
pub(super) fn end_draft(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION)
}

/// What is known of a database from outside of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Where what was given out is noted.
    pub(super) note: PathBuf,
    /// What is noted there.
    pub(super) noted: Option<Noted>,
    /// Whether it is declared to be a backup.
    pub(super) restored: Option<Restored>,
}

/// Makes or migrates the database, and says who it is.
pub(super) fn prepare(
    connection: &Connection,
    watchman: &TimedStatements,
    random: &dyn Random,
    past: &Past,
) -> Result<Identity, OpenError> {
    let fault = |error: rusqlite::Error| watchman.fault(Statement::Migrate, &error);
    connection.execute_batch("BEGIN IMMEDIATE").map_err(fault)?;
    let prepared = migrate(connection, watchman, random, past);
    let end = if prepared.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    let ended = connection.execute_batch(end).map_err(fault);
    let identity = prepared?;
    ended?;
    Ok(identity)
}

fn migrate(
    connection: &Connection,
    watchman: &TimedStatements,
    random: &dyn Random,
    past: &Past,
) -> Result<Identity, OpenError> {
    let fault = |error: rusqlite::Error| watchman.fault(Statement::Migrate, &error);
    let found = version(connection, watchman)?;
    let pending = MIGRATIONS
        .iter()
        .skip(usize::try_from(found).unwrap_or(usize::MAX));
    for migration in pending {
        connection.execute_batch(migration).map_err(fault)?;
    }
    let stored = identity(connection).map_err(fault)?;
    let mut identity = stored.unwrap_or_else(|| draw(random));
    let above = lost(connection, watchman, identity, past)?;
    if let Some(above) = above {
        identity.incarnation = random.next();
        identity.raft_term += 1;
        start_above(connection, above).map_err(fault)?;
    }
    if found != NEWEST || above.is_some() {
        connection
            .pragma_update(None, "application_id", APPLICATION)
            .map_err(fault)?;
        set_identity(connection, identity).map_err(fault)?;
    }
    Ok(identity)
}

/// Above which revision a restored database has to go on; `None` where nothing was lost.
fn lost(
    connection: &Connection,
    watchman: &TimedStatements,
    identity: Identity,
    past: &Past,
) -> Result<Option<i64>, OpenError> {
    let fault = |error: rusqlite::Error| watchman.fault(Statement::Migrate, &error);
    let origin = watchman.origin.as_ref();
    let file = || past.note.display().to_string();
    let read = "SELECT revision FROM marks";
    let found: i64 = connection
        .query_row(read, [], |row| row.get(0))
        .map_err(fault)?;
    if let Some(other) = past
        .noted
        .filter(|noted| noted.cluster_id != identity.cluster_id)
    {
        tracing::warn!(
            store = %origin, was = other.cluster_id, is = identity.cluster_id,
            "the database file was replaced by another one; the last one was at revision {}",
            other.revision
        );
    }
    let ours = |noted: &Noted| noted.cluster_id == identity.cluster_id;
    let noted = past.noted.filter(ours).map(|noted| noted.revision);
    let Some(restored) = past.restored else {
        return match noted {
            Some(noted) if noted > found => Err(OpenError::Older {
                origin: origin.clone(),
                found,
                noted,
                file: file(),
            }),
            _ => Ok(None),
        };
    };
    let Some(above) = noted.max(restored.above) else {
        let (origin, file) = (origin.clone(), file());
        return Err(OpenError::HowFar { origin, file });
    };
    if found >= noted.unwrap_or(0) && found > restored.above.unwrap_or(0) {
        tracing::info!(store = %origin, found, "--restored has no effect: the database is above revision {above} already");
        return Ok(None);
    }
    tracing::warn!(store = %origin, found, above, "restored from a backup: revisions go on above all that were given out");
    Ok(Some(above))
}

/// The version of the schema; 0 where there is none yet.
pub(super) fn version(
    connection: &Connection,
    watchman: &TimedStatements,
) -> Result<i64, OpenError> {
    let fault = |error: rusqlite::Error| watchman.fault(Statement::Migrate, &error);
    let application: i64 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(fault)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 OR ?1 = ''";
    let count = |name: &str| -> Result<i64, SqlFault> {
        connection
            .query_row(tables, [name], |row| row.get(0))
            .map_err(fault)
    };
    if application == DRAFT {
        let origin = watchman.origin.as_ref().clone();
        return Err(OpenError::Unfinished { origin });
    }
    if application != APPLICATION {
        return match (application, count("")?, count("kine")?) {
            (0, 0, _) => Ok(0),
            (_, _, kine) => Err(foreign(watchman, kine > 0)),
        };
    }
    let found = connection
        .query_row("SELECT schema_version FROM identity", [], |row| row.get(0))
        .map_err(fault)?;
    if found > NEWEST {
        let origin = watchman.origin.as_ref().clone();
        return Err(OpenError::NewerSchema {
            origin,
            found,
            known: NEWEST,
        });
    }
    Ok(found)
}

fn foreign(watchman: &TimedStatements, kine: bool) -> OpenError {
    OpenError::Foreign {
        origin: watchman.origin.as_ref().clone(),
        hint: if kine {
            ", kine; import it instead"
        } else {
            ""
        },
    }
}

fn identity(connection: &Connection) -> rusqlite::Result<Option<Identity>> {
    let read = |row: &rusqlite::Row<'_>| {
        let number = |column| row.get(column).map(i64::cast_unsigned);
        Ok(Identity {
            cluster_id: number(1)?,
            member_id: number(2)?,
            raft_term: number(3)?,
            incarnation: number(4)?,
        })
    };
    connection.query_row(sql!("identity"), [], read).optional()
}

fn set_identity(connection: &Connection, identity: Identity) -> rusqlite::Result<()> {
    let Identity {
        cluster_id,
        member_id,
        raft_term,
        incarnation,
    } = identity;
    let [cluster_id, member_id, raft_term, incarnation] =
        [cluster_id, member_id, raft_term, incarnation].map(u64::cast_signed);
    let params = params![NEWEST, cluster_id, member_id, raft_term, incarnation];
    connection.execute(sql!("set_identity"), params).map(drop)
}

fn draw(random: &dyn Random) -> Identity {
    let cluster_id = random.next().max(1);
    Identity {
        cluster_id,
        // One member for ever: any number that is not the cluster's and never 0 will do.
        member_id: cluster_id.rotate_left(32) ^ 0x6b65_796c_6f6f_6d01,
        raft_term: 2,
        incarnation: random.next(),
    }
}

/// Moves the revision past what may have been given out, and closes everything below to
/// readers: what they saw there may have been something else.
fn start_above(connection: &Connection, above: i64) -> rusqlite::Result<()> {
    let sql =
        "UPDATE marks SET revision = max(revision, ?1) + 1, compacted = max(revision, ?1) + 1";
    connection.execute(sql, [above]).map(drop)
}
