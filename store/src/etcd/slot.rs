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

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;

use super::{
    connector::{ConnectError, Connector},
    framing::RequestBody,
};
use crate::{metrics::StoreMetrics, port::Lane};

/// A connection, shared by the calls that use it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    /// It takes no more calls. hyper may learn that later than its calls do.
    ended: Arc<AtomicBool>,
}

impl Link {
    /// Keeps further calls off the connection. Says whether this is the first to do so.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::Relaxed)
    }

    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.ended.load(Ordering::Relaxed)
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
enum State {
    #[default]
    Empty,
    Connecting(Connecting),
    Open(Link),
}

/// The place of one connection.
pub(super) struct Slot {
    connector: Connector,
    lane: Lane,
    metrics: Arc<StoreMetrics>,
    state: Arc<Mutex<State>>,
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
            match &*state {
                State::Open(link) if link.is_usable() => return Ok(link.clone()),
                State::Connecting(connecting) => connecting.clone(),
                State::Open(_) | State::Empty => {
                    let connecting = self.connect();
                    *state = State::Connecting(connecting.clone());
                    connecting
                }
            }
        };
        connecting.await
    }

    /// The connection, if there is one.
    pub(super) fn open(&self) -> Option<Link> {
        match &*self.state.lock() {
            State::Open(link) if link.is_usable() => Some(link.clone()),
            State::Open(_) | State::Connecting(_) | State::Empty => None,
        }
    }

    /// Called under the lock: the task's outcome is put down after what `link` puts down.
    fn connect(&self) -> Connecting {
        let connector = self.connector.clone();
        let (lane, state) = (self.lane, Arc::clone(&self.state));
        let metrics = Arc::clone(&self.metrics);
        let task = tokio::spawn(async move {
            let outcome = connector.connect(lane).await;
            metrics.connected(lane, outcome.is_ok());
            let outcome = outcome.map(Link::from).map_err(NoLink::from);
            *state.lock() = outcome.clone().map_or(State::Empty, State::Open);
            outcome
        });
        let outcome = async {
            task.await
                .unwrap_or_else(|_| Err(ConnectError::Ended.into()))
        };
        outcome.boxed().shared()
    }
}

impl From<SendRequest<RequestBody>> for Link {
    fn from(sender: SendRequest<RequestBody>) -> Self {
        Self {
            sender,
            ended: Arc::default(),
        }
    }
}
