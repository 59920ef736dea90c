//! TLS towards clients, with etcd's flags. The files are watched: handshakes show a renewed
//! certificate as soon as it is read, and open connections stay. No handshake reads a file.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ServerConfig as Config, WebPkiClientVerifier},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::watched_files::{FileChanges, Files};

/// How often the files are read even if the system reports no change.
const INTERVAL: Duration = Duration::from_secs(10);

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
pub(crate) struct ServerTls {
    current: Arc<ArcSwap<TlsAcceptor>>,
    /// Follows the files for as long as the listener is there.
    _renewal: AbortOnDropHandle<()>,
}

/// What the files held when they were read last, or why they could not be read.
type LastRead = Result<Contents, String>;

/// What came of reading the files once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Unchanged,
    Renewed,
    /// Logged, and handshakes go on as before.
    Refused,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What the files hold is a secret.
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files, and follows them from now on.
    ///
    /// # Errors
    /// Where a file is missing or cannot be used; the text names it.
    pub(crate) fn open(files: &TlsFiles, changes: FileChanges) -> Result<Self> {
        let renewal = Renewal::of(files)?;
        Ok(Self {
            current: Arc::clone(&renewal.current),
            _renewal: AbortOnDropHandle::new(tokio::spawn(renewal.run(changes))),
        })
    }

    /// For one handshake.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::clone(&self.current.load())
    }
}

/// Keeps what handshakes are made with as the files are.
struct Renewal {
    files: TlsFiles,
    current: Arc<ArcSwap<TlsAcceptor>>,
    seen: LastRead,
}

impl Renewal {
    fn of(files: &TlsFiles) -> Result<Self> {
        let contents = read(files)?;
        let acceptor = TlsAcceptor::from(server_config(files, &contents)?);
        Ok(Self {
            files: files.clone(),
            current: Arc::new(ArcSwap::from_pointee(acceptor)),
            seen: Ok(contents),
        })
    }

    /// Reads the files again whenever one of them changes, and at an interval.
    async fn run(mut self, changes: FileChanges) {
        let TlsFiles {
            cert,
            key,
            trusted_ca,
            ..
        } = &self.files;
        let Some(cert) = cert else { return };
        let mut files = Files::watch(cert, changes);
        files.name([key, trusted_ca].into_iter().flatten());
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = files.changed() => {}
                _ = ticks.tick() => {}
            }
            self.look().await;
        }
    }

    async fn look(&mut self) -> Looked {
        let files = self.files.clone();
        // Files may be on a slow disk, and keys take time to check.
        let read = tokio::task::spawn_blocking(move || read(&files));
        let seen = match read.await {
            Ok(read) => read.map_err(|error| format!("{error:#}")),
            // The program ends.
            Err(_) => return Looked::Unchanged,
        };
        if seen == self.seen {
            return Looked::Unchanged;
        }
        let config = match &seen {
            Ok(contents) => server_config(&self.files, contents),
            Err(error) => Err(anyhow::anyhow!("{error}")),
        };
        self.seen = seen;
        match config {
            Ok(config) => {
                self.current.store(Arc::new(config.into()));
                info!("the certificate files changed; new connections use them");
                Looked::Renewed
            }
            Err(error) => {
                warn!(
                    "the certificate files changed and cannot be used; new connections use the \
                     certificate from before: {error:#}"
                );
                Looked::Refused
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Contents> {
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        bail!("to listen with https, --cert-file and --key-file are needed");
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
        bail!("{} holds no certificate", shown(path));
    }
    Ok(found)
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

#[cfg(test)]
mod tests;
