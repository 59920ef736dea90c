//! The model behind the store port.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture};
use keyloom_etcd_api::Rpc;
use keyloom_store::{Answers, Call, CallError, Requests, Store};
use parking_lot::Mutex;
use tokio::time::timeout_at;

use super::{Etcd, Fault, Gate, Identity, fault::Faults};

mod unary;
mod maintenance;

mod streams;

/// What a model store says of itself.
#[derive(Clone, Debug)]
pub struct Profile {
    pub identity: Identity,
    pub version: String,
    pub name: String,
    pub client_url: String,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            version: "3.6.16".to_owned(),
            name: "model".to_owned(),
            client_url: "http://model.invalid:2379".to_owned(),
        }
    }
}

/// A store whose etcd is a model. Clones are the same store.
#[derive(Clone, Debug)]
pub struct ModelStore {
    profile: Arc<Profile>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    etcd: Etcd,
    streams: streams::Streams,
    faults: Faults,
    calls: BTreeMap<Rpc, u64>,
    received: Vec<(Rpc, Bytes)>,
}

impl Default for ModelStore {
    fn default() -> Self {
        Self::new(Profile::default())
    }
}

impl ModelStore {
    /// An empty store.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let state = State {
            etcd: Etcd::new(profile.identity),
            streams: streams::Streams::default(),
            faults: Faults::default(),
            calls: BTreeMap::new(),
            received: Vec::new(),
        };
        Self {
            profile: Arc::new(profile),
            state: Arc::new(Mutex::new(state)),
        }
    }

    // === what reached the store ===

    /// How many calls of this kind reached the store; of streams, how many were opened.
    #[must_use]
    pub fn calls(&self, rpc: Rpc) -> u64 {
        self.state.lock().calls.get(&rpc).copied().unwrap_or(0)
    }

    /// How many calls of any kind reached the store.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.state.lock().calls.values().sum()
    }

    /// The requests that reached the store since the last time this was asked, those on watch
    /// streams among them, and starts the counting of calls anew.
    #[must_use]
    pub fn take_received(&self) -> Vec<(Rpc, Bytes)> {
        let mut state = self.state.lock();
        state.calls.clear();
        std::mem::take(&mut state.received)
    }

    /// How many watch streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.state.lock().streams.len()
    }

    /// How many watchers there are on all streams.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.state.lock().streams.watchers()
    }

    // === what the store holds ===

    /// Looks at the etcd, or changes it behind everybody's back. Watchers are sent what changed
    /// when it is done, so that a write and its compaction do not belong into one of these.
    pub fn with<R>(&self, look: impl FnOnce(&mut Etcd) -> R) -> R {
        let mut state = self.state.lock();
        let state = &mut *state;
        let result = look(&mut state.etcd);
        state.streams.deliver(&state.etcd);
        result
    }

    /// What the store holds now, for [`ModelStore::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Etcd {
        self.state.lock().etcd.clone()
    }

    /// Puts the store back to what it held before: its revision goes back. Its streams end, as
    /// an etcd is stopped to be restored.
    pub fn restore(&self, snapshot: Etcd) {
        self.end_streams(&CallError::Unknown("restored".to_owned()));
        self.state.lock().etcd = snapshot;
    }

    // === how the store misbehaves ===

    /// Does this to the next call.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.inject(None, Some(1), fault);
    }

    /// Does this to the next calls of a kind.
    pub fn inject_on(&self, rpc: Rpc, calls: u64, fault: Fault) {
        let mut state = self.state.lock();
        state.faults.inject(Some(rpc), Some(calls), fault);
    }

    /// Does this to every call, or every call of a kind, until the faults are cleared.
    pub fn inject_always(&self, rpc: Option<Rpc>, fault: Fault) {
        self.state.lock().faults.inject(rpc, None, fault);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Keeps back everything that watch streams are sent, until it is called with `false`. What
    /// is kept back arrives then, in order.
    pub fn hold_watches(&self, held: bool) {
        self.state.lock().streams.hold(held);
    }

    /// Ends the watch streams that are open.
    pub fn end_streams(&self, error: &CallError) {
        self.state.lock().streams.end(error);
    }

    /// Lets etcd's interval for progress pass.
    pub fn progress_due(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.streams.progress_due(&state.etcd);
    }

    async fn answer(self, call: Call) -> Result<Bytes, CallError> {
        let fault = self.receive(call.rpc, Some(&call.message));
        let apply = || {
            let answer = self.dispatch(call.rpc, call.message.clone());
            answer.map_err(CallError::Refused)
        };
        match fault {
            None => apply(),
            Some(Fault::LostAfterApply) => {
                drop(apply());
                Err(lost())
            }
            Some(Fault::HangsAfterApply(gate)) => {
                let answer = apply();
                wait(&gate, call.deadline).await?;
                answer
            }
            Some(Fault::Nonsense(nonsense)) => apply().map(|answer| nonsense.instead_of(answer)),
            Some(before) => {
                before_apply(before, call.deadline).await?;
                apply()
            }
        }
    }

    async fn answers(self, rpc: Rpc, requests: Requests) -> Result<Answers, CallError> {
        match self.receive(rpc, None) {
            None => {}
            Some(Fault::LostAfterApply) => return Err(lost()),
            Some(Fault::HangsAfterApply(gate)) => wait(&gate, None).await?,
            Some(Fault::Nonsense(nonsense)) => {
                let answers = self
                    .open_stream(rpc, requests)
                    .map_err(CallError::Refused)?;
                let spoil = move |answer: Result<Bytes, CallError>| {
                    answer.map(|answer| nonsense.instead_of(answer))
                };
                return Ok(answers.map(spoil).boxed());
            }
            Some(before) => before_apply(before, None).await?,
        }
        self.open_stream(rpc, requests).map_err(CallError::Refused)
    }

    /// Counts a call, unless it does not arrive.
    fn receive(&self, rpc: Rpc, message: Option<&Bytes>) -> Option<Fault> {
        let mut state = self.state.lock();
        let fault = state.faults.take(rpc);
        if !matches!(fault, Some(Fault::NotSent)) {
            *state.calls.entry(rpc).or_default() += 1;
            state
                .received
                .extend(message.map(|message| (rpc, message.clone())));
        }
        fault
    }
}

impl Store for ModelStore {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(self.clone().answer(call))
    }

    fn stream(
        &self,
        rpc: Rpc,
        requests: Requests,
    ) -> BoxFuture<'static, Result<Answers, CallError>> {
        Box::pin(self.clone().answers(rpc, requests))
    }
}

/// What a fault does before the request takes effect. The others are handled where they occur.
async fn before_apply(fault: Fault, deadline: Option<std::time::Instant>) -> Result<(), CallError> {
    match fault {
        Fault::Refused(status) => Err(CallError::Refused(status)),
        Fault::NotSent => Err(CallError::NotSent("injected".to_owned())),
        Fault::LostBeforeApply => Err(lost()),
        Fault::HangsBeforeApply(gate) => wait(&gate, deadline).await,
        Fault::LostAfterApply | Fault::HangsAfterApply(_) | Fault::Nonsense(_) => Ok(()),
    }
}

fn lost() -> CallError {
    CallError::Unknown("injected".to_owned())
}

async fn wait(gate: &Gate, deadline: Option<std::time::Instant>) -> Result<(), CallError> {
    match deadline {
        None => gate.pass().await,
        Some(deadline) => timeout_at(deadline.into(), gate.pass())
            .await
            .map_err(|_| CallError::TimedOut)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
