//! An etcd user's token: fetched when it is first needed, and again when the store refuses it.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use keyloom_etcd_api::{
    EtcdError, Rpc,
    etcdserverpb::{AuthenticateRequest, AuthenticateResponse},
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;

use super::{
    call::{Stage, round},
    config::Credentials,
    endpoint::{Extra, Outgoing},
    store::Core,
};
use keyloom_store::{CallError, Lane};

/// A user's session with a store. A token is good at every member of the cluster.
pub(super) struct Session {
    credentials: Credentials,
    newest: Mutex<Pass>,
    /// Held while a token is fetched: one fetch serves all who wait for it.
    fetching: tokio::sync::Mutex<()>,
}

/// What a call shows at the door.
#[derive(Clone, Default)]
pub(super) struct Pass {
    /// None where the store has authentication switched off.
    pub(super) token: Option<HeaderValue>,
    /// Which pass this is, from 1; 0 is none yet.
    number: u64,
}

impl Session {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            newest: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// The newest pass, fetched if there is none.
    pub(super) async fn pass(
        &self,
        core: &Arc<Core>,
        deadline: Instant,
    ) -> Result<Pass, CallError> {
        let newest = self.newest();
        match newest.number {
            0 => self.renewed(core, &newest, deadline).await,
            _ => Ok(newest),
        }
    }

    /// The newest pass, if there is one.
    pub(super) fn newest(&self) -> Pass {
        self.newest.lock().clone()
    }

    /// A newer pass than `stale`.
    pub(super) async fn renewed(
        &self,
        core: &Arc<Core>,
        stale: &Pass,
        deadline: Instant,
    ) -> Result<Pass, CallError> {
        let _fetching = self.fetching.lock().await;
        let newest = self.newest();
        if newest.number != stale.number {
            return Ok(newest);
        }
        let pass = Pass {
            token: self.fetch(core, deadline).await?,
            number: stale.number + 1,
        };
        *self.newest.lock() = pass.clone();
        Ok(pass)
    }

    /// Whatever goes wrong here, the call that wants the token has not been sent.
    async fn fetch(
        &self,
        core: &Arc<Core>,
        deadline: Instant,
    ) -> Result<Option<HeaderValue>, CallError> {
        let request = AuthenticateRequest {
            name: self.credentials.user.clone(),
            password: self.credentials.password.clone(),
        };
        let call = Outgoing {
            rpc: Rpc::Authenticate,
            message: &Bytes::from(request.encode_to_vec()),
            lane: Lane::Unary,
            deadline,
            extra: Extra::default(),
        };
        match round(core, call, true, &Mutex::new(Stage::Preparing)).await {
            Ok(answer) => token(answer.message.into_bytes())
                .map(Some)
                .ok_or_else(|| self.refused(core, "no token")),
            Err(CallError::Refused(status))
                if EtcdError::of(&status) == Some(EtcdError::AuthNotEnabled) =>
            {
                Ok(None)
            }
            Err(CallError::Refused(status)) => Err(self.refused(core, status.message())),
            Err(error) => Err(CallError::NotSent(error.to_string())),
        }
    }

    fn refused(&self, core: &Core, cause: &str) -> CallError {
        let (store, user) = (&core.name, &self.credentials.user);
        tracing::warn!(%store, user, cause, "the store refused the login; calls to it fail");
        CallError::NotSent(format!(
            "store {store}: login as user {user} failed: {cause}"
        ))
    }
}

fn token(answer: Bytes) -> Option<HeaderValue> {
    let answer = AuthenticateResponse::decode(answer).ok()?;
    let mut token = HeaderValue::try_from(answer.token).ok()?;
    token.set_sensitive(true);
    Some(token)
}
