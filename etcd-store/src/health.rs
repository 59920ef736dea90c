//! How an endpoint does, from what calls and probes saw of it.
//!
//! ```text
//!                  an answer
//!   Untried ----------------------> Well <--------- an answer ----------+
//!      |                             |                                  |
//!      +-- it broke, hung, refused --+--------------------------> Unwell|
//!      |                             |                                  |
//!      +----- the dial failed -------+---------------------> Unreachable+
//! ```
//!
//! Calls go to endpoints that are untried or well, to unwell ones where there is no other, and
//! never to unreachable ones: only the prober dials those, so that a dead host costs nobody time.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use parking_lot::Mutex;

use keyloom_environment::Address;

/// How an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndpointState {
    /// No call has gone there yet.
    Untried,
    /// It answered, last of all.
    Well,
    /// It can be reached, but lost calls, left them waiting, or says that it cannot serve.
    Unwell,
    /// It could not be reached.
    Unreachable,
}

/// How an endpoint does, for status pages and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Which endpoint.
    pub address: Address,
    /// How it does.
    pub state: EndpointState,
    /// What went wrong there last, also where it is well again.
    pub last_error: Option<Arc<str>>,
}

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// An [`EndpointState`]: every call reads it.
    state: AtomicU8,
    last_error: Mutex<Option<Arc<str>>>,
}

impl Health {
    pub(super) fn state(&self) -> EndpointState {
        let state = self.state.load(Ordering::Relaxed);
        [
            EndpointState::Well,
            EndpointState::Unwell,
            EndpointState::Unreachable,
        ]
        .into_iter()
        .find(|&known| known as u8 == state)
        .unwrap_or(EndpointState::Untried)
    }

    pub(super) fn answered(&self) {
        // Most calls find it so: a store would take the line from the other cores' caches.
        if self.state() != EndpointState::Well {
            self.state
                .store(EndpointState::Well as u8, Ordering::Relaxed);
        }
    }

    /// Puts down what went wrong, with how the endpoint does now.
    pub(super) fn failed(&self, state: EndpointState, error: Arc<str>) {
        *self.last_error.lock() = Some(error);
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn last_error(&self) -> Option<Arc<str>> {
        self.last_error.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_where() {
        let health = Health::default();
        assert_eq!(health.state(), EndpointState::Untried);
        for state in [EndpointState::Unwell, EndpointState::Unreachable] {
            health.failed(state, Arc::from("gone"));
            assert_eq!(health.state(), state);
            health.answered();
            assert_eq!(health.state(), EndpointState::Well);
            assert_eq!(health.last_error(), Some(Arc::from("gone")));
        }
    }
}
