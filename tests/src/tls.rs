//! Certificates made on the spot, in a folder as kubeadm lays it out.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use tempfile::TempDir;

/// An authority, with the folder of what it issued: `ca.crt`, and a `NAME.crt` and `NAME.key` each.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority of the test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), "ca.crt", &issuer.pem());
        Self { issuer, folder }
    }

    /// A certificate of 127.0.0.1 for servers and clients, whose common name is `whose`, in the files
    /// of `name`. What is there is replaced as a whole, by renaming.
    pub fn issue(&self, name: &str, whose: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, whose);
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        params.subject_alt_names = vec![SanType::IpAddress(localhost)];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(self.folder(), &format!("{name}.key"), &key.serialize_pem());
        write(self.folder(), &format!("{name}.crt"), &certificate.pem());
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One of the folder's files.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.folder().join(name).display().to_string()
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let fresh = folder.join(format!(".{name}"));
    fs::write(&fresh, text).expect("the folder is the test's own");
    fs::rename(fresh, folder.join(name)).expect("the folder is the test's own");
}
