//! Certificates that are renewed while connections come.

use std::path::Path;

use rustls::{ClientConfig, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::*;

/// A self-signed certificate in a folder of its own.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> (Self, CertificateDer<'static>) {
        let folder = tempfile::tempdir().unwrap();
        let pair = Self { folder };
        let certificate = pair.renew();
        (pair, certificate)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            cert: Some(self.path("cert.pem")),
            key: Some(self.path("key.pem")),
            ..TlsFiles::default()
        }
    }

    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }
}

/// Whether a client that trusts `certificate` alone is served.
async fn shows(current: &ArcSwap<TlsAcceptor>, certificate: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (client, server) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (client, _server) = tokio::join!(
        connector.connect(name, client),
        TlsAcceptor::clone(&current.load()).accept(server)
    );
    client.is_ok()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_bad_one_is_said_once() {
    let (pair, first) = Pair::new();
    let mut renewal = Renewal::of(&pair.files()).unwrap();
    let tls = Arc::clone(&renewal.current);
    assert_eq!(renewal.look().await, Looked::Unchanged);
    assert!(shows(&tls, &first).await);
    fs::write(pair.path("cert.pem"), "nothing").unwrap();
    assert_eq!(renewal.look().await, Looked::Refused);
    assert_eq!(renewal.look().await, Looked::Unchanged);
    assert!(shows(&tls, &first).await);
    fs::remove_file(pair.path("key.pem")).unwrap();
    assert_eq!(renewal.look().await, Looked::Refused);
    assert_eq!(renewal.look().await, Looked::Unchanged);
    assert!(shows(&tls, &first).await);
    let second = pair.renew();
    assert!(shows(&tls, &first).await, "no handshake reads the files");
    assert_eq!(renewal.look().await, Looked::Renewed);
    assert!(shows(&tls, &second).await && !shows(&tls, &first).await);
}

/// A certificate and the key of another one are seen between the two writes of a renewal.
#[tokio::test]
async fn half_a_renewal_leaves_the_certificate_from_before() {
    let (pair, first) = Pair::new();
    let mut renewal = Renewal::of(&pair.files()).unwrap();
    let tls = Arc::clone(&renewal.current);
    let (other, second) = Pair::new();
    fs::copy(other.path("cert.pem"), pair.path("cert.pem")).unwrap();
    assert_eq!(renewal.look().await, Looked::Refused);
    assert!(shows(&tls, &first).await);
    fs::copy(other.path("key.pem"), pair.path("key.pem")).unwrap();
    assert_eq!(renewal.look().await, Looked::Renewed);
    assert!(shows(&tls, &second).await);
}

/// Where the system reports no change, as on some network file systems.
#[tokio::test(start_paused = true)]
async fn the_files_are_read_at_an_interval() {
    let (pair, first) = Pair::new();
    let server = ServerTls::open(&pair.files(), FileChanges::Looked).unwrap();
    let tls = Arc::clone(&server.current);
    assert!(shows(&tls, &first).await);
    let second = pair.renew();
    tokio::time::timeout(2 * INTERVAL, async {
        while !shows(&tls, &second).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
    .unwrap();
}

/// By the system's report, long before the interval.
#[tokio::test]
async fn a_change_that_the_system_reports_is_read_at_once() {
    let (pair, _first) = Pair::new();
    let server = ServerTls::open(&pair.files(), FileChanges::Told).unwrap();
    let tls = Arc::clone(&server.current);
    let second = pair.renew();
    let shown = async {
        while !shows(&tls, &second).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), shown)
        .await
        .unwrap();
}
