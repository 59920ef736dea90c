//! Endpoints that speak etcd's API: `http`, `https`, `unix` and `unixs`, or a bare `host:port`.

use std::fmt;

use super::{Address, Login, url};

/// How an etcd endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EtcdScheme {
    /// TCP in the clear.
    Http,
    /// TCP with TLS.
    Https,
    /// A unix socket in the clear.
    Unix,
    /// A unix socket with TLS.
    Unixs,
}

/// One etcd endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdEndpoint {
    /// How it is spoken to.
    pub scheme: EtcdScheme,
    /// Where it listens.
    pub address: Address,
    /// Whom to authenticate as.
    pub login: Option<Login>,
}

impl EtcdScheme {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }
}

/// A bare `host:port` is `http`, as for etcd's own tools.
pub(super) fn parse(text: &str) -> Result<EtcdEndpoint, Vec<String>> {
    let (scheme, rest) = match text.split_once("://") {
        None => (EtcdScheme::Http, text),
        Some(("http", rest)) => (EtcdScheme::Http, rest),
        Some(("https", rest)) => (EtcdScheme::Https, rest),
        Some(("unix", rest)) => (EtcdScheme::Unix, rest),
        Some(("unixs", rest)) => (EtcdScheme::Unixs, rest),
        Some(_) => {
            return Err(vec![
                "unknown scheme; known are http, https, unix, unixs, sqlite, postgres and mysql"
                    .into(),
            ]);
        }
    };
    match scheme {
        EtcdScheme::Unix | EtcdScheme::Unixs => socket(scheme, rest),
        EtcdScheme::Http | EtcdScheme::Https => tcp(scheme, rest),
    }
}

fn socket(scheme: EtcdScheme, path: &str) -> Result<EtcdEndpoint, Vec<String>> {
    if path.is_empty() || path.contains('?') {
        return Err(vec![
            "a unix endpoint is the path of a socket: unix:///run/etcd.sock".into(),
        ]);
    }
    Ok(EtcdEndpoint {
        scheme,
        address: Address::Socket(path.to_owned()),
        login: None,
    })
}

fn tcp(scheme: EtcdScheme, rest: &str) -> Result<EtcdEndpoint, Vec<String>> {
    let url = url::split(rest);
    let mut faults = Vec::new();
    if url.path.is_some_and(|path| !path.is_empty()) {
        faults.push("an etcd endpoint has no path".into());
    }
    if url.query.is_some() {
        faults.push("an etcd endpoint has no arguments".into());
    }
    match url::host(url.authority, None) {
        Ok(address) if faults.is_empty() => Ok(EtcdEndpoint {
            scheme,
            address,
            login: url.login,
        }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

impl fmt::Display for EtcdScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        })
    }
}

impl fmt::Display for EtcdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(login) = &self.login {
            login.fmt(f)?;
        }
        self.address.fmt(f)
    }
}
