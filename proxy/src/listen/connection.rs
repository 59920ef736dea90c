//! Serving connections: one task for each, on the workers in turn, HTTP/2 for gRPC, HTTP/1 for probes.
//!
//! Bounds: [`Limits::connections`] at once, the next waits in the kernel's queue; a TLS handshake
//! ends after [`Limits::handshake`], and so does a connection on which nothing comes; streams and
//! header lists per connection are capped.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use keyloom_environment::{CoalescedIo, Connection};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::Semaphore, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;
use tracing::{debug, warn};

use super::{
    acceptor::{Accept, AcceptedConnection},
    first_bytes::FirstBytes,
    tls::ServerTls,
};
use crate::{
    caller::{CertificateNames, Peer},
    workers::Workers,
};

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) handshake: Duration,
    /// Streams of one connection; further ones wait at the client.
    pub(crate) streams: u32,
    /// How many connections there are.
    pub(crate) open: Gauge,
    /// The listener's URL, as callers and logs name it.
    pub(crate) listener: Arc<str>,
    /// Which threads answer.
    pub(crate) workers: Workers,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshake: Duration::from_secs(10),
            streams: 16_384,
            open: Gauge::default(),
            listener: Arc::default(),
            workers: Workers::default(),
        }
    }
}

/// Accepts until `stop` is cancelled, then lets the connections finish their calls. `service` makes
/// what answers the requests of one connection: concrete, so that no request pays for a box.
pub(crate) async fn serve<S, B>(
    listener: Box<dyn Accept>,
    tls: Option<ServerTls>,
    service: impl Fn(Arc<Peer>) -> S + Clone + Send + 'static,
    limits: Limits,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let tracker = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next(listener.as_ref(), &permits) => accepted,
        };
        match accepted {
            Ok((accepted, permit)) => {
                let tls = tls.as_ref().map(ServerTls::acceptor);
                let (service, limits, stop) = (service.clone(), limits.clone(), stop.clone());
                let workers = limits.workers.clone();
                workers.spawn(&tracker, async move {
                    limits.open.inc();
                    if let Some((connection, peer)) = secure(accepted, tls, &limits).await {
                        answer(connection, service(Arc::new(peer)), &limits, stop).await;
                    }
                    limits.open.dec();
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted; trying again");
                // Out of file descriptors, most likely: let some close.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tracker.close();
    tracker.wait().await;
}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn next(
    listener: &dyn Accept,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(AcceptedConnection, Permit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    Ok((listener.accept().await?, permit))
}

/// Makes the TLS handshake, where there is one, and says who is at the other end.
async fn secure(
    accepted: AcceptedConnection,
    tls: Option<TlsAcceptor>,
    limits: &Limits,
) -> Option<(Box<dyn Connection>, Peer)> {
    let mut peer = Peer {
        address: accepted.from,
        listener: Arc::clone(&limits.listener),
        certificate: None,
    };
    let Some(tls) = tls else {
        return Some((accepted.connection, peer));
    };
    match timeout(limits.handshake, tls.accept(accepted.connection)).await {
        Ok(Ok(connection)) => {
            let shown = connection.get_ref().1.peer_certificates();
            let shown = shown.and_then(<[_]>::first);
            peer.certificate = shown.and_then(|shown| CertificateNames::read(shown));
            Some((Box::new(connection), peer))
        }
        Ok(Err(error)) => {
            debug!(%peer, %error, "the TLS handshake failed");
            None
        }
        Err(_) => {
            debug!(%peer, "the TLS handshake took too long");
            None
        }
    }
}

async fn answer<S, B>(
    connection: Box<dyn Connection>,
    service: S,
    limits: &Limits,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(16 * 1024)
        // A client whose callers give up at the same moment resets as many streams as it has open.
        // Beyond that is an attack (CVE-2023-44487), and ends the connection.
        .max_pending_accept_reset_streams(limits.streams as usize)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Some(Duration::from_secs(60)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake);
    let service = TowerToHyperService::new(service);
    let connection = FirstBytes::within(limits.handshake, connection);
    let served = builder.serve_connection(TokioIo::new(CoalescedIo::new(connection)), service);
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
