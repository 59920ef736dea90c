//! What calls do so that the topology can change under them: writes pass the gate, reads look at
//! whether their snapshot still stands when they have their revision.

use keyloom_etcd_api::{
    EtcdError, KeyRange,
    etcdserverpb::{RangeRequest, RequestOp, TxnRequest, request_op::Request as Op},
};
use keyloom_ledger::UnifiedRev;
use keyloom_topology::{Affected, StoreIndex};

use super::Request;
use crate::{
    failure::Failure,
    snapshot::{Superseded, UnderWay},
};

impl Request<'_> {
    /// Passes the gate with a write to a store; it is under way until the result is dropped.
    pub(super) async fn enter(
        self,
        index: StoreIndex,
        touches: impl Fn(&Affected) -> bool,
    ) -> Result<UnderWay, Failure> {
        let member = self.member(index)?;
        let gate = &self.services.gate;
        Ok(gate.enter(self.snapshot, member, touches).await?)
    }

    /// Whether what was found under this call's routes holds at `u`.
    pub(super) fn holds_at(self, u: UnifiedRev) -> Result<(), Superseded> {
        match self.snapshot.validity.covers(u) {
            true => Ok(()),
            false => Err(Superseded),
        }
    }

    /// Whether a range can be read at an old revision: what moved since lies elsewhere.
    pub(super) fn is_readable_at(self, revision: i64, range: &RangeRequest) -> Result<(), Failure> {
        let floors = &self.snapshot.floors;
        if revision <= 0 || !floors.reach(revision) {
            return Ok(());
        }
        let range = KeyRange::from_request(&range.key, &range.range_end);
        if revision < floors.of(&range).get() {
            return Err(EtcdError::Compacted.into());
        }
        Ok(())
    }

    /// The same for every range that a transaction could read; only its store knows which ones it
    /// does.
    pub(super) fn is_all_readable(self, txn: &TxnRequest) -> Result<(), Failure> {
        txn.success
            .iter()
            .chain(&txn.failure)
            .try_for_each(|RequestOp { request }| match request {
                Some(Op::RequestRange(range)) => self.is_readable_at(range.revision, range),
                Some(Op::RequestTxn(txn)) => self.is_all_readable(txn),
                _ => Ok(()),
            })
    }
}

/// Whether a transaction can touch one of the keys.
pub(super) fn txn_touches(txn: &TxnRequest, affected: &Affected) -> bool {
    let touches = |key, end| affected.touches(&KeyRange::from_request(key, end));
    let compares = txn.compare.iter();
    let mut ops = txn.success.iter().chain(&txn.failure);
    compares
        .map(|compare| (&compare.key, &compare.range_end))
        .any(|(key, end)| touches(key, end))
        || ops.any(|RequestOp { request }| match request {
            Some(Op::RequestRange(range)) => touches(&range.key, &range.range_end),
            Some(Op::RequestPut(put)) => affected.holds(&put.key),
            Some(Op::RequestDeleteRange(delete)) => touches(&delete.key, &delete.range_end),
            Some(Op::RequestTxn(txn)) => txn_touches(txn, affected),
            None => false,
        })
}
