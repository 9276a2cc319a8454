//! Whom the agent trusts to be the relay.

use std::path::Path;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::TunnelError;

/// The certificate authorities of `cacert` if given; otherwise those of the machine, or, where it has none, those
/// that Mozilla trusts, as built in.
pub(super) fn client_config(cacert: Option<&Path>) -> Result<ClientConfig, TunnelError> {
    let roots = match cacert {
        Some(path) => from_file(path)?,
        None => from_machine(),
    };
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn from_file(path: &Path) -> Result<RootCertStore, TunnelError> {
    let unreadable = |error| TunnelError::Cacert(path.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|error| TunnelError::CacertCertificate(path.to_owned(), error))?;
    }
    if roots.is_empty() {
        return Err(TunnelError::CacertEmpty(path.to_owned()));
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
