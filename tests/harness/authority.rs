//! Certificate authorities: a customer's own, a firewall's, or an unknown one.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use crate::relay::Certificate;

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    life: Option<Duration>,
    dir: TempDir,
}

impl Authority {
    /// An authority with this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("authority.pem"), issuer.pem()).expect("a file");
        Self { issuer, life: None, dir }
    }

    /// The same, but its certificates are valid from this long ago until this long from now.
    #[must_use]
    pub fn for_short(self, life: Duration) -> Self {
        Self { life: Some(life), ..self }
    }

    /// PEM file of its own certificate. A program that trusts this file trusts all certificates that the authority
    /// signs.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// Makes and signs a certificate for a host name or an address, and writes it with its key into a directory.
    pub fn sign(&self, directory: &Path, host: &str) -> Certificate {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, host);
        if let Some(life) = self.life {
            let now = SystemTime::now();
            params.not_before = (now - life).into();
            params.not_after = (now + life).into();
        }
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let certificate = Certificate {
            certificate: directory.join("signed.pem"),
            authority: self.file(),
            key: directory.join("signed.key"),
        };
        std::fs::write(&certificate.certificate, signed.pem()).expect("a file");
        std::fs::write(&certificate.key, key.serialize_pem()).expect("a file");
        certificate
    }
}
