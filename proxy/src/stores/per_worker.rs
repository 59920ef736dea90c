//! A store with connections of its own for each worker: a connection is driven by the thread that
//! opened it, and a call must not wait for another thread.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_etcd_api::Rpc;
use keyloom_store::{Answer, Answers, Call, CallError, OpenAnswer, OpenCall, Requests, Store};

use crate::workers;

/// See the module's page. There is at least one.
#[derive(Debug)]
pub(super) struct PerWorker {
    first: Arc<dyn Store>,
    others: Vec<Arc<dyn Store>>,
}

impl PerWorker {
    pub(super) fn new(first: Arc<dyn Store>, others: Vec<Arc<dyn Store>>) -> Self {
        Self { first, others }
    }

    /// The one whose connections this thread drives.
    fn mine(&self) -> &Arc<dyn Store> {
        let other = workers::number().checked_sub(1);
        let other = other.and_then(|number| self.others.get(number));
        other.unwrap_or(&self.first)
    }
}

impl Store for PerWorker {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        self.mine().call(call)
    }

    fn call_in_pieces(&self, call: Call) -> BoxFuture<'static, Result<Answer, CallError>> {
        self.mine().call_in_pieces(call)
    }

    fn open(&self, call: OpenCall) -> BoxFuture<'static, Result<OpenAnswer, CallError>> {
        self.mine().open(call)
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        self.mine().stream(rpc, requests)
    }

    fn with_own_connections(&self) -> Option<Arc<dyn Store>> {
        self.first.with_own_connections()
    }

    fn throttle_watches(&self) {
        self.first.throttle_watches();
        for other in &self.others {
            other.throttle_watches();
        }
    }

    fn refuses_the_ledger(&self) -> BoxFuture<'static, Result<Option<&'static str>, CallError>> {
        self.mine().refuses_the_ledger()
    }
}
