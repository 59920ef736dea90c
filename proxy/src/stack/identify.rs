//! Says who makes a call: the other end of the connection, and what the request's headers add.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::HeaderMap;
use keyloom_etcd_api::Metadata;
use tower::{Layer, Service};

use super::{
    call::{Arrived, Call},
    trace::record_caller,
};
use crate::{
    caller::{Caller, Peer},
    services,
};

/// One connection's.
#[derive(Clone, Debug)]
pub(super) struct Identify {
    peer: Arc<Peer>,
}

impl Identify {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self { peer }
    }
}

impl<S> Layer<S> for Identify {
    type Service = Identified<S>;

    fn layer(&self, inner: S) -> Identified<S> {
        let peer = Arc::clone(&self.peer);
        Identified { inner, peer }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Identified<S> {
    inner: S,
    peer: Arc<Peer>,
}

impl<S: Service<Call>> Service<Arrived> for Identified<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, arrived: Arrived) -> S::Future {
        let Arrived { kind, request } = arrived;
        let headers = request.headers();
        let caller = Caller::of(Arc::clone(&self.peer), headers);
        record_caller(&caller);
        let context = services::Context {
            caller: Arc::new(caller),
            deadline: None,
            needs_leader: needs_leader(headers),
            metadata: Metadata::default(),
        };
        self.inner.call(Call {
            kind,
            request,
            context,
            permit: None,
            max_message: 0,
        })
    }
}

/// etcd's `hasleader: true` (`rpctypes.MetadataRequireLeaderKey`).
fn needs_leader(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value.as_bytes() == b"true")
}
