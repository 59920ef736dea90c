//! TLS towards a store: whom to trust, and who this program is.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::{WantsClientCert, danger::ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use super::skip_verify::SkipVerify;

/// gRPC speaks HTTP/2, and Go's servers refuse a client that does not say so.
const ALPN: &[u8] = b"h2";

/// Contents of PEM files. Reading the files is the caller's part.
#[derive(Clone, Copy, Default)]
pub struct TlsPem<'a> {
    /// Whom to trust; without it whom the operating system trusts.
    pub ca: Option<&'a [u8]>,
    /// This program's certificate, with those that lead to its authority. Goes with `key`.
    pub certificate: Option<&'a [u8]>,
    /// The certificate's private key.
    pub key: Option<&'a [u8]>,
    /// Take any certificate of the server. Whoever is on the way can then read and change
    /// everything.
    pub skip_verify: bool,
}

impl fmt::Debug for TlsPem<'_> {
    /// The key is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsPem");
        shown
            .field("skip_verify", &self.skip_verify)
            .finish_non_exhaustive()
    }
}

/// How to speak TLS with a store.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub(super) client: Arc<ClientConfig>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the {0} is not PEM: {1}")]
    Pem(&'static str, pem::Error),
    #[error("the CA file has no certificate")]
    NoAuthority,
    #[error("the system has no trusted certificate authorities: set caFile")]
    NoSystemAuthority,
    #[error("the {0} is missing: a client certificate needs a certificate and a key")]
    Half(&'static str),
    #[error("the certificates cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsConfig {
    /// # Errors
    /// Where the PEM is none, or its parts do not fit together.
    pub fn from_pem(pem: &TlsPem<'_>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if pem.skip_verify {
            let any: Arc<dyn ServerCertVerifier> = Arc::new(SkipVerify::new(provider));
            builder.dangerous().with_custom_certificate_verifier(any)
        } else {
            builder.with_root_certificates(roots(pem.ca)?)
        };
        Self::with_identity(builder, pem)
    }

    /// A configuration made elsewhere.
    #[must_use]
    pub fn from_client_config(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![ALPN.to_vec()];
        Self {
            client: Arc::new(config),
        }
    }

    fn with_identity(
        builder: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
        pem: &TlsPem<'_>,
    ) -> Result<Self, TlsError> {
        let config = match (pem.certificate, pem.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(_), None) => return Err(TlsError::Half("key")),
            (None, Some(_)) => return Err(TlsError::Half("certificate")),
            (Some(certificate), Some(key)) => {
                let chain = certificates("certificate", certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key);
                let key = key.map_err(|error| TlsError::Pem("key", error))?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        Ok(Self::from_client_config(config))
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<_, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.map_err(|error| TlsError::Pem(what, error))
}

fn roots(ca: Option<&[u8]>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in certificates("CA file", pem)? {
                roots.add(certificate)?;
            }
            if roots.is_empty() {
                return Err(TlsError::NoAuthority);
            }
        }
        None => {
            // Systems carry odd certificates; those that can be read are what others use too.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoSystemAuthority);
            }
        }
    }
    Ok(Arc::new(roots))
}
