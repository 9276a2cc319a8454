//! The certificate of a TLS listener: read from files, and read again when they change. If both sides authenticate,
//! the same files make the client's configuration.

use std::{convert::Infallible, fs, io, path::PathBuf, sync::Arc, time::Duration};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

/// How often the files are compared with what is in use. They are small, and an ACME client renews them weeks before
/// the old ones expire: seconds are prompt enough.
pub(crate) const RELOAD_EVERY: Duration = Duration::from_secs(2);

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

/// The content of the files.
#[derive(PartialEq, Eq)]
pub(crate) struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    authority: Option<Vec<u8>>,
}

impl CertificateFiles {
    /// Reads the files and makes a TLS configuration that offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`CertificateError`]: the operator must fix the files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        self.configure(&self.read()?)
    }

    fn read(&self) -> Result<Content, CertificateError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| CertificateError::Read { path: path.clone(), source })
        };
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: Zeroizing::new(read(&self.key)?),
            authority: self.authority.as_ref().map(read).transpose()?,
        })
    }

    fn configure(&self, content: &Content) -> Result<Arc<ServerConfig>, CertificateError> {
        let (chain, key) = self.pair(content)?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|source| self.unfit(source))?;
        let builder = match self.roots(content)? {
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
    /// [`CertificateError`].
    pub(crate) fn client(&self, content: &Content) -> Result<ClientConfig, CertificateError> {
        let (chain, key) = self.pair(content)?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let roots = self.roots(content)?.unwrap_or_else(RootCertStore::empty);
        let builder = builder.map_err(|source| self.unfit(source))?.with_root_certificates(roots);
        builder.with_client_auth_cert(chain, key).map_err(|source| self.unfit(source))
    }

    fn pair(&self, content: &Content) -> Result<Pair, CertificateError> {
        let no_certificate =
            |source| CertificateError::NoCertificate { path: self.certificate.clone(), source };
        let chain = CertificateDer::pem_slice_iter(&content.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(no_certificate)?;
        if chain.is_empty() {
            return Err(no_certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|source| CertificateError::NoKey { path: self.key.clone(), source })?;
        Ok((chain, key))
    }

    /// The authorities that sign for those who may connect.
    fn roots(&self, content: &Content) -> Result<Option<RootCertStore>, CertificateError> {
        let Some(authority) = &content.authority else { return Ok(None) };
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
        let path = self.authority.clone().unwrap_or_default();
        CertificateError::Authority { path, source: Box::new(source) }
    }

    fn unfit(&self, source: rustls::Error) -> CertificateError {
        let certificate = self.certificate.clone();
        let key = self.key.clone();
        CertificateError::Pair { certificate, key, source }
    }
}

/// A certificate chain and its key.
type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client's TLS configuration that trusts no authority and has no certificate, so that no handshake succeeds.
///
/// # Errors
/// [`CertificateError::Tls`].
pub(crate) fn trusting_none() -> Result<ClientConfig, CertificateError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(CertificateError::Tls)?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The files of a certificate, and their content when they were last read.
pub(crate) struct Watched {
    files: CertificateFiles,
    seen: Option<Content>,
}

impl Watched {
    /// Reads the files for the first time, and returns what `make` makes of them.
    pub(crate) fn new<T>(
        files: CertificateFiles,
        make: impl FnOnce(&CertificateFiles, &Content) -> Result<T, CertificateError>,
    ) -> Result<(Self, T), CertificateError> {
        let content = files.read()?;
        let made = make(&files, &content)?;
        Ok((Self { files, seen: Some(content) }, made))
    }

    /// Watches the files for ever. Calls `tell` once for each new content, and once each time that they can no longer
    /// be read.
    pub(crate) async fn follow(
        mut self,
        every: Duration,
        mut tell: impl FnMut(&CertificateFiles, Result<&Content, CertificateError>),
    ) -> Infallible {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let files = self.files.clone();
            // Nothing can be done about a panic in the reading, but it is always right to keep the old certificate.
            let Ok(read) = tokio::task::spawn_blocking(move || files.read()).await else {
                continue;
            };
            self.look(read, &mut tell);
        }
    }

    fn look(
        &mut self,
        read: Result<Content, CertificateError>,
        tell: &mut impl FnMut(&CertificateFiles, Result<&Content, CertificateError>),
    ) {
        match read {
            Ok(content) if self.seen.as_ref() == Some(&content) => {}
            Ok(content) => tell(&self.files, Ok(self.seen.insert(content))),
            // They could not be read before either: this was already reported.
            Err(_) if self.seen.is_none() => {}
            Err(error) => {
                self.seen = None;
                tell(&self.files, Err(error));
            }
        }
    }
}

/// Keeps the certificate of a listener up to date.
pub(super) struct Reloader {
    watched: Watched,
    live: RustlsConfig,
    every: Duration,
}

impl Reloader {
    pub(super) fn new(files: CertificateFiles, every: Duration) -> Result<Self, CertificateError> {
        let (watched, config) = Watched::new(files, CertificateFiles::configure)?;
        Ok(Self { watched, live: RustlsConfig::from_config(config), every })
    }

    /// The configuration that new connections use; it follows the files.
    pub(super) fn live(&self) -> RustlsConfig {
        self.live.clone()
    }

    /// Watches the files for ever. Open connections keep their configuration.
    pub(super) async fn run(self) -> Infallible {
        let live = self.live;
        self.watched.follow(self.every, |files, read| reload(&live, files, read)).await
    }

    #[cfg(test)]
    pub(super) fn look_now(&mut self) {
        let read = self.watched.files.read();
        self.watched.look(read, &mut |files, read| reload(&self.live, files, read));
    }
}

fn reload(live: &RustlsConfig, files: &CertificateFiles, read: Result<&Content, CertificateError>) {
    match read.and_then(|content| files.configure(content)) {
        Ok(config) => {
            live.reload_from_config(config);
            tracing::info!(
                certificate = %files.certificate.display(),
                code = "tls.reloaded",
                "the certificate has changed and is in use"
            );
        }
        Err(error) => kept(&error),
    }
}

/// Logs that the previous certificate stays in use.
pub(crate) fn kept(error: &CertificateError) {
    tracing::warn!(
        %error,
        code = "tls.reload_failed",
        "cannot use the new certificate; the previous one stays in use"
    );
}
