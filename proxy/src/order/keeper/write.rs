//! One own write: its transaction, and finding out what became of it.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use keyloom_etcd_api::{
    Code, Metadata, Rpc,
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
        compare, request_op, response_op,
    },
};
use keyloom_ledger::StoreRev;
use keyloom_store::{Call, CallError, Lane, Store};
use prost::Message as _;
use tokio::time::Instant;
use tracing::warn;

use super::RESERVED_PREFIX;

/// Between two attempts to find out what became of a write.
const PAUSE: Duration = Duration::from_millis(200);

/// The changes of one own write. The keys are relative to the ledger's place.
#[derive(Clone, Debug, Default)]
pub(in crate::order) struct Records {
    pub(in crate::order) puts: Vec<(String, Bytes)>,
    pub(in crate::order) deletes: Vec<String>,
    /// The accepted topology, where it changed.
    pub(in crate::order) accepted: Option<Bytes>,
}

/// What became of an own write.
#[derive(Debug)]
pub(in crate::order) enum Outcome {
    /// It happened at this revision of the default store.
    Written(StoreRev),
    /// It did not and will not happen.
    NotWritten(CallError),
    /// Somebody else wrote the ledger.
    Lost,
}

/// Below Keyloom's prefix, where the records are.
const LEDGER: &[u8] = b"ledger/";
/// Below Keyloom's prefix: every own write puts its stamp here, and is compared with the revision
/// of the one before. The head record would not do: two instances can write the same one.
const STAMP: &[u8] = b"stamp";
/// Below Keyloom's prefix: the topology that was accepted last.
const ACCEPTED: &[u8] = b"accepted";

fn key_of(record: &str) -> Bytes {
    own_key(&[LEDGER, record.as_bytes()])
}

pub(in crate::order) fn stamp_key() -> Bytes {
    own_key(&[STAMP])
}

/// Whether a key of Keyloom's holds the accepted topology.
pub(crate) fn is_accepted(key: &[u8]) -> bool {
    key.strip_prefix(RESERVED_PREFIX) == Some(ACCEPTED)
}

fn own_key(parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::from(RESERVED_PREFIX);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

/// The name of the record that a key of Keyloom's holds.
pub(in crate::order) fn record_of(key: &[u8]) -> Option<&str> {
    let record = key.strip_prefix(RESERVED_PREFIX)?.strip_prefix(LEDGER)?;
    std::str::from_utf8(record).ok()
}

/// The transaction that writes `records` if the last own write was at `after`.
pub(in crate::order) fn transaction(records: &Records, after: StoreRev, stamp: &Bytes) -> Bytes {
    let put = |key, value| {
        request_op::Request::RequestPut(PutRequest {
            key,
            value,
            ..PutRequest::default()
        })
    };
    let delete = |key| {
        request_op::Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        })
    };
    let read = RangeRequest {
        key: stamp_key(),
        ..RangeRequest::default()
    };
    let op = |request| RequestOp {
        request: Some(request),
    };
    let success = std::iter::once(put(stamp_key(), stamp.clone()))
        .chain(
            records
                .puts
                .iter()
                .map(|(name, value)| put(key_of(name), value.clone())),
        )
        .chain(
            records
                .accepted
                .iter()
                .map(|accepted| put(own_key(&[ACCEPTED]), accepted.clone())),
        )
        .chain(records.deletes.iter().map(|name| delete(key_of(name))))
        .map(op)
        .collect();
    let compare = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: stamp_key(),
        range_end: Bytes::new(),
        target_union: Some(compare::TargetUnion::ModRevision(after.get())),
    };
    let failure = vec![op(request_op::Request::RequestRange(read))];
    TxnRequest {
        compare: vec![compare],
        success,
        failure,
    }
    .encode_to_vec()
    .into()
}

/// Sends the transaction until it is known what became of it; one attempt waits for `patience`, and
/// goes to the store as it is reached then.
pub(in crate::order) async fn send_until_known(
    store: impl Fn() -> Arc<dyn Store>,
    message: Bytes,
    stamp: &Bytes,
    patience: Duration,
) -> Outcome {
    let mut uncertain = false;
    loop {
        let call = Call {
            metadata: Metadata::default(),
            rpc: Rpc::Txn,
            message: message.clone(),
            lane: Lane::Unary,
            deadline: Some((Instant::now() + patience).into_std()),
            idempotent: false,
        };
        let error = match store().call(call).await {
            Ok(answer) => match read(&answer, stamp) {
                Some(outcome) => return outcome,
                None => CallError::Unknown("the answer cannot be read".to_owned()),
            },
            Err(error) => error,
        };
        if !uncertain && never_happened(&error) {
            return Outcome::NotWritten(error);
        }
        if !matches!(error, CallError::NotSent(_)) {
            uncertain = true;
        }
        warn!(%error, "the default store has not answered a write of the ledger; asking whether it happened");
        tokio::time::sleep(PAUSE).await;
    }
}

fn read(answer: &Bytes, stamp: &Bytes) -> Option<Outcome> {
    let answer = TxnResponse::decode(answer.clone()).ok()?;
    if answer.succeeded {
        let revision = answer.header.filter(|header| header.revision > 0)?.revision;
        return Some(Outcome::Written(StoreRev::new(revision)));
    }
    let Some(response_op::Response::ResponseRange(range)) = answer
        .responses
        .into_iter()
        .next()
        .and_then(|op| op.response)
    else {
        return None;
    };
    // An attempt before this one may have landed.
    let ours = range.kvs.into_iter().next().filter(|kv| kv.value == *stamp);
    Some(match ours {
        Some(kv) => Outcome::Written(StoreRev::new(kv.mod_revision)),
        None => Outcome::Lost,
    })
}

/// Whether an error says for certain that the write did not and will not happen.
fn never_happened(error: &CallError) -> bool {
    match error {
        CallError::NotSent(_) => true,
        CallError::Unknown(_) | CallError::TimedOut => false,
        // etcd refuses these before it proposes the write; what it calls unavailable, timed out or
        // cancelled may still be applied.
        CallError::Refused(status) => matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_etcd_refuses_before_proposing_never_happened() {
        let refused = |code| CallError::Refused(keyloom_etcd_api::Status::new(code, ""));
        assert!(never_happened(&CallError::NotSent(String::new())));
        assert!(never_happened(&refused(Code::ResourceExhausted)));
        for error in [
            CallError::TimedOut,
            CallError::Unknown(String::new()),
            refused(Code::Unavailable),
            refused(Code::Unknown),
            refused(Code::DeadlineExceeded),
        ] {
            assert!(!never_happened(&error), "{error}");
        }
    }
}
