//! Certificates of servers.

use std::path::{Path, PathBuf};

/// A server's certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the certificate that a client must trust: that of the signer.
    pub authority: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes a self-signed certificate for these names and addresses, and writes it into a directory.
    pub fn make(dir: &Path, names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certificate = dir.join("cert.pem");
        let files = Self { authority: certificate.clone(), certificate, key: dir.join("key.pem") };
        std::fs::write(&files.certificate, made.cert.pem()).expect("a file");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("a file");
        files
    }
}
