//! The place of one connection, filled when it is needed.
//!
//! ```text
//!          a call               connected
//!   Empty ---------> Connecting -----------> Open
//!     ^               |      ^                |
//!     +---- failed ---+      +-- a call finds that it ended
//! ```
//!
//! However many calls want it, one dial is under way. It is a task of its own, so that it goes on
//! when the call that began it is given up.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use h2::client::SendRequest;
use parking_lot::Mutex;

use super::connector::{ConnectError, Connector};
use crate::metrics::StoreMetrics;
use keyloom_store::Lane;

/// A connection, shared by the calls that use it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) sender: SendRequest<Bytes>,
    /// It takes no more calls.
    ended: Arc<AtomicBool>,
}

impl Link {
    /// Keeps further calls off the connection. Says whether this is the first to do so.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::Relaxed)
    }

    /// What the connection's own task keeps of it.
    pub(super) fn watched(&self) -> Watched {
        Watched(Arc::downgrade(&self.ended))
    }

    /// Another one for a call, while the connection takes calls.
    fn usable(&self) -> Option<Self> {
        let mut link = self.clone();
        // Fails once the peer said goodbye or the connection broke, and never has to wait: that is
        // for a sender whose own last stream has to.
        let ready = link
            .sender
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        let broken = matches!(ready, Poll::Ready(Err(_)));
        let usable = !broken && !self.ended.load(Ordering::Relaxed);
        usable.then_some(link)
    }
}

/// A connection, seen by the task that drives it.
pub(super) struct Watched(Weak<AtomicBool>);

impl Watched {
    /// Whether a call may be under way. Each has a [`Link`], and so has the slot until it finds
    /// that the connection ended.
    pub(super) fn is_busy(&self) -> bool {
        match self.0.upgrade() {
            None => false,
            // This one, and the slot's.
            Some(ended) => Arc::strong_count(&ended) > 2 || ended.load(Ordering::Relaxed),
        }
    }
}

/// A dial that failed, shared by the calls that waited for it.
#[derive(Clone)]
pub(super) struct NoLink {
    pub(super) error: Arc<ConnectError>,
    told: Arc<AtomicBool>,
}

impl NoLink {
    /// Whether this is the first to tell of it.
    pub(super) fn tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

impl From<ConnectError> for NoLink {
    fn from(error: ConnectError) -> Self {
        Self {
            error: Arc::new(error),
            told: Arc::default(),
        }
    }
}

type Connecting = Shared<BoxFuture<'static, Result<Link, NoLink>>>;

#[derive(Default)]
enum ConnectionState {
    #[default]
    Empty,
    Connecting(Connecting),
    Open(Link),
}

impl ConnectionState {
    fn usable(&self) -> Option<Link> {
        match self {
            Self::Open(link) => link.usable(),
            Self::Connecting(_) | Self::Empty => None,
        }
    }
}

/// The place of one connection.
pub(super) struct Slot {
    connector: Connector,
    lane: Lane,
    metrics: Arc<StoreMetrics>,
    state: Arc<Mutex<ConnectionState>>,
}

impl Slot {
    pub(super) fn new(connector: Connector, lane: Lane, metrics: Arc<StoreMetrics>) -> Self {
        Self {
            connector,
            lane,
            metrics,
            state: Arc::default(),
        }
    }

    /// The connection, made if need be.
    pub(super) async fn link(&self) -> Result<Link, NoLink> {
        let connecting = {
            let mut state = self.state.lock();
            if let Some(link) = state.usable() {
                return Ok(link);
            }
            match &*state {
                ConnectionState::Connecting(connecting) => connecting.clone(),
                ConnectionState::Open(_) | ConnectionState::Empty => {
                    let connecting = self.connect();
                    *state = ConnectionState::Connecting(connecting.clone());
                    connecting
                }
            }
        };
        connecting.await
    }

    /// The connection, if there is one.
    pub(super) fn open(&self) -> Option<Link> {
        self.state.lock().usable()
    }

    /// Called under the lock: the task's outcome is put down after what `link` puts down.
    fn connect(&self) -> Connecting {
        let connector = self.connector.clone();
        let (lane, state) = (self.lane, Arc::clone(&self.state));
        let metrics = Arc::clone(&self.metrics);
        let task = tokio::spawn(async move {
            let outcome = connector.connect(lane).await;
            metrics.connected(lane, outcome.is_ok());
            let outcome = outcome.map_err(NoLink::from);
            *state.lock() = outcome
                .clone()
                .map_or(ConnectionState::Empty, ConnectionState::Open);
            outcome
        });
        let outcome = async {
            task.await
                .unwrap_or_else(|_| Err(ConnectError::Ended.into()))
        };
        outcome.boxed().shared()
    }
}

impl From<SendRequest<Bytes>> for Link {
    fn from(sender: SendRequest<Bytes>) -> Self {
        Self {
            sender,
            ended: Arc::default(),
        }
    }
}
