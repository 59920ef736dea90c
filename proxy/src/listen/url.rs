//! The addresses that Keyloom listens on, as etcd's `--listen-client-urls` writes them.

use std::{fmt, str::FromStr};

use keyloom_environment::Address;

/// `http://host:port`, `https://host:port`, `unix://path`, `unixs://path` or a bare `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// Where to listen.
    pub address: Address,
    /// Whether clients speak TLS there.
    pub tls: bool,
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenUrlError {
    #[error(
        "\"{0}\" is not an address: use http://HOST:PORT, https://HOST:PORT, unix://PATH or HOST:PORT"
    )]
    Shape(String),
    #[error("\"{0}\": the port must be a number from 0 to 65535")]
    Port(String),
}

impl FromStr for ListenUrl {
    type Err = ListenUrlError;

    fn from_str(text: &str) -> Result<Self, ListenUrlError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = matches!(scheme, "https" | "unixs");
        let address = match scheme {
            "http" | "https" => host_and_port(text, rest)?,
            "unix" | "unixs" if !rest.is_empty() => Address::Unix(rest.into()),
            _ => return Err(ListenUrlError::Shape(text.to_owned())),
        };
        Ok(Self { address, tls })
    }
}

fn host_and_port(text: &str, rest: &str) -> Result<Address, ListenUrlError> {
    let shape = || ListenUrlError::Shape(text.to_owned());
    let (host, port) = rest
        .trim_end_matches('/')
        .rsplit_once(':')
        .ok_or_else(shape)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = port
        .parse()
        .map_err(|_| ListenUrlError::Port(text.to_owned()))?;
    if host.contains('/') {
        return Err(shape());
    }
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = if self.tls { "s" } else { "" };
        match &self.address {
            Address::Tcp { .. } => write!(f, "http{secure}://{}", self.address),
            Address::Unix(path) => write!(f, "unix{secure}://{}", path.display()),
        }
    }
}

impl ListenUrl {
    /// Whether only programs of this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.address {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_etcd_writes_them() {
        for (text, shown, local) in [
            ("127.0.0.1:2379", "http://127.0.0.1:2379", true),
            ("http://localhost:0", "http://localhost:0", true),
            ("https://[::1]:2379", "https://[::1]:2379", true),
            (
                "https://example.com:2379/",
                "https://example.com:2379",
                false,
            ),
            (":2379", "http://0.0.0.0:2379", false),
            ("unix:///run/keyloom.sock", "unix:///run/keyloom.sock", true),
        ] {
            let url: ListenUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.is_local(), local, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost",
            "ftp://localhost:1",
            "http://a/b:1",
            "unix://",
        ] {
            assert!(
                matches!(text.parse::<ListenUrl>(), Err(ListenUrlError::Shape(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "a:70000".parse::<ListenUrl>(),
            Err(ListenUrlError::Port(_))
        ));
    }
}
