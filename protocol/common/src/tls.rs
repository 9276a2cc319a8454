//! TLS with certificates that are read from files, and read again when they change. If both sides authenticate, the
//! same files make the client's configuration.

use std::{fmt, fs, io, path::PathBuf, sync::Arc, time::Duration};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use zeroize::Zeroizing;

use crate::file_watch::Watcher;

/// The files of the certificate chain and its key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Certificates of the authorities that must sign the certificate of every client, in PEM. `None` if any client
    /// may connect.
    pub authority: Option<PathBuf>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// One of the files cannot be read.
    #[error("cannot read {}: check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file holds no PEM certificate.
    #[error("{} contains no certificate in PEM", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file holds no PEM private key.
    #[error("{} contains no private key in PEM", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file of authorities cannot be used.
    #[error("cannot use {} as a certificate authority", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS is not available at all.
    #[error("cannot use TLS")]
    Tls(#[source] rustls::Error),
    /// Certificate and key do not match, or are of an unsupported kind.
    #[error(
        "cannot use the certificate {} with the key {}: check that they belong together",
        certificate.display(),
        key.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The error of rustls.
        source: rustls::Error,
    },
}

impl CertificateFiles {
    /// Reads the files and makes a TLS configuration that offers HTTP/2 and HTTP/1.1. Blocks.
    ///
    /// # Errors
    /// [`CertificateError`]: the operator must fix the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        self.read()?.server()
    }

    fn read(&self) -> Result<Certificate, CertificateError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| CertificateError::Read { path: path.clone(), source })
        };
        Ok(Certificate {
            certificate: read(&self.certificate)?,
            key: Zeroizing::new(read(&self.key)?),
            authority: self.authority.as_ref().map(read).transpose()?,
            files: self.clone(),
        })
    }
}

/// A certificate with its key, as they were read from the files.
#[derive(PartialEq, Eq)]
pub struct Certificate {
    files: CertificateFiles,
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    authority: Option<Vec<u8>>,
}

impl Certificate {
    /// The configuration of a listener, which offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`CertificateError`]: the operator must fix the files.
    pub fn server(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let (chain, key) = self.pair()?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|source| self.unfit(source))?;
        let builder = match self.roots()? {
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|source| self.no_authority(source))?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|source| self.unfit(source))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The configuration of a client for such a listener: the same certificate, and the authorities that it trusts.
    ///
    /// # Errors
    /// [`CertificateError`]: the operator must fix the files.
    pub fn client(&self) -> Result<ClientConfig, CertificateError> {
        let (chain, key) = self.pair()?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let roots = self.roots()?.unwrap_or_else(RootCertStore::empty);
        let builder = builder.map_err(|source| self.unfit(source))?.with_root_certificates(roots);
        builder.with_client_auth_cert(chain, key).map_err(|source| self.unfit(source))
    }

    fn pair(&self) -> Result<Pair, CertificateError> {
        let no_certificate =
            |source| CertificateError::NoCertificate { path: self.files.certificate.clone(), source };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(no_certificate)?;
        if chain.is_empty() {
            return Err(no_certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|source| CertificateError::NoKey { path: self.files.key.clone(), source })?;
        Ok((chain, key))
    }

    /// The authorities that must sign the certificates of the other side.
    fn roots(&self) -> Result<Option<RootCertStore>, CertificateError> {
        let Some(authority) = &self.authority else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            let certificate = certificate.map_err(|source| self.no_authority(source))?;
            roots.add(certificate).map_err(|source| self.no_authority(source))?;
        }
        if roots.is_empty() {
            return Err(self.no_authority(pem::Error::NoItemsFound));
        }
        Ok(Some(roots))
    }

    fn no_authority(&self, source: impl std::error::Error + Send + Sync + 'static) -> CertificateError {
        let path = self.files.authority.clone().unwrap_or_default();
        CertificateError::Authority { path, source: Box::new(source) }
    }

    fn unfit(&self, source: rustls::Error) -> CertificateError {
        let certificate = self.files.certificate.clone();
        let key = self.files.key.clone();
        CertificateError::Pair { certificate, key, source }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A certificate chain and its key.
type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client's TLS configuration that trusts no authority and has no certificate, so that no handshake succeeds.
///
/// # Errors
/// [`CertificateError::Tls`].
pub fn trusting_none() -> Result<ClientConfig, CertificateError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(CertificateError::Tls)?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What was read from the files. All failures to read them are one version, so that only the first is reported.
struct Version(Result<Certificate, Arc<CertificateError>>);

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Ok(one), Ok(other)) => one == other,
            (Err(_), Err(_)) => true,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        }
    }
}

/// Watches the files of a certificate by their content: they are small, and two versions written shortly after each
/// other can have the same length and modification time.
#[derive(Debug)]
pub struct CertificateWatch {
    watcher: Watcher<Version>,
}

impl CertificateWatch {
    /// Reads the files for the first time, and returns what `make` makes of them. From then on, the files are compared
    /// with what is known in every interval. Blocks.
    ///
    /// # Errors
    /// [`CertificateError`]: the operator must fix the files.
    pub fn new<T>(
        files: CertificateFiles,
        interval: Duration,
        make: impl FnOnce(&Certificate) -> Result<T, CertificateError>,
    ) -> Result<(Self, T), CertificateError> {
        let certificate = files.read()?;
        let made = make(&certificate)?;
        let look = move || Version(files.read().map_err(Arc::new));
        Ok((Self { watcher: Watcher::new(Version(Ok(certificate)), interval, look) }, made))
    }

    /// Waits until the files have changed, and returns their new content.
    ///
    /// # Errors
    /// [`CertificateError::Read`], once each time that the files can no longer be read.
    pub async fn changed(&mut self) -> Result<&Certificate, Arc<CertificateError>> {
        self.watcher.changed().await.0.as_ref().map_err(Arc::clone)
    }
}

/// The TLS configuration of a listener, which follows the files of its certificate.
#[derive(Debug)]
pub struct TlsReloader {
    watch: CertificateWatch,
    live: RustlsConfig,
}

impl TlsReloader {
    /// Loads the files, and then watches them while [`TlsReloader::reloaded`] runs. Blocks.
    ///
    /// # Errors
    /// [`CertificateError`]: the operator must fix the files.
    pub fn new(files: CertificateFiles, interval: Duration) -> Result<Self, CertificateError> {
        let (watch, config) = CertificateWatch::new(files, interval, Certificate::server)?;
        Ok(Self { watch, live: RustlsConfig::from_config(config) })
    }

    /// The configuration that new connections use; it follows the files.
    pub fn live(&self) -> RustlsConfig {
        self.live.clone()
    }

    /// Waits until the files have changed, and makes new connections use them. Open connections keep their
    /// configuration.
    ///
    /// # Errors
    /// [`CertificateError`] if the new files cannot be used. The previous certificate then stays in use.
    pub async fn reloaded(&mut self) -> Result<(), Arc<CertificateError>> {
        let config = self.watch.changed().await?.server().map_err(Arc::new)?;
        self.live.reload_from_config(config);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rustls::pki_types::pem::PemObject;
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    /// A self-signed certificate for `localhost`, in files.
    pub(crate) struct TestCertificate {
        directory: TempDir,
    }

    impl TestCertificate {
        pub(crate) fn new() -> Self {
            let certificate = Self { directory: TempDir::new().unwrap() };
            certificate.renew();
            certificate
        }

        pub(crate) fn files(&self) -> CertificateFiles {
            CertificateFiles {
                certificate: self.directory.path().join("cert.pem"),
                key: self.directory.path().join("key.pem"),
                authority: None,
            }
        }

        pub(crate) fn renew(&self) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            // The key first: for a moment the pair does not match, as with any ACME client.
            fs::write(self.files().key, made.signing_key.serialize_pem()).unwrap();
            fs::write(self.files().certificate, made.cert.pem()).unwrap();
        }

        pub(crate) fn der(&self) -> CertificateDer<'static> {
            CertificateDer::from_pem_file(self.files().certificate).unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_that_does_not_match_leaves_the_previous_one_in_use() {
        let certificate = TestCertificate::new();
        let mut reloader = TlsReloader::new(certificate.files(), INTERVAL).unwrap();
        let before = reloader.live().get_inner();
        let good = fs::read(certificate.files().certificate).unwrap();

        let other = TestCertificate::new();
        fs::copy(other.files().key, certificate.files().key).unwrap();
        assert!(matches!(certificate.files().load(), Err(CertificateError::Pair { .. })));
        let error = reloader.reloaded().await.unwrap_err();
        assert!(matches!(*error, CertificateError::Pair { .. }), "{error}");
        assert!(Arc::ptr_eq(&before, &reloader.live().get_inner()), "a key of another certificate");

        fs::remove_file(certificate.files().certificate).unwrap();
        let error = reloader.reloaded().await.unwrap_err();
        assert!(matches!(*error, CertificateError::Read { .. }), "{error}");
        assert!(Arc::ptr_eq(&before, &reloader.live().get_inner()), "no certificate at all");
        let again = timeout(60 * INTERVAL, reloader.reloaded()).await;
        assert!(again.is_err(), "files that cannot be read are reported once");

        certificate.renew();
        assert_ne!(fs::read(certificate.files().certificate).unwrap(), good);
        reloader.reloaded().await.unwrap();
        assert!(!Arc::ptr_eq(&before, &reloader.live().get_inner()), "a new pair");
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let certificate = TestCertificate::new();
        let files = certificate.files();
        let mut reloader = TlsReloader::new(files.clone(), INTERVAL).unwrap();
        let live = reloader.live();
        let first = live.get_inner();
        fs::write(&files.certificate, "no certificate").unwrap();
        assert!(reloader.reloaded().await.is_err());
        assert!(Arc::ptr_eq(&first, &live.get_inner()));
        certificate.renew();
        reloader.reloaded().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &live.get_inner()));
        let renewed = live.get_inner();
        assert!(timeout(60 * INTERVAL, reloader.reloaded()).await.is_err());
        assert!(Arc::ptr_eq(&renewed, &live.get_inner()), "what has not changed is not read again");
    }

    #[test]
    fn what_is_wrong_with_the_files_is_named() {
        let certificate = TestCertificate::new();
        let files = certificate.files();
        let pem = fs::read(&files.certificate).unwrap();
        fs::write(&files.certificate, "nothing").unwrap();
        assert!(matches!(files.load(), Err(CertificateError::NoCertificate { .. })));
        fs::write(&files.certificate, pem).unwrap();
        fs::write(&files.key, "nothing").unwrap();
        assert!(matches!(files.load(), Err(CertificateError::NoKey { .. })));
        fs::remove_file(&files.key).unwrap();
        assert!(files.load().unwrap_err().to_string().contains("key.pem"));
    }

    #[test]
    fn the_key_is_not_shown() {
        let certificate = TestCertificate::new().files().read().unwrap();
        let shown = format!("{certificate:?}");
        // A derived implementation prints bytes as numbers; a key begins with five dashes.
        assert!(shown.contains("key.pem") && !shown.contains("45, 45"), "{shown}");
    }
}
