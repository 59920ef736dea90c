//! What an operator says about a store behind etcd endpoints.

use std::{fmt, path::PathBuf, time::Duration};

use http::uri::Authority;
use rustls_pki_types::ServerName;

use super::tls::TlsConfig;
use keyloom_environment::Address;

/// A store behind one or more etcd endpoints. The endpoints are members of one cluster.
#[derive(Clone, Debug)]
pub struct EtcdStoreConfig {
    /// The store's name in the topology, for errors, logs and metrics.
    pub name: String,
    /// Where the store can be reached; calls go round those that are well.
    pub endpoints: Vec<EtcdEndpoint>,
    /// How to speak TLS, for the endpoints that want it.
    pub tls: Option<TlsConfig>,
    /// An etcd user, where the store has authentication enabled.
    pub credentials: Option<Credentials>,
    /// What the store is spared.
    pub limits: Limits,
    /// How many connections there are to each endpoint.
    pub connections: Connections,
}

impl EtcdStoreConfig {
    /// A store without TLS and credentials, with the defaults for everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, endpoints: Vec<EtcdEndpoint>) -> Self {
        Self {
            name: name.into(),
            endpoints,
            tls: None,
            credentials: None,
            limits: Limits::default(),
            connections: Connections::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        if self.endpoints.len() > MOST_ENDPOINTS {
            return Err(ConfigError::TooManyEndpoints(self.endpoints.len()));
        }
        if self.limits.max_in_flight == 0 || self.limits.timeout.is_zero() {
            return Err(ConfigError::NothingAllowed);
        }
        let connections = self.connections;
        if connections.unary == 0 || connections.bulk == 0 || connections.watch == 0 {
            return Err(ConfigError::NothingAllowed);
        }
        let wants_tls = |endpoint: &&EtcdEndpoint| endpoint.server_name.is_some();
        match self.endpoints.iter().find(wants_tls) {
            Some(endpoint) if self.tls.is_none() => {
                Err(ConfigError::NoTls(endpoint.address.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// A set of endpoints is kept in the bits of a number. Clusters have seven members at most.
pub(super) const MOST_ENDPOINTS: usize = 64;

/// One address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdEndpoint {
    /// Where to connect.
    pub address: Address,
    /// What calls carry as `:authority`.
    pub authority: Authority,
    /// The name that the server's certificate must bear; none means no TLS.
    pub server_name: Option<ServerName<'static>>,
}

impl EtcdEndpoint {
    /// Reads `http://host:port`, `https://host:port`, `unix:///path`, `unixs:///path` or
    /// `host:port` (which means `http`). Without a port it is etcd's, 2379.
    ///
    /// # Errors
    /// Where the text is none of these.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::BadEndpoint(text.to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme {
            "http" | "https" => Self::tcp(rest, scheme == "https").ok_or_else(bad),
            "unix" | "unixs" if rest.starts_with('/') => Ok(Self::unix(rest, scheme == "unixs")),
            _ => Err(bad()),
        }
    }

    fn tcp(rest: &str, tls: bool) -> Option<Self> {
        let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
        // Credentials have a place of their own, and must not go out in a header.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        // `Authority::port` passes over what is no number.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" => 2379,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        let server_name = match tls {
            true => Some(ServerName::try_from(host.to_owned()).ok()?),
            false => None,
        };
        let host = host.to_owned();
        Some(Self {
            address: Address::Tcp { host, port },
            authority,
            server_name,
        })
    }

    /// `localhost` is what gRPC's own clients call the peer behind a Unix socket.
    fn unix(path: &str, tls: bool) -> Self {
        Self {
            address: Address::Unix(PathBuf::from(path)),
            authority: Authority::from_static("localhost"),
            server_name: tls
                .then(|| ServerName::try_from("localhost").ok())
                .flatten(),
        }
    }
}

/// An etcd user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// The password is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

/// What a store is spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many unary calls may be under way at once. As many again wait, each until its
    /// deadline; the next is refused at once, and neither kind reaches the store
    /// ([`CallError::NotSent`](keyloom_store::CallError::NotSent)). Streams are not counted.
    pub max_in_flight: usize,
    /// How long a unary call may take where its own deadline is not sooner.
    pub timeout: Duration,
}

impl Default for Limits {
    /// 4096 calls, and a minute: kube-apiserver's own limit for a request, so that no answer
    /// that somebody still waits for is given up, and nothing hangs for ever.
    fn default() -> Self {
        Self {
            max_in_flight: 4096,
            timeout: Duration::from_secs(60),
        }
    }
}

/// How many connections there are to each endpoint, per [`Lane`]. They are opened
/// when first needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub unary: usize,
    pub bulk: usize,
    pub watch: usize,
}

impl Default for Connections {
    /// Small calls share one: each connection more carries them in smaller batches, for which the
    /// kernel takes its time. Calls that may be large do not go among them.
    fn default() -> Self {
        Self {
            unary: 1,
            bulk: 1,
            watch: 1,
        }
    }
}

/// Why a store cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("a store needs an endpoint")]
    NoEndpoint,
    #[error("{0} endpoints: a store can have {MOST_ENDPOINTS} at most")]
    TooManyEndpoints(usize),
    #[error("{0:?} is not an endpoint: use http://HOST:PORT, https://HOST:PORT or unix:///PATH")]
    BadEndpoint(String),
    #[error("{0} uses TLS, and no trusted certificates are set")]
    NoTls(Address),
    #[error("limits and numbers of connections must be above 0")]
    NothingAllowed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address::Tcp { host, port }
    }

    #[test]
    fn endpoints_are_read() {
        let unix = |path: &str| Address::Unix(path.into());
        for (text, address, authority, name) in [
            ("http://a.b:1", tcp("a.b", 1), "a.b:1", None),
            ("http://a.b:1/", tcp("a.b", 1), "a.b:1", None),
            ("127.0.0.1:2", tcp("127.0.0.1", 2), "127.0.0.1:2", None),
            ("localhost", tcp("localhost", 2379), "localhost", None),
            (
                "https://etcd-0:3",
                tcp("etcd-0", 3),
                "etcd-0:3",
                Some("etcd-0"),
            ),
            ("https://[::1]:4", tcp("::1", 4), "[::1]:4", Some("::1")),
            ("unix:///run/etcd", unix("/run/etcd"), "localhost", None),
            (
                "unixs:///run/etcd",
                unix("/run/etcd"),
                "localhost",
                Some("localhost"),
            ),
        ] {
            let endpoint = EtcdEndpoint::parse(text).unwrap();
            assert_eq!(endpoint.address, address, "{text}");
            assert_eq!(endpoint.authority.as_str(), authority, "{text}");
            let server = name.map(|name| ServerName::try_from(name).unwrap());
            assert_eq!(endpoint.server_name, server, "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            "http://",
            "ftp://a:1",
            "http://a:b",
            "http://a:",
            "http://a:70000",
            "http://u:p@a:1",
            "http://a:1/path",
            "unix://relative",
            "https://:1",
        ] {
            let refused = Err(ConfigError::BadEndpoint(text.to_owned()));
            assert_eq!(EtcdEndpoint::parse(text), refused, "{text}");
        }
    }

    #[test]
    fn impossible_configurations_are_refused() {
        let plain = EtcdEndpoint::parse("http://a:1").unwrap();
        let with = |endpoints| EtcdStoreConfig::new("s", endpoints);
        assert_eq!(with(vec![plain.clone()]).check(), Ok(()));
        assert_eq!(with(vec![]).check(), Err(ConfigError::NoEndpoint));
        let many = with(vec![plain.clone(); 65]);
        assert_eq!(many.check(), Err(ConfigError::TooManyEndpoints(65)));
        let secure = with(vec![
            plain.clone(),
            EtcdEndpoint::parse("https://b:2").unwrap(),
        ]);
        assert_eq!(secure.check(), Err(ConfigError::NoTls(tcp("b", 2))));
        let mut nothing = with(vec![plain]);
        nothing.connections.watch = 0;
        assert_eq!(nothing.check(), Err(ConfigError::NothingAllowed));
    }

    #[test]
    fn a_password_is_not_shown() {
        let credentials = Credentials {
            user: "root".to_owned(),
            password: "hunter2".to_owned(),
        };
        let shown = format!("{credentials:?}");
        assert!(
            shown.contains("root") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
