//! Who makes a call: made once by the stack, and shared by every handler.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, header::USER_AGENT};
use keyloom_environment::Address;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The other end of a connection: known when it is accepted, shared by all of its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where it comes from. A client of a Unix socket has no address.
    pub(crate) address: Option<Address>,
    /// The URL of the listener that accepted it.
    pub(crate) listener: Arc<str>,
    /// Whom the certificate names that it has shown. None is asked for without
    /// `--client-cert-auth`.
    pub(crate) certificate: Option<CertificateNames>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "{address}"),
            None => f.write_str(&self.listener),
        }
    }
}

impl Peer {
    /// Whose share of the limits a call counts towards: those with one certificate are one caller,
    /// wherever they connect from; without certificates, those of one address are.
    pub(crate) fn identity(&self) -> String {
        let name = self.certificate.as_ref().and_then(CertificateNames::name);
        match (name, &self.address) {
            (Some(name), _) => format!("certificate:{name}"),
            (None, Some(Address::Tcp { host, .. })) => format!("address:{host}"),
            (None, _) => format!("listener:{}", self.listener),
        }
    }
}

/// The names in a client's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// The subject's common name, which is etcd's user name under `--client-cert-auth`
    /// (`AuthInfoFromTLS` in `server/auth/store.go`).
    pub(crate) common: Option<String>,
    /// DNS names, addresses of mail, and URIs of the subject alternative name.
    pub(crate) alternatives: Vec<String>,
}

impl CertificateNames {
    /// Reads them from a certificate in DER. One that cannot be read names nobody: the handshake
    /// has decided already whether it is trusted.
    pub(crate) fn read(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let common = certificate.subject().iter_common_name().next();
        let common = common.and_then(|name| name.as_str().ok());
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.iter().flat_map(|found| {
            let names = found.value.general_names.iter();
            names.filter_map(|name| match name {
                GeneralName::DNSName(name)
                | GeneralName::RFC822Name(name)
                | GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            })
        });
        Some(Self {
            common: common.filter(|name| !name.is_empty()).map(str::to_owned),
            alternatives: alternatives.collect(),
        })
    }

    /// The one name that stands for the whole certificate.
    pub(crate) fn name(&self) -> Option<&str> {
        self.common
            .as_deref()
            .or_else(|| self.alternatives.first().map(String::as_str))
    }
}

/// Who makes one call.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    pub(crate) peer: Arc<Peer>,
    /// What etcd's Authenticate gave to the client. Never written to a log.
    pub(crate) token: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
}

impl Caller {
    /// Reads what the request's headers say. Values are shared with the request, not copied.
    pub(crate) fn of(peer: Arc<Peer>, headers: &HeaderMap) -> Self {
        Self {
            peer,
            token: token_of(headers),
            user_agent: headers.get(USER_AGENT).cloned(),
        }
    }
}

impl fmt::Display for Caller {
    /// Address, certificate, and whether there is a token; as traces show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer)?;
        if let Some(certificate) = &self.peer.certificate {
            write!(f, " certificate {}", certificate.name().unwrap_or_default())?;
        }
        if self.token.is_some() {
            f.write_str(" with a token")?;
        }
        Ok(())
    }
}

/// As etcd looks for it (`AuthInfoFromCtx` in `server/auth/store.go`).
fn token_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let token = headers
        .get("token")
        .or_else(|| headers.get("authorization"))?;
    let mut token = token.clone();
    // Whatever prints it prints `Sensitive`.
    token.set_sensitive(true);
    Some(token)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common: Option<&str>, dns: &[&str]) -> Vec<u8> {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let uri = "spiffe://cluster/apiserver".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_its_subject_and_its_alternatives() {
        let names = CertificateNames::read(&certificate(Some("apiserver"), &["a.local"])).unwrap();
        assert_eq!(names.common.as_deref(), Some("apiserver"));
        assert_eq!(
            names.alternatives,
            ["a.local", "spiffe://cluster/apiserver"]
        );
        assert_eq!(names.name(), Some("apiserver"));
        let names = CertificateNames::read(&certificate(None, &[])).unwrap();
        assert_eq!(names.name(), Some("spiffe://cluster/apiserver"));
        assert_eq!(CertificateNames::read(b"no certificate"), None);
    }

    #[test]
    fn callers_are_told_apart_by_certificate_and_else_by_address() {
        let at = |host: &str, port| Address::Tcp {
            host: host.to_owned(),
            port,
        };
        let peer = |address, name: Option<&str>| Peer {
            address,
            listener: "unix:/run/k".into(),
            certificate: name.map(|name| CertificateNames {
                common: Some(name.to_owned()),
                alternatives: Vec::new(),
            }),
        };
        let same = |a: &Peer, b: &Peer| a.identity() == b.identity();
        let plain = peer(Some(at("10.0.0.1", 1)), None);
        assert!(same(&plain, &peer(Some(at("10.0.0.1", 2)), None)));
        assert!(!same(&plain, &peer(Some(at("10.0.0.2", 1)), None)));
        assert!(!same(&plain, &peer(None, None)));
        let named = peer(Some(at("10.0.0.1", 1)), Some("a"));
        assert!(same(&named, &peer(Some(at("10.0.0.2", 1)), Some("a"))));
        assert!(!same(&named, &plain));
        assert!(!same(&named, &peer(Some(at("10.0.0.1", 1)), Some("b"))));
    }

    #[test]
    fn a_token_is_read_as_etcd_reads_it_and_never_shown() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("gateway"));
        let caller = |headers: &HeaderMap| Caller::of(Arc::default(), headers);
        assert_eq!(caller(&headers).token.unwrap(), "gateway");
        headers.insert("token", HeaderValue::from_static("secret.7"));
        let caller = caller(&headers);
        assert!(caller.to_string().ends_with(" with a token"));
        assert_eq!(caller.token.as_ref().unwrap(), "secret.7");
        assert!(!format!("{caller:?}").contains("secret"));
    }
}
