//! Where it is decided whether a caller may pass. Keyloom has no users of its own yet, so one policy
//! is all there is; what a store asks of a token, the store decides.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::call::Call;

/// Who may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Whoever could connect, as with an etcd on which authentication is not enabled. Who can
    /// connect is decided by the listener's address and by `--client-cert-auth`.
    Everybody,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Authenticate {
    policy: Policy,
}

impl Authenticate {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        let policy = self.policy;
        Authenticated { inner, policy }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Authenticated<S> {
    inner: S,
    policy: Policy,
}

impl<S: Service<Call>> Service<Call> for Authenticated<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> S::Future {
        match self.policy {
            Policy::Everybody => self.inner.call(call),
        }
    }
}
