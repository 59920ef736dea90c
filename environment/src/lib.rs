//! What a program takes from outside: connections and chance.
//!
//! Injected everywhere, so that the whole program can run unchanged in a simulation. Time is
//! tokio's, which a simulation can stop and move.

use std::{fmt, io};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

mod random;
mod coalesced;
mod network;
mod throttle;

pub use coalesced::CoalescedIo;
pub use network::TokioDial;
pub use random::{OsRandom, SeededRandom};
pub use throttle::{ReadThrottle, Throttle};

/// A byte stream to or from a peer.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP address, and a port.
    Tcp { host: String, port: u16 },
    /// The path of a Unix socket.
    Unix(std::path::PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Opens connections.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Connects, without TLS.
    ///
    /// # Errors
    /// As the network gives them.
    fn dial(&self, to: Address) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>;
}

/// A source of chance, for jitter and identities; not for secrets.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// A number of which every bit is as likely 0 as 1.
    fn next(&self) -> u64;
}
