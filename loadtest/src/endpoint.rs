//! Where a target is, and whether it may be put under load.

use std::{net::SocketAddr, str::FromStr};

use anyhow::{Context as _, Result, bail};

/// An endpoint of a target: plain HTTP/2, as the machine's own loopback needs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
}

/// A target by its name in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("https://") {
            bail!("{text}: TLS is not spoken here");
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        let address = address.trim_end_matches('/');
        let address = address.replace("localhost:", "127.0.0.1:");
        let address = address
            .parse()
            .with_context(|| format!("{text}: not http://ADDRESS:PORT"))?;
        Ok(Self { address })
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// `NAME=URL`, or a URL that is its own name.
    fn from_str(text: &str) -> Result<Self> {
        let (name, url) = text.split_once('=').unwrap_or((text, text));
        Ok(Self {
            name: name.to_owned(),
            endpoint: url.parse()?,
        })
    }
}

impl Target {
    /// A mistyped address must not put somebody's production under load.
    ///
    /// # Errors
    /// Where the target is on another machine.
    pub(crate) fn must_be_local(&self) -> Result<()> {
        if self.endpoint.address.ip().is_loopback() {
            return Ok(());
        }
        bail!(
            "{} is not on this machine: give --any-target if it is meant",
            self.endpoint.address
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target: Target = "etcd=http://localhost:2379/".parse().unwrap();
        assert_eq!(target.name, "etcd");
        assert_eq!(target.endpoint.address.to_string(), "127.0.0.1:2379");
        let unnamed: Target = "[::1]:1".parse().unwrap();
        assert_eq!(unnamed.name, "[::1]:1");
        for wrong in ["", "etcd=", "https://127.0.0.1:1", "http://127.0.0.1"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn other_machines_are_refused() {
        for (text, local) in [
            ("127.0.0.2:1", true),
            ("[::1]:1", true),
            ("10.0.0.1:1", false),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.must_be_local().is_ok(), local, "{text}");
        }
    }
}
