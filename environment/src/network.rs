//! Connections over the machine's own network.

use std::io;

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::{Address, Connection, Dial};

/// Dials TCP and Unix sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioDial;

impl Dial for TokioDial {
    fn dial(&self, to: Address) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            match to {
                Address::Tcp { host, port } => tcp(&host, port).await,
                Address::Unix(path) => unix(&path).await,
            }
        })
    }
}

/// Every address that the name resolves to is tried in turn.
async fn tcp(host: &str, port: u16) -> io::Result<Box<dyn Connection>> {
    let stream = TcpStream::connect((host, port)).await?;
    // Small requests wait up to 40 ms for the peer's delayed acknowledgement otherwise.
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[cfg(unix)]
async fn unix(path: &std::path::Path) -> io::Result<Box<dyn Connection>> {
    Ok(Box::new(tokio::net::UnixStream::connect(path).await?))
}

#[cfg(not(unix))]
async fn unix(_: &std::path::Path) -> io::Result<Box<dyn Connection>> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
