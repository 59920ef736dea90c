//! One etcd transaction under way: what it has changed so far, and the operations that change.
//!
//! Invariants:
//! 1. Everything that can refuse a request is looked at before its first change: what fails
//!    after that is the database, and takes the whole SQL transaction with it.
//! 2. All changes of a transaction have the revision after the marks'; none has a place that was
//!    given out before.

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
        RangeResponse,
    },
    mvccpb::KeyValue,
};

use super::range::{Scope, range};
use crate::{
    error::Stop,
    lease::Leases,
    session::{At, ChangeSeq, Entry, Marks, Row, Session, Sql, Values},
    wire::inner_header,
};

/// A key that a transaction has changed.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    /// As in events: a deletion has only a key and a revision.
    pub(crate) kv: KeyValue,
    pub(crate) before: Option<Entry>,
    /// What the key was before, where somebody wanted to know.
    pub(crate) prev_kv: Option<KeyValue>,
}

impl Changed {
    pub(crate) fn is_deletion(&self) -> bool {
        self.kv.version == 0
    }
}

/// A transaction under way.
#[derive(Debug)]
pub(crate) struct Tx<'a, S> {
    pub(super) session: &'a mut S,
    pub(super) marks: Marks,
    pub(super) leases: &'a Leases,
    /// Whether events are to carry what was before.
    wants_prev: bool,
    changes: Vec<Changed>,
}

impl<'a, S: Session> Tx<'a, S> {
    pub(crate) fn new(
        session: &'a mut S,
        marks: Marks,
        leases: &'a Leases,
        wants_prev: bool,
    ) -> Self {
        Self {
            session,
            marks,
            leases,
            wants_prev,
            changes: Vec::new(),
        }
    }

    /// The newest revision that the transaction itself sees.
    pub(crate) fn seen(&self) -> i64 {
        self.marks.revision + i64::from(!self.changes.is_empty())
    }

    pub(crate) fn into_changes(self) -> Vec<Changed> {
        self.changes
    }

    pub(super) fn check_lease(&self, lease: i64) -> Result<(), EtcdError> {
        if lease == 0 || self.leases.has(lease) {
            Ok(())
        } else {
            Err(EtcdError::LeaseNotFound)
        }
    }

    pub(super) fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Stop> {
        let mut kvs = Vec::new();
        let seen = self.seen();
        let scope = Scope {
            marks: &self.marks,
            seen,
            glance: None,
        };
        let ranged = range(self.session, &scope, request, &mut kvs)?;
        Ok(RangeResponse {
            header: Some(inner_header(seen)),
            kvs,
            more: ranged.more,
            count: ranged.count,
        })
    }

    /// A put that stands alone.
    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Stop> {
        self.check_lease(request.lease)?;
        self.do_put(request)
    }

    pub(super) fn do_put(&mut self, request: &PutRequest) -> Result<PutResponse, Stop> {
        let before = self.session.entry(&request.key)?;
        let (mut value, mut lease) = (request.value.clone(), request.lease);
        if request.ignore_value || request.ignore_lease {
            let before = before.ok_or(EtcdError::KeyNotFound)?;
            if request.ignore_value {
                value = self.session.value(before.place)?;
            }
            if request.ignore_lease {
                lease = before.lease;
            }
        }
        let prev_kv = self.prev_kv(&request.key, before, request.prev_kv)?;
        self.set(&request.key, value, lease, before, prev_kv.clone())?;
        Ok(PutResponse {
            header: Some(inner_header(self.seen())),
            prev_kv: prev_kv.filter(|_| request.prev_kv),
        })
    }

    fn set(
        &mut self,
        key: &Bytes,
        value: Bytes,
        lease: i64,
        before: Option<Entry>,
        prev_kv: Option<KeyValue>,
    ) -> Sql<()> {
        let (place, revision) = self.next();
        let entry = Entry {
            place,
            mod_revision: revision,
            create_revision: before.map_or(revision, |before| before.create_revision),
            version: before.map_or(0, |before| before.version) + 1,
            lease,
            size: i64::try_from(value.len()).unwrap_or(i64::MAX),
        };
        let row = row(key, &entry, &value);
        self.session.append(place, &row)?;
        self.session.set_current(key, &entry)?;
        let kv = KeyValue {
            key: key.clone(),
            create_revision: entry.create_revision,
            mod_revision: revision,
            version: entry.version,
            value,
            lease,
        };
        self.changed(kv, before, prev_kv);
        Ok(())
    }

    /// An event's value before is that of the revision before, also for the second change of a
    /// key in one transaction: etcd lets a delete without an end follow a put.
    fn changed(&mut self, kv: KeyValue, before: Option<Entry>, prev_kv: Option<KeyValue>) {
        let again = prev_kv
            .as_ref()
            .is_some_and(|prev| prev.mod_revision == kv.mod_revision);
        let prev_kv = if again {
            let mut earlier = self.changes.iter().rev();
            earlier
                .find(|change| change.kv.key == kv.key)
                .and_then(|change| change.prev_kv.clone())
        } else {
            prev_kv
        };
        self.changes.push(Changed {
            kv,
            before,
            prev_kv,
        });
    }

    pub(crate) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Stop> {
        let range = KeyRange::from_request(&request.key, &request.range_end);
        let mut keys = Vec::new();
        self.session
            .scan(&range, At::Now, Values::Leave, &mut |row| {
                keys.push(Bytes::copy_from_slice(row.key));
                true
            })?;
        let mut prev_kvs = Vec::new();
        for key in &keys {
            prev_kvs.extend(self.delete(key, request.prev_kv)?);
        }
        Ok(DeleteRangeResponse {
            header: Some(inner_header(self.seen())),
            deleted: i64::try_from(keys.len()).unwrap_or(i64::MAX),
            prev_kvs,
        })
    }

    /// Deletes a key, and returns what it was if that is wanted.
    pub(crate) fn delete(&mut self, key: &Bytes, wanted: bool) -> Sql<Option<KeyValue>> {
        let Some(before) = self.session.entry(key)? else {
            return Ok(None);
        };
        let prev_kv = self.prev_kv(key, Some(before), wanted)?;
        let (place, revision) = self.next();
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        let deletion = Row {
            key,
            mod_revision: revision,
            create_revision: 0,
            version: 0,
            lease: 0,
            value: &[],
        };
        self.session.append(place, &deletion)?;
        self.session.remove_current(key)?;
        let answer = prev_kv.clone().filter(|_| wanted);
        self.changed(kv, Some(before), prev_kv);
        Ok(answer)
    }

    fn prev_kv(
        &mut self,
        key: &Bytes,
        before: Option<Entry>,
        wanted: bool,
    ) -> Sql<Option<KeyValue>> {
        let Some(before) = before.filter(|_| wanted || self.wants_prev) else {
            return Ok(None);
        };
        Ok(Some(KeyValue {
            key: key.clone(),
            create_revision: before.create_revision,
            mod_revision: before.mod_revision,
            version: before.version,
            value: self.session.value(before.place)?,
            lease: before.lease,
        }))
    }

    /// The place and the revision of the next change.
    fn next(&self) -> (ChangeSeq, i64) {
        let made = i64::try_from(self.changes.len()).unwrap_or(i64::MAX);
        (
            ChangeSeq(self.marks.next_place.0 + made),
            self.marks.revision + 1,
        )
    }
}

fn row<'a>(key: &'a [u8], entry: &Entry, value: &'a [u8]) -> Row<'a> {
    Row {
        key,
        mod_revision: entry.mod_revision,
        create_revision: entry.create_revision,
        version: entry.version,
        lease: entry.lease,
        value,
    }
}
