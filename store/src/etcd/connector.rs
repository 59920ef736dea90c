//! Making one HTTP/2 connection: dial, TLS, preface.

use std::{io, sync::Arc, time::Duration};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::framing::RequestBody;
use crate::{
    environment::{Address, Connection, Dial},
    port::Lane,
};

/// From the dial to the end of TLS's handshake. A host that is there needs a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// etcd ends connections that are pinged more often than every 5 s, or while no call is under
/// way (its `ServerKeepaliveEnforcementPolicy`); its own client pings every 30 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for a status with long details in the trailers; hyper's 16 KiB would end the stream.
const HEADER_LIST: u32 = 64 << 10;

/// Streams that this side gave up on and whose late frames are still let pass. For frames of a
/// stream that was forgotten h2 answers with errors, and after a thousand of those it gives up the
/// connection: many calls that time out together must not cost the others theirs.
const RESET_STREAMS: usize = 8192;

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
    Preface(hyper::Error),
    #[error("the task that connects ended")]
    Ended,
}

/// Makes the connections to one endpoint.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) dial: Arc<dyn Dial>,
    pub(super) address: Address,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(super) async fn connect(
        &self,
        lane: Lane,
    ) -> Result<SendRequest<RequestBody>, ConnectError> {
        let connection = timeout(CONNECT_TIMEOUT, self.connection()).await;
        let connection = connection.map_err(|_| ConnectError::TimedOut)??;
        let handshake = builder(lane).handshake(TokioIo::new(connection));
        let (sender, driver) = handshake.await.map_err(ConnectError::Preface)?;
        let address = self.address.clone();
        // Ends when the connection breaks, or when nobody has its sender and no call is under way.
        tokio::spawn(async move {
            match driver.await {
                Ok(()) => tracing::debug!(%address, "connection closed"),
                Err(error) => tracing::debug!(%address, %error, "connection broke"),
            }
        });
        Ok(sender)
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

/// Windows are fixed: measuring them takes pings, which etcd counts. A connection's window bounds
/// what it can make this side hold, and a stream's is what one call can fill of it: one answer
/// that nobody reads leaves room for the others.
fn builder(lane: Lane) -> http2::Builder<TokioExecutor> {
    let (stream, connection) = match lane {
        Lane::Unary => (1 << 20, 8 << 20),
        Lane::Bulk => (4 << 20, 16 << 20),
        Lane::Watch => (2 << 20, 16 << 20),
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(false)
        .adaptive_window(false)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_reset_streams(RESET_STREAMS);
    builder
}
