//! What the core asks of a database: the seam between etcd's semantics and a dialect of SQL.
//!
//! Two tables and a row of marks carry everything:
//!
//! ```text
//! history  place (the order of changes) -> revision, key, value, ...   one row per change
//! current  key -> place of its last change, revisions, version, lease   one row per living key
//! marks    revision, next place, compacted revision, swept place        one row
//! ```
//!
//! Beside them leases, and counts of `current`, so that nobody has to read all of it.
//!
//! What a dialect needs: transactions that see one state, bytes in the order of their values as
//! keys, an upsert. What only some have stays behind the seam, and is named here by what it is
//! for: a commit that need not wait for the disk ([`Survives::WithTheNext`], which may be as
//! [`Survives::Power`]), space that is given back by and by, what is to be done between writes
//! (each of which may do nothing).
//!
//! Invariants:
//! 1. Places and revisions are given out by the one writer and are committed together with what
//!    they number: there is no hole, none is seen before a lower one, none is given out twice.
//! 2. Places grow with revisions; a transaction's changes share a revision and have a place each.
//! 3. A key's changes of one revision have places too: the last one is what the revision made of
//!    it. (A put and then a delete without an end is the one way to two of them.)
//! 4. `current` holds exactly the keys whose last change in `history` is not a deletion.
//! 5. At or above the compacted revision no change that a reader can see is missing.
//! 6. Counts that are kept are written by the transaction that changes what they count.

use std::cmp::Ordering;

use bytes::Bytes;
use keyloom_etcd_api::{KeyRange, mvccpb::KeyValue};
use keyloom_etcd_semantics::Fields;

use crate::{
    error::SqlFault,
    key_counts::BlockChange,
    usage::{ClassChange, Usage},
};

pub(crate) type Sql<T> = Result<T, SqlFault>;

/// The place of a change in the order of all changes. Clients never see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangeSeq(pub(crate) i64);

/// Where the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The revision of the last change; 1 in an empty store.
    pub(crate) revision: i64,
    /// The place of the next change.
    pub(crate) next_place: ChangeSeq,
    /// What the last compaction was asked for; -1 before the first, as in etcd.
    pub(crate) compacted: i64,
    /// Up to here the rows that the compaction leaves behind are removed.
    pub(crate) swept: ChangeSeq,
}

/// Who the store is. Drawn when it was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As in the headers of answers.
    pub cluster_id: u64,
    /// As in the headers of answers.
    pub member_id: u64,
    /// As in the headers of answers; grows when the store is taken back from a backup.
    pub raft_term: u64,
    /// Drawn anew when the store is declared to be restored from a backup.
    pub incarnation: u64,
}

/// Where a dialect notes, beside the database, which revisions were given out, so that an older
/// backup in its place can be told. It may do nothing where the database itself can tell.
pub(crate) trait HighWaterMark: std::fmt::Debug + Send + Sync {
    /// Notes a committed revision that is about to be shown. A failure is the dialect's to tell
    /// its operator of.
    fn note(&self, revision: i64);
}

/// What is known of a living key without reading its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: ChangeSeq,
    pub(crate) mod_revision: i64,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    /// The length of the value.
    pub(crate) size: i64,
}

/// A key at one revision. Borrowed from the database's own memory where it can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) mod_revision: i64,
    pub(crate) create_revision: i64,
    /// 0 where the row is a deletion, as in etcd's events.
    pub(crate) version: i64,
    pub(crate) lease: i64,
    /// Empty where values were not asked for.
    pub(crate) value: &'a [u8],
}

impl Fields for Row<'_> {
    fn version(&self) -> i64 {
        self.version
    }

    fn create_revision(&self) -> i64 {
        self.create_revision
    }

    fn mod_revision(&self) -> i64 {
        self.mod_revision
    }

    fn lease(&self) -> i64 {
        self.lease
    }

    fn cmp_value(&self, other: &[u8]) -> Ordering {
        self.value.cmp(other)
    }
}

impl Row<'_> {
    pub(crate) fn is_deletion(&self) -> bool {
        self.version == 0
    }

    pub(crate) fn to_key_value(self) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            value: Bytes::copy_from_slice(self.value),
            lease: self.lease,
        }
    }
}

/// Which state a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The newest, what the session itself has written included.
    Now,
    /// As it was after the change at this place.
    After(ChangeSeq),
}

/// Whether a scan reads values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    Read,
    Leave,
}

/// How many living keys there are, and what they take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By blocks of the key space, in order; the first begins at the empty key.
    pub(crate) blocks: Vec<(Bytes, i64)>,
    /// By classes of keys.
    pub(crate) classes: Vec<(Bytes, Usage)>,
}

/// What becomes of counts; `None` where one will not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountChanges {
    pub(crate) blocks: Vec<BlockChange>,
    pub(crate) classes: Vec<ClassChange>,
}

/// What a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// A loss of power does not take it.
    Power,
    /// It is there for every reader, and a loss of power takes it only if it takes nothing
    /// before it; the next commit that survives a loss of power keeps it too. Nobody waits for
    /// the disk.
    WithTheNext,
}

/// How much of the disk the next transactions may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// What was allowed to the database.
    Quota,
    /// A little more: a deletion, and what sweeps behind one, takes room before it makes some.
    Reserve,
}

/// A lease as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) id: i64,
    /// In seconds.
    pub(crate) ttl: i64,
    /// A time of day.
    pub(crate) expires_ms: i64,
}

/// What the database takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Without the log, which SQLite keeps at its length after a compaction.
    pub(crate) total: i64,
    pub(crate) in_use: i64,
    /// The most that the database may take; 0 where there is no limit.
    pub(crate) quota: i64,
}

/// Takes rows; `false` ends the scan.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&Row<'_>) -> bool;

/// Takes changes with their places; `false` ends the scan.
pub(crate) type VisitChange<'v> = &'v mut dyn FnMut(ChangeSeq, &Row<'_>) -> bool;

/// One connection to the database. Not shared: each thread has its own.
pub(crate) trait Session: Send + 'static {
    /// Begins a transaction that sees one state from now on: every commit that was acknowledged
    /// is in it.
    fn begin_read(&mut self) -> Sql<()>;
    /// Says how much room the transactions from now on have. Outside of them.
    fn allow(&mut self, room: Room) -> Sql<()>;
    /// Begins the transaction that may write. Only the writer's session does.
    fn begin_write(&mut self, survives: Survives) -> Sql<()>;
    /// Once this returns, what was written survives what was asked for. An error leaves open
    /// whether it does.
    fn commit(&mut self) -> Sql<()>;
    /// How many pages the last commit wrote, as far as is known.
    fn pages_of_last_commit(&self) -> i64;
    /// Ends the transaction; nothing of it remains. Harmless where there is none.
    fn rollback(&mut self);

    fn marks(&mut self) -> Sql<Marks>;
    fn set_marks(&mut self, marks: &Marks) -> Sql<()>;

    /// The counts that are kept; `None` where they are not those of the newest change: what wrote
    /// it kept none.
    fn counts(&mut self) -> Sql<Option<Counts>>;
    /// Keeps counts that are those of the newest change by the marks. `anew` forgets all others.
    fn set_counts(&mut self, changes: &CountChanges, anew: bool) -> Sql<()>;

    /// A living key as it is now.
    fn entry(&mut self, key: &[u8]) -> Sql<Option<Entry>>;
    /// The value that the change at `place` set.
    fn value(&mut self, place: ChangeSeq) -> Sql<Bytes>;
    /// The last change of `key` at or before `place`, deletions included.
    fn last_change(&mut self, key: &[u8], place: ChangeSeq) -> Sql<Option<KeyValue>>;
    /// The living keys of a range in their order.
    fn scan(&mut self, range: &KeyRange, at: At, values: Values, visit: Visit<'_>) -> Sql<()>;
    /// How many living keys a range has, without reading values.
    fn count(&mut self, range: &KeyRange, at: At) -> Sql<i64>;
    /// The keys and the lengths of their values, all of them in their order.
    fn sizes(&mut self, visit: &mut dyn FnMut(&[u8], i64)) -> Sql<()>;
    /// The changes in `(from, to]` in their order.
    fn changes(
        &mut self,
        from: ChangeSeq,
        to: ChangeSeq,
        values: Values,
        visit: VisitChange<'_>,
    ) -> Sql<()>;
    /// The place of the last change at or below a revision.
    fn seq_at(&mut self, revision: i64, marks: &Marks) -> Sql<ChangeSeq>;

    /// Adds a change to the history.
    fn append(&mut self, place: ChangeSeq, row: &Row<'_>) -> Sql<()>;
    fn set_current(&mut self, key: &[u8], entry: &Entry) -> Sql<()>;
    fn remove_current(&mut self, key: &[u8]) -> Sql<()>;
    /// Removes what the changes in `(from, to]` have superseded, and those of them that are
    /// deletions below `revision`.
    fn sweep(&mut self, from: ChangeSeq, to: ChangeSeq, revision: i64) -> Sql<usize>;

    /// Every lease, the next to expire first.
    fn leases(&mut self) -> Sql<Vec<LeaseRow>>;
    fn lease(&mut self, id: i64) -> Sql<Option<LeaseRow>>;
    fn set_lease(&mut self, lease: &LeaseRow) -> Sql<()>;
    fn remove_lease(&mut self, id: i64) -> Sql<()>;
    /// The living keys that hang on a lease, in their order.
    fn leased_keys(&mut self, id: i64) -> Sql<Vec<Bytes>>;

    fn space(&mut self) -> Sql<Space>;
    /// Gives so many pages of the unused space back to the system, and commits, as a
    /// [`Survives::WithTheNext`]; whether more is left that is worth it. Outside of transactions.
    fn give_back_space(&mut self, all: bool, pages: i64) -> Sql<bool>;
    /// Does what the database needs between two transactions of the writer. Bounded: what takes
    /// long is done elsewhere.
    fn between_writes(&mut self) -> Sql<()>;
}
