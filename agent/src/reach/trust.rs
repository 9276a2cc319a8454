//! Which certificate authorities are trusted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
};
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject},
};

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of certificate authorities cannot be read.
    #[error("cannot read the certificates in {}; check --cacert", .0.display())]
    Unreadable(PathBuf, #[source] pem::Error),
    /// The file of certificate authorities holds something that is no certificate.
    #[error("{} holds a certificate that cannot be used; check --cacert", .0.display())]
    Certificate(PathBuf, #[source] rustls::Error),
    /// The file of certificate authorities holds none.
    #[error("{} holds no certificate; check --cacert", .0.display())]
    Empty(PathBuf),
    /// The certificate authorities built in cannot be used.
    #[error("the certificate authorities cannot be used")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

/// Certificate authorities, and how to speak TLS.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    pub(super) config: ClientConfig,
}

impl Trust {
    /// The certificate authorities of `cacert` if given; otherwise those of the machine (or of `SSL_CERT_FILE`), or,
    /// where it has none, those that Mozilla trusts, as built in.
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
        // A resumed session shows no certificate, and connections are days apart.
        config.resumption = Resumption::disabled();
        Ok(Self { verifier, config })
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
    // One broken certificate among a hundred is no reason to trust none.
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        tracing::info!("this machine has no certificate authorities of its own; using those built in");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
