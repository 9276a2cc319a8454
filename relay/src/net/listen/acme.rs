//! A certificate that an ACME server issues and renews (RFC 8555), validated by TLS-ALPN-01 (RFC 8737) on the same
//! listener that uses it.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum_server::tls_rustls::RustlsConfig;
use futures_util::StreamExt;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs};
use rustls_acme::{AcmeState, EventError, EventOk, OrderError, acme::ACME_TLS_ALPN_NAME, caches::DirCache};
use rustls_pki_types::{CertificateDer, pem, pem::PemObject};

/// Mode of the directory of keys: only its owner has access.
const OWNER_ONLY: u32 = 0o700;
/// After this many failures the wait before the next attempt stops growing: 2¹⁶ seconds, as in `rustls-acme`.
const MAX_DOUBLINGS: u32 = 16;

/// The settings for a certificate from an ACME server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeOrder {
    /// The names in the certificate. This relay must be reachable under each of them at port 443.
    pub domains: Vec<String>,
    /// The address to which the ACME server may write if something is wrong with the certificate.
    pub email: String,
    /// The directory that keeps the account's key and the certificate across restarts.
    pub cache: PathBuf,
    /// The address of the ACME server's directory.
    pub directory: String,
    /// Certificate authorities, in PEM, for the connection to the ACME server, instead of the public ones.
    pub cacert: Option<PathBuf>,
}

/// Why ordering a certificate is impossible.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The directory for keys cannot be made, or access by others cannot be removed.
    #[error(
        "cannot use {} for the keys of --acme-domain: it must be a directory that only the relay can access",
        path.display()
    )]
    Cache {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file of certificate authorities cannot be read.
    #[error("cannot read the certificates in {}: check --acme-cacert", path.display())]
    Cacert {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// TLS itself cannot be configured.
    #[error("cannot use TLS with the ACME server")]
    Tls(#[from] rustls::Error),
}

/// Orders and renews the certificate for as long as the relay runs.
pub(super) struct AcmeClient {
    state: AcmeState<io::Error>,
    live: RustlsConfig,
    domains: String,
    failures: u32,
    /// Whether a certificate is in use.
    deployed: bool,
}

impl AcmeClient {
    pub(super) fn new(order: &AcmeOrder) -> Result<Self, AcmeError> {
        keep_private(&order.cache)
            .map_err(|source| AcmeError::Cache { path: order.cache.clone(), source })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(order.cacert.as_deref())?)
            .with_no_client_auth();
        let state = rustls_acme::AcmeConfig::new_with_client_config(&order.domains, Arc::new(client))
            .contact_push(format!("mailto:{}", order.email))
            .directory(&order.directory)
            .cache(DirCache::new(order.cache.clone()))
            .state();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(state.resolver());
        // Only an ACME server's client offers the last one.
        server.alpn_protocols = [&b"h2"[..], b"http/1.1", ACME_TLS_ALPN_NAME].map(<[u8]>::to_vec).to_vec();
        let live = RustlsConfig::from_config(Arc::new(server));
        Ok(Self { state, live, domains: order.domains.join(", "), failures: 0, deployed: false })
    }

    /// The configuration that connections use; it follows the certificate.
    pub(super) fn live(&self) -> RustlsConfig {
        self.live.clone()
    }

    /// Orders and renews. Open connections keep their configuration.
    pub(super) async fn run(mut self) -> Infallible {
        loop {
            match self.state.next().await {
                Some(Ok(event)) => self.on_event(&event),
                Some(Err(error)) => self.on_error(&error),
                // The stream has no end.
                None => std::future::pending().await,
            }
        }
    }

    fn on_event(&mut self, event: &EventOk) {
        let domains = &self.domains;
        match event {
            EventOk::DeployedCachedCert => {
                self.deployed = true;
                tracing::info!(
                    domains,
                    code = "acme.cached_in_use",
                    "the certificate of an earlier run is in use"
                );
            }
            EventOk::DeployedNewCert => {
                self.failures = 0;
                if std::mem::replace(&mut self.deployed, true) {
                    tracing::info!(
                        domains,
                        code = "acme.renewed",
                        "the certificate was renewed and is in use"
                    );
                } else {
                    tracing::info!(domains, code = "acme.issued", "the certificate was issued and is in use");
                }
            }
            EventOk::CertCacheStore | EventOk::AccountCacheStore => {}
        }
    }

    fn on_error(&mut self, error: &EventError<io::Error, io::Error>) {
        let domains = &self.domains;
        let deployed = self.deployed;
        match error {
            EventError::Order(cause) => {
                let wait_s = 1u64 << self.failures.min(MAX_DOUBLINGS);
                self.failures = self.failures.saturating_add(1);
                tracing::error!(
                    domains,
                    deployed,
                    %cause,
                    wait_s,
                    code = "acme.failed",
                    "the ACME server issued no certificate: {}; trying again",
                    advice(cause)
                );
            }
            EventError::CertCacheLoad(cause) | EventError::AccountCacheLoad(cause) => {
                tracing::warn!(
                    domains,
                    %cause,
                    code = "acme.cache_unreadable",
                    "cannot read --acme-cache; ordering a new certificate"
                );
            }
            EventError::CertCacheStore(cause) | EventError::AccountCacheStore(cause) => {
                tracing::error!(
                    domains,
                    %cause,
                    code = "acme.cache_unwritable",
                    "cannot write to the directory of --acme-cache: each restart orders a new certificate, and ACME \
                     servers limit how often; check its disk and permissions"
                );
            }
            EventError::CachedCertParse(cause) => {
                tracing::warn!(
                    domains,
                    %cause,
                    code = "acme.cached_unusable",
                    "cannot use the certificate of an earlier run; ordering a new one"
                );
            }
            EventError::NewCertParse(cause) => {
                tracing::error!(
                    domains,
                    %cause,
                    code = "acme.issued_unusable",
                    "cannot use the certificate that the ACME server sent"
                );
            }
        }
    }
}

/// What is to blame and what to do.
fn advice(error: &OrderError) -> &'static str {
    match error {
        OrderError::BadAuth(_) | OrderError::TooManyAttemptsAuth(_) => {
            "it could not verify the domain: the name must resolve to this relay, and port 443 must lead to \
             --tls-bind, without a proxy that terminates TLS"
        }
        OrderError::BadOrder(_) => "it refused the order; see the cause",
        OrderError::ProcessingTimeout(_) => "it did not finish in time",
        OrderError::Acme(_) => {
            "it could not be reached or refused the request: check the network, --acme-directory and --acme-cacert, \
             or see the cause"
        }
        OrderError::Rcgen(_) => "cannot create a key; see the cause",
    }
}

fn keep_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(directory)?;
    // An existing directory may have been open to others.
    fs::set_permissions(directory, fs::Permissions::from_mode(OWNER_ONLY))
}

fn roots(cacert: Option<&Path>) -> Result<RootCertStore, AcmeError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = cacert else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let failed = |source| AcmeError::Cacert { path: path.to_owned(), source };
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        roots.add(certificate.map_err(failed)?)?;
    }
    if roots.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(directory: &Path) -> AcmeOrder {
        AcmeOrder {
            domains: vec!["relay.example.com".to_owned()],
            email: "admin@example.com".to_owned(),
            cache: directory.join("keys"),
            directory: "https://127.0.0.1:1/dir".to_owned(),
            cacert: None,
        }
    }

    #[test]
    fn keys_are_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let order = order(directory.path());
        fs::create_dir(&order.cache).unwrap();
        fs::set_permissions(&order.cache, fs::Permissions::from_mode(0o755)).unwrap();
        AcmeClient::new(&order).unwrap();
        assert_eq!(fs::metadata(&order.cache).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "nothing").unwrap();
        let error = |order: AcmeOrder| AcmeClient::new(&order).err().unwrap().to_string();
        let message = error(AcmeOrder { cacert: Some(file.clone()), ..order(directory.path()) });
        assert!(message.contains("--acme-cacert"), "{message}");
        let message = error(AcmeOrder { cache: file.join("keys"), ..order(directory.path()) });
        assert!(message.contains("--acme-domain"), "{message}");
    }
}
