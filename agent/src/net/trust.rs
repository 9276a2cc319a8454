//! The certificate authorities that are trusted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
};
use rustls_pki_types::{
    CertificateDer, IpAddr, ServerName, UnixTime,
    pem::{self, PemObject},
};

use super::Certificate;

/// Why no certificate authority can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of certificate authorities cannot be read.
    #[error("cannot read the certificates in {}; check --cacert", .0.display())]
    Unreadable(PathBuf, #[source] pem::Error),
    /// The file of certificate authorities contains something that is not a usable certificate.
    #[error("{} contains an invalid certificate; check --cacert", .0.display())]
    Certificate(PathBuf, #[source] rustls::Error),
    /// The file of certificate authorities is empty.
    #[error("{} contains no certificate; check --cacert", .0.display())]
    Empty(PathBuf),
    /// The certificate authorities cannot be used.
    #[error("the certificate authorities cannot be used")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

/// The certificate authorities, and the TLS settings.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    pub(super) config: ClientConfig,
}

impl Trust {
    /// The certificate authorities of `cacert` if given. Otherwise those of the machine (or of `SSL_CERT_FILE`), or,
    /// if it has none, the built-in list of those that Mozilla trusts.
    pub(super) fn new(cacert: Option<&Path>) -> Result<Self, TrustError> {
        let roots = match cacert {
            Some(path) => from_file(path)?,
            None => from_machine(),
        };
        let verifier =
            WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(TrustError::Verifier)?;
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::<WebPkiServerVerifier>::clone(&verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed TLS session shows no certificate, and connections are days apart.
        config.resumption = Resumption::disabled();
        Ok(Self { verifier, config })
    }
}

/// Whether a chain, the server's own certificate first, leads to an authority that Mozilla trusts. Ignores the time,
/// the name in the certificate, and the authorities that this machine trusts.
pub fn is_publicly_signed(chain: &[Certificate]) -> bool {
    leads_to(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }, chain)
}

/// Whether a chain leads to one of these authorities. Ignores the time and the name in the certificate.
pub(super) fn leads_to(roots: RootCertStore, chain: &[Certificate]) -> bool {
    let Some((own, others)) = chain.split_first() else { return false };
    let Ok(judge) = WebPkiServerVerifier::builder(Arc::new(roots)).build() else { return false };
    let others: Vec<_> = others.iter().map(|other| other.der.0.clone()).collect();
    let now = own.within_its_life(UnixTime::now());
    let anybody = ServerName::IpAddress(IpAddr::V4([192, 0, 2, 1].into()));
    // The name is checked last: an error about the name means that everything else is correct.
    let judged = judge.verify_server_cert(&own.der.0, &others, &anybody, &[], now);
    match judged {
        Ok(_) => true,
        Err(rustls::Error::InvalidCertificate(wrong)) => matches!(
            wrong,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ),
        Err(_) => false,
    }
}

fn from_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let unreadable = |error| TrustError::Unreadable(path.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|error| TrustError::Certificate(path.to_owned(), error))?;
    }
    if roots.is_empty() {
        return Err(TrustError::Empty(path.to_owned()));
    }
    Ok(roots)
}

fn from_machine() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    // One broken certificate among a hundred is no reason to reject all.
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        tracing::info!(
            code = "tls.built_in_authorities",
            "this machine has no certificate authorities; using the built-in ones"
        );
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
