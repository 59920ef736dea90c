//! Serving connections: one task for each, HTTP/2 for gRPC, HTTP/1 for probes.
//!
//! Bounds: [`Limits::connections`] at once, the next waits in the kernel's queue; a TLS handshake
//! ends after [`Limits::handshake`]; streams and header lists per connection are capped.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
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
use tonic::body::Body;
use tower::{Service, util::BoxCloneSyncService};
use tracing::{debug, warn};

use super::{acceptor::Accept, tls::ServerTls};

/// The stack of layers above the services, type erased.
pub(crate) type Stack = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) handshake: Duration,
    /// Streams of one connection; further ones wait at the client.
    pub(crate) streams: u32,
    /// How many connections there are.
    pub(crate) open: Gauge,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshake: Duration::from_secs(10),
            streams: 16_384,
            open: Gauge::default(),
        }
    }
}

/// Accepts until `stop` is cancelled, then lets the connections finish their calls.
pub(crate) async fn serve(
    listener: Box<dyn Accept>,
    tls: Option<ServerTls>,
    stack: Stack,
    limits: Limits,
    stop: CancellationToken,
) {
    let tracker = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next(listener.as_ref(), &permits) => accepted,
        };
        match accepted {
            Ok((connection, permit)) => {
                let tls = tls.as_ref().map(ServerTls::acceptor);
                let (stack, stop) = (stack.clone(), stop.clone());
                let limits = limits.clone();
                tracker.spawn(async move {
                    limits.open.inc();
                    if let Some(connection) = secure(connection, tls, limits.handshake).await {
                        answer(connection, stack, &limits, stop).await;
                    }
                    limits.open.dec();
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
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
) -> std::io::Result<(Box<dyn Connection>, Permit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    Ok((listener.accept().await?, permit))
}

async fn secure(
    connection: Box<dyn Connection>,
    tls: Option<TlsAcceptor>,
    limit: Duration,
) -> Option<Box<dyn Connection>> {
    let Some(tls) = tls else {
        return Some(connection);
    };
    match timeout(limit, tls.accept(connection)).await {
        Ok(Ok(connection)) => Some(Box::new(connection)),
        Ok(Err(error)) => {
            debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => {
            debug!("TLS handshake took too long");
            None
        }
    }
}

async fn answer(
    connection: Box<dyn Connection>,
    stack: Stack,
    limits: &Limits,
    stop: CancellationToken,
) {
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
    let service = TowerToHyperService::new(stack);
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

/// Erases the type of a stack.
pub(crate) fn erase<S>(stack: S) -> Stack
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(stack)
}

#[cfg(test)]
mod tests;
