//! Leases as the writer knows them: which there are and when they end.
//!
//! The table in the database is the truth; this is its copy, changed together with it by the one
//! writer and read anew after a failed commit. An end is a time of day, so that it survives a
//! restart; a lease whose end came while nobody ran ends as soon as the store is opened.

use std::collections::{BTreeSet, HashMap};

use keyloom_environment::Random;

use crate::session::LeaseRow;

/// etcd's upper limit, in seconds.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;

/// What etcd makes of smaller ones with its default election timeout, in seconds.
pub(crate) const MIN_TTL: i64 = 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    by_id: HashMap<i64, LeaseRow>,
    by_end: BTreeSet<(i64, i64)>,
}

impl Leases {
    pub(crate) fn new(rows: Vec<LeaseRow>) -> Self {
        let mut leases = Self::default();
        rows.into_iter().for_each(|row| leases.set(row));
        leases
    }

    pub(crate) fn has(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn get(&self, id: i64) -> Option<LeaseRow> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn set(&mut self, row: LeaseRow) {
        if let Some(before) = self.by_id.insert(row.id, row) {
            self.by_end.remove(&(before.expires_ms, before.id));
        }
        self.by_end.insert((row.expires_ms, row.id));
    }

    pub(crate) fn remove(&mut self, id: i64) {
        if let Some(before) = self.by_id.remove(&id) {
            self.by_end.remove(&(before.expires_ms, id));
        }
    }

    /// When the next lease ends.
    pub(crate) fn next_end(&self) -> Option<i64> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// The leases whose end has come, the first to end first.
    pub(crate) fn due(&self, now_ms: i64, most: usize) -> Vec<i64> {
        let due = self.by_end.iter().take_while(|(end, _)| *end <= now_ms);
        due.take(most).map(|(_, id)| *id).collect()
    }

    /// An id for a client that gave none.
    pub(crate) fn choose_id(&self, random: &dyn Random) -> i64 {
        loop {
            let id = (random.next() >> 1).cast_signed();
            if id != 0 && !self.has(id) {
                return id;
            }
        }
    }
}

impl LeaseRow {
    pub(crate) fn granted(id: i64, ttl: i64, now_ms: i64) -> Self {
        let expires_ms = now_ms.saturating_add(ttl.saturating_mul(1000));
        Self {
            id,
            ttl,
            expires_ms,
        }
    }

    pub(crate) fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms <= now_ms
    }

    /// Whole seconds, as etcd gives them.
    pub(crate) fn remaining(&self, now_ms: i64) -> i64 {
        self.expires_ms.saturating_sub(now_ms).max(0) / 1000
    }
}
