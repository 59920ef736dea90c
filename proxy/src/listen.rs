//! Where clients come in: addresses, TLS, connections.

mod url;
mod acceptor;
mod tls;
mod connection;

pub use acceptor::{Accept, Listen, TokioListen};
pub(crate) use connection::{Limits, Stack, erase, serve};
pub use tls::TlsFiles;
pub(crate) use tls::server_config;
pub use url::{ListenUrl, ListenUrlError};
