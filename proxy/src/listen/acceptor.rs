//! Accepting connections, behind a seam that a simulation can take.

use std::{fmt, io};

use futures_util::future::BoxFuture;
use keyloom_environment::{Address, Connection};
use tokio::net::{TcpListener, UnixListener};

use super::late::Late;

/// Opens listeners.
pub trait Listen: fmt::Debug + Send + Sync + 'static {
    /// Listens at an address; port 0 is any free one.
    ///
    /// # Errors
    /// As the network gives them.
    fn listen(&self, at: Address) -> BoxFuture<'_, io::Result<Box<dyn Accept>>>;
}

/// A connection, and where it comes from.
pub struct AcceptedConnection {
    pub connection: Box<dyn Connection>,
    /// A client of a Unix socket has none.
    pub from: Option<Address>,
}

impl fmt::Debug for AcceptedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AcceptedConnection");
        debug.field("from", &self.from).finish_non_exhaustive()
    }
}

/// A listener.
pub trait Accept: fmt::Debug + Send + Sync + 'static {
    /// The next connection.
    ///
    /// # Errors
    /// As the network gives them; the listener goes on.
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>>;

    /// The address that it really has.
    ///
    /// # Errors
    /// As the network gives them.
    fn address(&self) -> io::Result<Address>;
}

/// The network of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioListen;

impl Listen for TokioListen {
    fn listen(&self, at: Address) -> BoxFuture<'_, io::Result<Box<dyn Accept>>> {
        Box::pin(async move {
            let listener: Box<dyn Accept> = match at {
                Address::Tcp { host, port } => Box::new(TcpListener::bind((host, port)).await?),
                Address::Unix(path) => {
                    remove_dead_socket(&path).await?;
                    Box::new(UnixListener::bind(path)?)
                }
            };
            Ok(listener)
        })
    }
}

/// A socket file that nobody listens on is left over from an unclean end.
async fn remove_dead_socket(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Accept for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>> {
        Box::pin(async move {
            let (stream, from) = Self::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok(AcceptedConnection {
                connection: Box::new(Late::new(stream)?),
                from: Some(Address::Tcp {
                    host: from.ip().to_canonical().to_string(),
                    port: from.port(),
                }),
            })
        })
    }

    fn address(&self) -> io::Result<Address> {
        let address = self.local_addr()?;
        Ok(Address::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        })
    }
}

impl Accept for UnixListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>> {
        Box::pin(async move {
            let (stream, _) = Self::accept(self).await?;
            Ok(AcceptedConnection {
                connection: Box::new(Late::new(stream)?),
                from: None,
            })
        })
    }

    fn address(&self) -> io::Result<Address> {
        let path = self.local_addr()?.as_pathname().map(Into::into);
        Ok(Address::Unix(path.unwrap_or_default()))
    }
}
