//! Where clients come in: addresses, TLS, connections.

mod url;
mod acceptor;
mod late;
mod tls;
mod first_bytes;
mod connection;

pub use acceptor::{Accept, AcceptedConnection, Listen, TokioListen};
pub(crate) use connection::{Limits, serve};
pub(crate) use tls::ServerTls;
pub use tls::TlsFiles;
pub use url::{ListenUrl, ListenUrlError};
