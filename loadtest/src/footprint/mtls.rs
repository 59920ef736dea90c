//! What idle connections take that have certificates on both sides.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, Instant, sleep},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{PATIENCE, settled};
use crate::server::{Server, free_address};

/// Before anything is measured: what the first ones bring with them is no connection's own.
const FIRST: usize = 20;

/// How a client of HTTP/2 begins: its preface, and settings without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The kind of a frame of settings, and where it stands in the head of a frame.
const SETTINGS: (usize, u8) = (3, 4);

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// KiB that each of so many connections adds to a Keyloom in front of a store. Each has shaken hands
/// and exchanged HTTP/2's settings; nothing was asked on it.
pub(super) async fn connection_kib(
    keyloom: &Path,
    store: SocketAddr,
    log: &Path,
    count: usize,
) -> Result<f64> {
    let certificates = Certificates::new()?;
    let address = free_address()?;
    let mut command = Command::new(keyloom);
    command.args(["serve", "--listen", &format!("https://{address}")]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command.args(["--endpoint", &format!("http://{store}")]);
    for (flag, file) in [
        ("--cert-file", "own.crt"),
        ("--key-file", "own.key"),
        ("--trusted-ca-file", "ca.crt"),
    ] {
        command.arg(flag).arg(certificates.folder.path().join(file));
    }
    command.arg("--client-cert-auth");
    let server = Server::start("keyloom-mtls", command, address, log)?;
    let subject = server.subject();
    let process = subject.processes.first().context("no process")?;
    let mut connections = vec![certificates.first(address).await?];
    for _ in 0..FIRST {
        connections.push(certificates.connect(address).await?);
    }
    let before = settled(process).await?;
    for _ in 0..count {
        connections.push(certificates.connect(address).await?);
    }
    let after = settled(process).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
    Ok(after.saturating_sub(before) as f64 / 1024.0 / count as f64)
}

/// One certificate, which an authority of its own has signed, for the server and for its clients.
struct Certificates {
    folder: TempDir,
    client: TlsConnector,
}

impl Certificates {
    fn new() -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut own = CertificateParams::default();
        own.subject_alt_names = vec![SanType::IpAddress(LOCALHOST)];
        own.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = own.signed_by(&key, &authority)?;
        let folder = TempDir::with_prefix("keyloom-footprint-").context("a temporary folder")?;
        for (file, text) in [
            ("ca.crt", authority.pem()),
            ("own.crt", certificate.pem()),
            ("own.key", key.serialize_pem()),
        ] {
            fs::write(folder.path().join(file), text).context("writing a certificate")?;
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            folder,
            client: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The first connection, once the server listens.
    async fn first(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.connect(address).await {
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
                connected => return connected,
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::from(LOCALHOST);
        let mut stream = self.client.connect(name, stream).await?;
        let (_, session) = stream.get_ref();
        ensure!(session.alpn_protocol() == Some(b"h2"), "not HTTP/2");
        stream.write_all(PREFACE).await?;
        stream.flush().await?;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let (place, settings) = SETTINGS;
        ensure!(head.get(place) == Some(&settings), "no settings");
        Ok(stream)
    }
}
