//! Carrying out one request inside of a batch.

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, check_compaction,
    etcdserverpb::{
        CompactionRequest, CompactionResponse, LeaseGrantRequest, LeaseGrantResponse,
        LeaseKeepAliveResponse, LeaseRevokeResponse, ResponseHeader,
    },
};

use super::{Request, Writer, batch::Batch};
use crate::{
    error::{FaultKind, SqlFault, Stop},
    kv::Tx,
    lease::{MAX_TTL, MIN_TTL},
    session::{LeaseRow, Session},
    statement::Statement,
    wire::encode,
};

/// So many leases may end in one batch: with many keys each, others must get their turn.
const ENDS_AT_ONCE: usize = 64;

impl<S: Session> Writer<S> {
    pub(super) fn apply(&mut self, batch: &mut Batch, request: &Request) -> Result<Bytes, Stop> {
        match request {
            Request::Put(put) => {
                let mut answer = self.transact(batch, |tx| tx.put(put))?;
                answer.header = Some(self.header(batch));
                Ok(encode(&answer))
            }
            Request::DeleteRange(delete) => {
                let mut answer = self.transact(batch, |tx| tx.delete_range(delete))?;
                answer.header = Some(self.header(batch));
                Ok(encode(&answer))
            }
            Request::Txn(txn) => {
                let mut answer = self.transact(batch, |tx| tx.txn(txn))?;
                answer.header = Some(self.header(batch));
                Ok(encode(&answer))
            }
            Request::Compact(compact) => self.compact(batch, compact),
            Request::LeaseGrant(grant) => self.grant(batch, grant),
            Request::LeaseRevoke(id) => self.revoke(batch, *id),
            Request::LeaseKeepAlive(id) => self.keep_alive(batch, *id),
            Request::Expire => self.expire(batch),
        }
    }

    fn header(&self, batch: &Batch) -> ResponseHeader {
        self.shared.header(batch.marks.revision)
    }

    /// Runs one etcd transaction: it takes a revision if it changed something.
    fn transact<T>(
        &mut self,
        batch: &mut Batch,
        work: impl FnOnce(&mut Tx<'_, S>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let wants_prev = self.shared.feed.wants_prev();
        let mut tx = Tx::new(&mut self.session, batch.marks, &self.leases, wants_prev);
        let result = work(&mut tx);
        let changes = tx.into_changes();
        match result {
            Ok(result) => {
                batch.take(changes, wants_prev);
                Ok(result)
            }
            Err(Stop::Etcd(error)) if !changes.is_empty() => Err(self.torn(error).into()),
            Err(stop) => Err(stop),
        }
    }

    /// Refused after it had changed something. It cannot be, and if it is, the batch must go.
    fn torn(&self, error: EtcdError) -> SqlFault {
        SqlFault {
            origin: self.shared.origin.clone(),
            kind: FaultKind::Other,
            statement: Statement::Append,
            text: format!("a transaction was refused half-way: {}", error.text()).into(),
        }
    }

    fn compact(&mut self, batch: &mut Batch, request: &CompactionRequest) -> Result<Bytes, Stop> {
        check_compaction(request, batch.marks.compacted, batch.marks.revision)?;
        batch.marks.compacted = request.revision;
        batch.dirty = true;
        Ok(encode(&CompactionResponse {
            header: Some(self.header(batch)),
        }))
    }

    fn grant(&mut self, batch: &mut Batch, request: &LeaseGrantRequest) -> Result<Bytes, Stop> {
        if request.ttl > MAX_TTL {
            return Err(EtcdError::LeaseTtlTooLarge.into());
        }
        let id = match request.id {
            0 => self.leases.choose_id(self.shared.random.as_ref()),
            id => id,
        };
        if self.leases.has(id) {
            return Err(EtcdError::LeaseExist.into());
        }
        let now = self.shared.clock.now_ms();
        let lease = LeaseRow::granted(id, request.ttl.max(MIN_TTL), now);
        self.set_lease(batch, lease)?;
        Ok(encode(&LeaseGrantResponse {
            header: Some(self.header(batch)),
            id,
            ttl: lease.ttl,
            error: String::new(),
        }))
    }

    fn set_lease(&mut self, batch: &mut Batch, lease: LeaseRow) -> Result<(), Stop> {
        self.session.set_lease(&lease)?;
        self.leases.set(lease);
        batch.dirty = true;
        Ok(())
    }

    fn revoke(&mut self, batch: &mut Batch, id: i64) -> Result<Bytes, Stop> {
        if !self.leases.has(id) {
            return Err(EtcdError::LeaseNotFound.into());
        }
        self.end(batch, id)?;
        Ok(encode(&LeaseRevokeResponse {
            header: Some(self.header(batch)),
        }))
    }

    /// Takes a lease away, and its keys with it at one revision.
    fn end(&mut self, batch: &mut Batch, id: i64) -> Result<(), Stop> {
        let keys = self.session.leased_keys(id)?;
        self.transact(batch, |tx| {
            for key in &keys {
                tx.delete(key, false)?;
            }
            Ok(())
        })?;
        self.session.remove_lease(id)?;
        self.leases.remove(id);
        batch.dirty = true;
        Ok(())
    }

    /// Renews a lease; one that is not there, or whose end has come, has 0 to live.
    fn keep_alive(&mut self, batch: &mut Batch, id: i64) -> Result<Bytes, Stop> {
        let now = self.shared.clock.now_ms();
        let lease = self.leases.get(id).filter(|lease| !lease.is_over(now));
        if let Some(lease) = lease {
            self.set_lease(batch, LeaseRow::granted(id, lease.ttl, now))?;
        }
        Ok(encode(&LeaseKeepAliveResponse {
            header: Some(self.header(batch)),
            id,
            ttl: lease.map_or(0, |lease| lease.ttl),
        }))
    }

    fn expire(&mut self, batch: &mut Batch) -> Result<Bytes, Stop> {
        for id in self.leases.due(self.shared.clock.now_ms(), ENDS_AT_ONCE) {
            self.end(batch, id)?;
        }
        Ok(Bytes::new())
    }
}
