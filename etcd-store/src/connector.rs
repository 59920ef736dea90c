//! Making one HTTP/2 connection: dial, TLS, preface.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{self, SendRequest},
};
use rustls_pki_types::ServerName;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::slot::{Link, Watched};
use keyloom_environment::{Address, CoalescedIo, Connection, Dial, ReadThrottle, Throttle};
use keyloom_store::Lane;

/// From the dial to the end of TLS's handshake. A host that is there needs a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// etcd ends connections that are pinged more often than every 5 s, or while no call is under
/// way (its `ServerKeepaliveEnforcementPolicy`); its own client pings every 30 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for a status with long details in the trailers.
const HEADER_LIST: u32 = 64 << 10;

/// Streams that this side gave up on and whose late frames are still let pass. For frames of a
/// stream that was forgotten h2 answers with errors, and after a thousand of those it gives up the
/// connection: many calls that time out together must not cost the others theirs.
const RESET_STREAMS: usize = 8192;

/// Streams that are opened before the peer says how many it takes.
const FIRST_STREAMS: usize = 100;

type Driven = client::Connection<CoalescedIo<ReadThrottle<Box<dyn Connection>>>, Bytes>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Dial(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("HTTP/2: {0}")]
    Preface(h2::Error),
    #[error("the task that connects ended")]
    Ended,
}

/// Makes the connections to one endpoint.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) address: Address,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Of the connections for watches.
    pub(super) throttle: Throttle,
}

impl Connector {
    pub(super) async fn connect(&self, lane: Lane) -> Result<Link, ConnectError> {
        let connection = timeout(CONNECT_TIMEOUT, self.connection()).await;
        let connection = connection.map_err(|_| ConnectError::TimedOut)??;
        let connection = match lane {
            Lane::Watch => ReadThrottle::new(connection, self.throttle.clone()),
            Lane::Unary | Lane::Bulk => ReadThrottle::not(connection),
        };
        let handshake = builder(lane).handshake(CoalescedIo::keeping(connection));
        let (sender, connection): (SendRequest<Bytes>, _) =
            handshake.await.map_err(ConnectError::Preface)?;
        let link = Link::from(sender);
        tokio::spawn(drive(connection, link.watched(), self.address.clone()));
        Ok(link)
    }

    async fn connection(&self) -> Result<Box<dyn Connection>, ConnectError> {
        let plain = self
            .dial
            .dial(self.address.clone())
            .await
            .map_err(ConnectError::Dial)?;
        let Some((tls, name)) = &self.tls else {
            return Ok(plain);
        };
        let secure = tls
            .connect(name.clone(), plain)
            .await
            .map_err(ConnectError::Tls)?;
        Ok(Box::new(secure))
    }
}

/// Ends when the connection breaks, when its pings are not answered, or when nobody has its sender
/// and no call is under way.
async fn drive(mut connection: Driven, link: Watched, address: Address) {
    let pings = connection.ping_pong();
    // A task of its own: the connection is polled at every frame, its pings seldom.
    let mut driver = tokio::spawn(connection);
    let ended = tokio::select! {
        ended = &mut driver => ended,
        () = silence(pings, &link) => {
            // Dropped with the connection, every call on it learns that it broke.
            driver.abort();
            tracing::debug!(%address, "connection silent");
            return;
        }
    };
    match ended {
        Ok(Ok(())) => tracing::debug!(%address, "connection closed"),
        Ok(Err(error)) => tracing::debug!(%address, %error, "connection broke"),
        Err(error) => {
            tracing::error!(%address, %error, "a connection ended because of an internal error")
        }
    }
}

/// Returns once a ping has no answer in time.
async fn silence(pings: Option<PingPong>, link: &Watched) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(KEEPALIVE_INTERVAL).await;
        if !link.is_busy() {
            continue;
        }
        match timeout(KEEPALIVE_TIMEOUT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection's own task says what became of it.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Windows are fixed: measuring them takes pings, which etcd counts. A connection's window bounds
/// what it can make this side hold, and a stream's is what one call can fill of it: one answer
/// that nobody reads leaves room for the others.
fn builder(lane: Lane) -> client::Builder {
    let (stream, connection) = match lane {
        Lane::Unary => (1 << 20, 8 << 20),
        Lane::Bulk => (4 << 20, 16 << 20),
        Lane::Watch => (2 << 20, 16 << 20),
    };
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(stream)
        .initial_connection_window_size(connection)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .enable_push(false);
    builder
}
