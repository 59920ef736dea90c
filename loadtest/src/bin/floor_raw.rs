//! The floor: a forwarder that reads nothing. Frames of a request's body go to the store as they
//! come, frames of the answer back. Less than this no proxy over HTTP/2 can do; what Keyloom costs
//! above it is what Keyloom does.
//!
//! `keyloom-floor-raw LISTEN STORE`, both as ADDRESS:PORT. Without limits, checks, TLS or metrics:
//! for measurements only, so it listens on the loopback only.

use std::{
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use http::{Request, Response, Uri, uri};
use hyper::{
    body::Incoming,
    client::conn::http2::{self as client, SendRequest},
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// As many as Keyloom has for small calls to a store.
const CONNECTIONS: usize = 2;

/// The store's connections, used in turn.
struct Store {
    senders: Vec<SendRequest<Incoming>>,
    authority: uri::Authority,
    turn: AtomicUsize,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut address = |what: &str| -> Result<SocketAddr> {
        let text = arguments.next().with_context(|| what.to_owned())?;
        text.parse()
            .with_context(|| format!("{text}: not ADDRESS:PORT"))
    };
    let (listen, store) = (address("where to listen")?, address("where the store is")?);
    ensure!(listen.ip().is_loopback(), "it listens on the loopback only");
    let store = Arc::new(Store::connect(store).await?);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let store = Arc::clone(&store);
        let service = service_fn(move |request| forward(Arc::clone(&store), request));
        let connection = server::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(16_384)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .serve_connection(TokioIo::new(stream), service);
        // A connection that breaks is the client's affair.
        tokio::spawn(async move { drop(connection.await) });
    }
}

impl Store {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = client::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20)
                .handshake(TokioIo::new(stream))
                .await?;
            tokio::spawn(async move { drop(connection.await) });
            senders.push(sender);
        }
        Ok(Self {
            senders,
            authority: address.to_string().parse()?,
            turn: AtomicUsize::new(0),
        })
    }

    async fn send(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let sender = self.senders.get(turn % CONNECTIONS);
        let mut sender = sender.context("no connection")?.clone();
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts)?;
        Ok(sender.send_request(request).await?)
    }
}

async fn forward(
    store: Arc<Store>,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    // An error resets the stream, which a measurement takes as the failure that it is.
    Ok(store.send(request).await?)
}
