//! Is it an etcd or a kine? Its first answer says: every etcd names its cluster in the header, kine
//! does not.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use keyloom_etcd_api::{Code, Metadata, Rpc, etcdserverpb::RangeRequest, wire};
use prost::Message as _;
use tokio::sync::OnceCell;

use super::KineStore;
use keyloom_environment::Random;
use keyloom_store::{
    Answer, Answers, Call, CallError, Lane, OpenAnswer, OpenCall, Requests, Store,
};

/// A store of which nobody has said what it is. It is asked before its first call.
#[derive(Clone, Debug)]
pub struct Detected {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    raw: Arc<dyn Store>,
    random: Arc<dyn Random>,
    kind: OnceCell<Kind>,
}

#[derive(Clone, Debug)]
enum Kind {
    Etcd,
    Kine(KineStore),
}

impl Detected {
    /// `raw` carries the calls.
    #[must_use]
    pub fn new(name: &str, raw: Arc<dyn Store>, random: Arc<dyn Random>) -> Self {
        Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                raw,
                random,
                kind: OnceCell::new(),
            }),
        }
    }
}

impl Inner {
    async fn store(&self, call: &str) -> Result<Arc<dyn Store>, CallError> {
        let kind = self.kind.get_or_try_init(|| self.ask()).await;
        match kind {
            Ok(Kind::Etcd) => Ok(Arc::clone(&self.raw)),
            Ok(Kind::Kine(kine)) => Ok(Arc::new(kine.clone())),
            // What was to be sent was not.
            Err(error) => Err(CallError::NotSent(format!("{error}, before {call}"))),
        }
    }

    async fn ask(&self) -> Result<Kind, CallError> {
        let request = RangeRequest {
            key: Bytes::from_static(b"/"),
            limit: 1,
            ..RangeRequest::default()
        };
        let call = Call {
            metadata: Metadata::default(),
            rpc: Rpc::Range,
            message: request.encode_to_vec().into(),
            lane: Lane::Unary,
            deadline: None,
            idempotent: true,
        };
        let answer = match self.raw.call(call).await {
            // It has users, which kine has not.
            Err(CallError::Refused(status)) if status.code() != Code::Unavailable => {
                return Ok(Kind::Etcd);
            }
            answer => answer?,
        };
        let header = wire::peek_header(&answer)
            .map_err(|error| CallError::Unknown(format!("store {}: {error}", self.name)))?;
        if header.is_some_and(|header| header.cluster_id != 0) {
            return Ok(Kind::Etcd);
        }
        tracing::info!(
            store = self.name,
            "the store is a kine; some calls are limited"
        );
        let random = Arc::clone(&self.random);
        Ok(Kind::Kine(KineStore::new(
            &self.name,
            Arc::clone(&self.raw),
            random,
        )))
    }
}

impl Store for Detected {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if let Some(Kind::Etcd) = self.inner.kind.get() {
            return self.inner.raw.call(call);
        }
        let inner = Arc::clone(&self.inner);
        async move {
            let store = inner.store(call.rpc.name()).await?;
            store.call(call).await
        }
        .boxed()
    }

    fn call_in_pieces(&self, call: Call) -> BoxFuture<'static, Result<Answer, CallError>> {
        if let Some(Kind::Etcd) = self.inner.kind.get() {
            return self.inner.raw.call_in_pieces(call);
        }
        let inner = Arc::clone(&self.inner);
        async move {
            let store = inner.store(call.rpc.name()).await?;
            store.call_in_pieces(call).await
        }
        .boxed()
    }

    fn open(&self, call: OpenCall) -> BoxFuture<'static, Result<OpenAnswer, CallError>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let store = inner.store(call.path.path()).await?;
            store.open(call).await
        }
        .boxed()
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let store = inner.store(rpc.name()).await?;
            store.stream(rpc, requests).await
        }
        .boxed()
    }

    fn with_own_connections(&self) -> Option<Arc<dyn Store>> {
        let Inner {
            name,
            raw,
            random,
            kind,
        } = &*self.inner;
        let raw = raw.with_own_connections()?;
        if let Some(Kind::Etcd) = kind.get() {
            // What it is need not be asked again.
            return Some(raw);
        }
        Some(Arc::new(Self::new(name, raw, Arc::clone(random))))
    }

    fn throttle_watches(&self) {
        self.inner.raw.throttle_watches();
    }

    fn refuses_the_ledger(&self) -> BoxFuture<'static, Result<Option<&'static str>, CallError>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let store = inner.store("it is asked anything").await?;
            store.refuses_the_ledger().await
        }
        .boxed()
    }
}
