//! TLS towards clients, with etcd's flags. The files are looked at with every handshake, as etcd
//! does: a renewed certificate is shown from then on, and connections that are there stay.

use std::{fs, io, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ServerConfig as Config, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// `--cert-file`, `--key-file`, `--trusted-ca-file` and `--client-cert-auth`.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub trusted_ca: Option<PathBuf>,
    pub client_cert_auth: bool,
}

/// What the files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    /// Where clients must have a certificate.
    trusted_ca: Option<Vec<u8>>,
}

/// What handshakes are made with.
#[derive(Debug)]
pub(crate) struct ServerTls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    contents: Contents,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its contents are a secret.
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Where a file is missing or cannot be used; the text names it.
    pub(crate) fn open(files: &TlsFiles) -> Result<Self> {
        let contents = read(files)?;
        let acceptor = server_config(files, &contents)?.into();
        Ok(Self {
            files: files.clone(),
            current: Mutex::new(Current { contents, acceptor }),
        })
    }

    /// For one handshake. Files that cannot be used now leave what was used before.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock();
        match read(&self.files) {
            Ok(contents) if contents == current.contents => {}
            Ok(contents) => match server_config(&self.files, &contents) {
                Ok(config) => {
                    info!("the server certificate was reloaded");
                    let acceptor = config.into();
                    *current = Current { contents, acceptor };
                }
                Err(error) => warn!(
                    "the new server certificate cannot be used; the old one stays in use: {error:#}"
                ),
            },
            Err(error) => {
                warn!("the server certificate cannot be read; the old one stays in use: {error:#}")
            }
        }
        current.acceptor.clone()
    }
}

fn read(files: &TlsFiles) -> Result<Contents> {
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        bail!("to listen with https:// or unixs://, set --cert-file and --key-file");
    };
    let contents =
        |path: &PathBuf| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let trusted_ca = match (&files.trusted_ca, files.client_cert_auth) {
        (Some(ca), true) => Some(contents(ca)?),
        (None, true) => bail!("--client-cert-auth needs --trusted-ca-file"),
        (_, false) => None,
    };
    Ok(Contents {
        cert: contents(cert)?,
        key: contents(key)?,
        trusted_ca,
    })
}

fn server_config(files: &TlsFiles, contents: &Contents) -> Result<Arc<ServerConfig>> {
    let chain = certificates(&contents.cert, files.cert.as_ref())?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .with_context(|| format!("reading the key {}", shown(files.key.as_ref())))?;
    let builder = Config::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match &contents.trusted_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca, files.trusted_ca.as_ref())? {
                roots.add(certificate)?;
            }
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build()?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .context("using --cert-file")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(text: &[u8], path: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)
        .with_context(|| format!("reading the certificates of {}", shown(path)))?;
    if found.is_empty() {
        bail!("{} has no certificate", shown(path));
    }
    Ok(found)
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}
