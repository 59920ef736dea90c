//! TLS, with certificates made on the spot.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use super::{
    network::Network,
    peer::{Act, Peer},
    *,
};
use crate::{TlsConfig, TlsError, TlsPem};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Identity {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server that wants certificates of the authority.
fn serve(network: &Network, host: &str, authority: &Authority, identity: &Identity) -> Peer {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    // As Go's gRPC: a client that offers nothing else is turned away.
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let peer = Peer::new(|_| Act::Answer(b"yes"));
    let served = peer.clone();
    network.up(host, move |io| {
        let (acceptor, served) = (acceptor.clone(), served.clone());
        tokio::spawn(async move {
            let Ok(io) = acceptor.accept(io).await else {
                return;
            };
            assert_eq!(io.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
            served.serve(io).await;
        });
    });
    peer
}

fn secure(pem: &TlsPem<'_>) -> EtcdStoreConfig {
    let endpoint = EtcdEndpoint::parse("https://a:1").unwrap();
    let mut config = EtcdStoreConfig::new("main", vec![endpoint]);
    config.tls = Some(TlsConfig::from_pem(pem).unwrap());
    config
}

#[tokio::test(start_paused = true)]
async fn both_sides_show_who_they_are() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (server, client) = (theirs.issue("a"), ours.issue("keyloom"));
    let (stranger, elsewhere) = (theirs.issue("stranger"), theirs.issue("b"));
    let (our_ca, their_ca) = (ours.pem(), theirs.pem());
    let pem = |ca: &'static str, identity: Option<&Identity>, skip_verify| {
        let leak = |text: &String| text.clone().leak().as_bytes();
        TlsPem {
            ca: Some(ca.as_bytes()),
            certificate: identity.map(|identity| leak(&identity.certificate)),
            key: identity.map(|identity| leak(&identity.key)),
            skip_verify,
        }
    };
    let (our_ca, their_ca): (&'static str, &'static str) = (our_ca.leak(), their_ca.leak());
    let table = [
        (
            "as it should be",
            &server,
            pem(their_ca, Some(&client), false),
            true,
        ),
        (
            "a server of another authority",
            &server,
            pem(our_ca, Some(&client), false),
            false,
        ),
        (
            "a server of another name",
            &elsewhere,
            pem(their_ca, Some(&client), false),
            false,
        ),
        (
            "a client without certificate",
            &server,
            pem(their_ca, None, false),
            false,
        ),
        (
            "a client of another authority",
            &server,
            pem(their_ca, Some(&stranger), false),
            false,
        ),
        (
            "any server, as asked for",
            &elsewhere,
            pem(our_ca, Some(&client), true),
            true,
        ),
    ];
    for (what, identity, pem, works) in table {
        let network = Network::default();
        let peer = serve(&network, "a", &ours, identity);
        let store = store_of(&network, secure(&pem));
        let result = store.call(write()).await;
        assert_eq!(result.is_ok(), works, "{what}: {result:?}");
        assert_eq!(peer.seen("Txn").len(), usize::from(works), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_trusted_is_named() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let network = Network::default();
    let _peer = serve(&network, "a", &ours, &theirs.issue("a"));
    let ca = ours.pem();
    let pem = TlsPem {
        ca: Some(ca.as_bytes()),
        ..TlsPem::default()
    };
    let cause = not_sent(store_of(&network, secure(&pem)).call(write()).await);
    assert!(cause.contains("UnknownIssuer"), "{cause}");
    assert!(cause.starts_with("store main: a:1: TLS: "), "{cause}");
}

#[test]
fn certificates_that_cannot_be_used_are_refused() {
    let authority = Authority::new("ours");
    let (ca, one, other) = (authority.pem(), authority.issue("a"), authority.issue("a"));
    let (certificate, key) = (Some(one.certificate.as_bytes()), Some(one.key.as_bytes()));
    let ca = Some(ca.as_bytes());
    let of = |ca, certificate, key| {
        let pem = TlsPem {
            ca,
            certificate,
            key,
            skip_verify: false,
        };
        TlsConfig::from_pem(&pem).map(drop)
    };
    of(ca, certificate, key).unwrap();
    of(None, None, None).ok();
    assert!(matches!(
        of(Some(b""), None, None),
        Err(TlsError::NoAuthority)
    ));
    let torn = b"-----BEGIN CERTIFICATE-----\nAA".as_slice();
    assert!(matches!(
        of(Some(torn), None, None),
        Err(TlsError::Pem("CA file", _))
    ));
    assert!(matches!(
        of(ca, certificate, None),
        Err(TlsError::Half("key"))
    ));
    assert!(matches!(
        of(ca, None, key),
        Err(TlsError::Half("certificate"))
    ));
    assert!(matches!(
        of(ca, certificate, Some(b"")),
        Err(TlsError::Pem("key", _))
    ));
    let mixed = of(ca, certificate, Some(other.key.as_bytes()));
    assert!(matches!(mixed, Err(TlsError::Unusable(_))), "{mixed:?}");
}
