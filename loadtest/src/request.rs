//! Framed requests, in the shapes that kube-apiserver sends (`clientv3/kubernetes`).

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
        RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchProgressRequest,
        WatchRequest, compare, request_op::Request as Op, watch_request,
    },
};

use crate::connection::framed;

/// One unary request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) rpc: Rpc,
    pub(crate) frame: Bytes,
    /// What it counts as in the report.
    pub(crate) kind: &'static str,
}

impl Request {
    fn new(kind: &'static str, rpc: Rpc, message: &impl prost::Message) -> Self {
        let frame = framed(message);
        Self { rpc, frame, kind }
    }

    pub(crate) fn put(key: &Bytes, value: &Bytes) -> Self {
        Self::new("put", Rpc::Put, &put(key, value, 0))
    }

    pub(crate) fn get(key: &Bytes) -> Self {
        Self::new("get", Rpc::Range, &get(key))
    }

    /// A page: `limit` objects from `key` on, at a revision or at the newest (0).
    pub(crate) fn page(key: Bytes, end: Bytes, limit: usize, revision: i64) -> Self {
        let range = RangeRequest {
            key,
            range_end: end,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            revision,
            ..RangeRequest::default()
        };
        Self::new("list", Rpc::Range, &range)
    }

    /// The count of a range at a revision, or at the newest (0).
    pub(crate) fn count(key: Bytes, end: Bytes, revision: i64) -> Self {
        let range = RangeRequest {
            key,
            range_end: end,
            count_only: true,
            revision,
            ..RangeRequest::default()
        };
        Self::new("count", Rpc::Range, &range)
    }

    /// kube-apiserver's create: only where there is no such key.
    pub(crate) fn create(key: &Bytes, value: &Bytes, lease: i64) -> Self {
        let put = Op::RequestPut(put(key, value, lease));
        Self::new("create", Rpc::Txn, &txn(key, 0, put, None))
    }

    /// kube-apiserver's GuaranteedUpdate: only where the key is still as it was read.
    pub(crate) fn update(key: &Bytes, value: &Bytes, read_at: i64) -> Self {
        let put = Op::RequestPut(put(key, value, 0));
        let otherwise = Op::RequestRange(get(key));
        Self::new("update", Rpc::Txn, &txn(key, read_at, put, Some(otherwise)))
    }

    /// kube-apiserver's delete.
    pub(crate) fn delete(key: &Bytes, read_at: i64) -> Self {
        let delete = Op::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            ..DeleteRangeRequest::default()
        });
        let otherwise = Op::RequestRange(get(key));
        Self::new(
            "delete",
            Rpc::Txn,
            &txn(key, read_at, delete, Some(otherwise)),
        )
    }

    /// Many puts in one transaction, which compares nothing: no kube-apiserver sends it.
    pub(crate) fn puts(puts: &[(Bytes, Bytes)]) -> Self {
        let put = |(key, value): &(Bytes, Bytes)| RequestOp {
            request: Some(Op::RequestPut(put(key, value, 0))),
        };
        let txn = TxnRequest {
            success: puts.iter().map(put).collect(),
            ..TxnRequest::default()
        };
        Self::new("puts", Rpc::Txn, &txn)
    }

    pub(crate) fn delete_range(key: Bytes, range_end: Bytes) -> Self {
        let range = DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        };
        Self::new("clear", Rpc::DeleteRange, &range)
    }

    pub(crate) fn grant(ttl: i64) -> Self {
        Self::new("grant", Rpc::LeaseGrant, &LeaseGrantRequest { ttl, id: 0 })
    }

    pub(crate) fn revoke(id: i64) -> Self {
        Self::new("revoke", Rpc::LeaseRevoke, &LeaseRevokeRequest { id })
    }
}

/// kube-apiserver's watch of a resource, from a revision on.
pub(crate) fn watch(key: Bytes, range_end: Bytes, start_revision: i64) -> Bytes {
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = watch_request::RequestUnion::CreateRequest(create);
    framed(&WatchRequest {
        request_union: Some(request),
    })
}

/// A progress request on a watch stream.
pub(crate) fn progress() -> Bytes {
    let request = watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {});
    framed(&WatchRequest {
        request_union: Some(request),
    })
}

fn put(key: &Bytes, value: &Bytes, lease: i64) -> PutRequest {
    PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..PutRequest::default()
    }
}

fn get(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        limit: 1,
        ..RangeRequest::default()
    }
}

fn txn(key: &Bytes, read_at: i64, then: Op, otherwise: Option<Op>) -> TxnRequest {
    let unchanged = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(read_at)),
        ..Compare::default()
    };
    let operations = |op: Option<Op>| op.map(|op| RequestOp { request: Some(op) });
    TxnRequest {
        compare: vec![unchanged],
        success: operations(Some(then)).into_iter().collect(),
        failure: operations(otherwise).into_iter().collect(),
    }
}
