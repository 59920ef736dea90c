//! The model's core: one etcd member that is alone in its cluster.

use keyloom_etcd_api::{
    EtcdError, KeyRange, check_compaction, check_delete_range, check_put, check_range, check_txn,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
    },
};

use super::{Keyspace, lease::Leases, range, txn};
use crate::{Answer, Step};

/// Who an etcd says that it is, in every header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub raft_term: u64,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            cluster_id: 0xc0ff_ee00,
            member_id: 0x0e7c_d001,
            raft_term: 2,
        }
    }
}

/// etcd's `--max-txn-ops`.
const MAX_TXN_OPS: usize = 128;

/// An etcd in memory.
#[derive(Clone, Debug)]
pub struct Etcd {
    identity: Identity,
    keyspace: Keyspace,
    /// The revision of the last compaction; -1 before the first, as in etcd.
    compacted: i64,
    leases: Leases,
}

impl Default for Etcd {
    fn default() -> Self {
        Self::new(Identity::default())
    }
}

impl Etcd {
    /// An empty etcd, at revision 1.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self::with_keyspace(identity, Keyspace::default())
    }

    /// An etcd that has these keys.
    #[must_use]
    pub fn with_keyspace(identity: Identity, keyspace: Keyspace) -> Self {
        Self {
            identity,
            keyspace,
            compacted: -1,
            leases: Leases::default(),
        }
    }

    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The revision of the last write.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.keyspace.revision()
    }

    /// The revision of the last compaction; -1 where there was none.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// The keyspace, to be written past etcd's rules. Leases do not notice.
    pub fn keyspace_mut(&mut self) -> &mut Keyspace {
        &mut self.keyspace
    }

    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(super) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Makes one call.
    ///
    /// # Errors
    /// As etcd.
    pub fn apply(&mut self, step: &Step) -> Result<Answer, EtcdError> {
        Ok(match step {
            Step::Range(request) => Answer::Range(self.range(request)?),
            Step::Put(request) => Answer::Put(self.put(request)?),
            Step::DeleteRange(request) => Answer::DeleteRange(self.delete_range(request)?),
            Step::Txn(request) => Answer::Txn(self.txn(request)?),
            Step::Compact(request) => Answer::Compact(self.compact(request)?),
        })
    }

    /// # Errors
    /// As etcd.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, EtcdError> {
        check_range(request)?;
        let mut answer = self.do_range(request)?;
        self.sign(&mut answer.header);
        Ok(answer)
    }

    /// Answers as a member that has seen the writes up to a revision only.
    ///
    /// # Errors
    /// As etcd, and where that revision is yet to come.
    pub fn range_as_of(
        &self,
        request: &RangeRequest,
        seen: i64,
    ) -> Result<RangeResponse, EtcdError> {
        check_range(request)?;
        range::read_at(seen, self.revision(), self.compacted)?;
        let mut answer = range::range(&self.keyspace, request, seen, self.compacted)?;
        self.sign(&mut answer.header);
        Ok(answer)
    }

    /// # Errors
    /// As etcd.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, EtcdError> {
        check_put(request)?;
        self.check_lease(request.lease)?;
        let mut answer = self.do_put(request)?;
        self.keyspace.commit();
        self.sign(&mut answer.header);
        Ok(answer)
    }

    /// # Errors
    /// As etcd.
    pub fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, EtcdError> {
        check_delete_range(request)?;
        let mut answer = self.do_delete_range(request);
        self.keyspace.commit();
        self.sign(&mut answer.header);
        Ok(answer)
    }

    /// # Errors
    /// As etcd.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, EtcdError> {
        check_txn(request, MAX_TXN_OPS)?;
        let branch = txn::choose(&self.keyspace, request);
        txn::check(self, &branch)?;
        // etcd stops for good where this goes wrong. It does where a put keeps the value of a key
        // that the same transaction deletes; `check_txn` lets no such transaction through, etcd
        // those whose delete has no end.
        let mut answer = txn::execute(self, &branch).inspect_err(|_| self.keyspace.abandon())?;
        self.keyspace.commit();
        answer.header = Some(self.header());
        Ok(answer)
    }

    /// # Errors
    /// As etcd.
    pub fn compact(
        &mut self,
        request: &CompactionRequest,
    ) -> Result<CompactionResponse, EtcdError> {
        check_compaction(request, self.compacted, self.revision())?;
        self.compacted = request.revision;
        self.keyspace.compact(request.revision);
        Ok(CompactionResponse {
            header: Some(self.header()),
        })
    }

    /// A header as etcd puts it on what it answers now.
    #[must_use]
    pub fn header(&self) -> ResponseHeader {
        self.header_at(self.revision())
    }

    fn header_at(&self, revision: i64) -> ResponseHeader {
        let Identity {
            cluster_id,
            member_id,
            raft_term,
        } = self.identity;
        ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term,
        }
    }

    /// Completes the header of an answer.
    fn sign(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header_at(revision));
    }

    pub(super) fn check_lease(&self, lease: i64) -> Result<(), EtcdError> {
        if lease == 0 || self.leases.has(lease) {
            Ok(())
        } else {
            Err(EtcdError::LeaseNotFound)
        }
    }

    pub(super) fn do_range(&self, request: &RangeRequest) -> Result<RangeResponse, EtcdError> {
        let seen = self.keyspace.seen_revision();
        range::range(&self.keyspace, request, seen, self.compacted)
    }

    pub(super) fn do_put(&mut self, request: &PutRequest) -> Result<PutResponse, EtcdError> {
        let before = self
            .keyspace
            .get(&request.key, self.keyspace.seen_revision())
            .cloned();
        let (mut value, mut lease) = (request.value.clone(), request.lease);
        if request.ignore_value || request.ignore_lease {
            let before = before.as_ref().ok_or(EtcdError::KeyNotFound)?;
            if request.ignore_value {
                value = before.value.clone();
            }
            if request.ignore_lease {
                lease = before.lease;
            }
        }
        self.keyspace.put(&request.key, value, lease);
        Ok(PutResponse {
            header: Some(revision_only(self.keyspace.seen_revision())),
            prev_kv: before.filter(|_| request.prev_kv),
        })
    }

    pub(super) fn do_delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::from_request(&request.key, &request.range_end);
        let deleted = self.keyspace.delete(&range);
        DeleteRangeResponse {
            header: Some(revision_only(self.keyspace.seen_revision())),
            deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
            prev_kvs: if request.prev_kv { deleted } else { Vec::new() },
        }
    }
}

/// A header as etcd makes it before it is completed, and as it leaves it inside transactions.
fn revision_only(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..ResponseHeader::default()
    }
}

#[cfg(test)]
mod tests;
