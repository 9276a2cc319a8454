//! TLS handshakes, with a clear error if a certificate is wrong, and the certificates themselves.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use rustls::{
    CertificateError, DigitallySignedStruct, Error as RustlsError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Stream,
    certificate::{Certificate, read_chain},
    trust::Trust,
};

/// Why the handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// The certificate is not signed by a trusted authority.
    #[error(
        "its certificate is signed by {issuer:?}, which this machine does not trust; if that is a firewall \
         that decrypts TLS, let this connection pass without decryption, or trust its certificate authority \
         with --cacert"
    )]
    UnknownIssuer {
        /// The issuer of the last certificate that was presented.
        issuer: String,
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// The certificate has expired.
    #[error(
        "its certificate has expired{}; check this machine's clock, or ask the operator of the server to \
         renew the certificate",
        chain.first().map(|own| format!(" at {}", own.not_after)).unwrap_or_default()
    )]
    Expired {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// The certificate is not valid yet.
    #[error(
        "its certificate is not valid yet{}; check this machine's clock",
        chain.first().map(|own| format!(", only from {}", own.not_before)).unwrap_or_default()
    )]
    NotYetValid {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// The certificate is for another name.
    #[error("its certificate is for {}; check the address, and which server answers there", names_of(chain))]
    WrongName {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// Something else is wrong with the certificate.
    #[error("its certificate is invalid; ask the operator of the server to replace it")]
    Unusable {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
        /// The error of the TLS library.
        source: RustlsError,
    },
    /// Both sides use TLS but have no common parameters.
    #[error("this machine and the server have no TLS version or cipher in common")]
    Disagreement(#[source] RustlsError),
    /// The other side does not use TLS.
    #[error(
        "the server does not speak TLS; check the port, and whether a filter answers instead of the server"
    )]
    NotTls(#[source] RustlsError),
    /// The connection broke.
    #[error("the connection was closed during the handshake; a firewall that blocks TLS can do that")]
    Broken(#[source] io::Error),
}

impl TlsFailure {
    /// The certificates that were presented, the server's own first.
    pub fn chain(&self) -> &[Certificate] {
        match self {
            Self::UnknownIssuer { chain, .. }
            | Self::Expired { chain }
            | Self::NotYetValid { chain }
            | Self::WrongName { chain }
            | Self::Unusable { chain, .. } => chain,
            Self::Disagreement(_) | Self::NotTls(_) | Self::Broken(_) => &[],
        }
    }
}

/// The clock by which the validity of a certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The clock of this machine.
    Machine,
    /// No clock: a time at which the server's certificate is valid. Everything else is checked as usual. Only to be
    /// used to ask a server for the current time.
    Ignored,
}

/// Does a TLS handshake as a client. Also returns the certificates, the server's own first.
pub(super) async fn handshake(
    trust: &Trust,
    name: ServerName<'static>,
    stream: Stream,
    clock: Clock,
) -> Result<(TlsStream<Stream>, Vec<Certificate>), TlsFailure> {
    let witness = Arc::new(Witness { judge: Arc::clone(&trust.verifier), seen: Mutex::default(), clock });
    let mut config = trust.config.clone();
    config.dangerous().set_certificate_verifier(Arc::<Witness>::clone(&witness));
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let chain = witness.chain();
    match connected {
        Ok(stream) => Ok((stream, chain)),
        Err(error) => Err(classify(error, chain)),
    }
}

fn classify(error: io::Error, chain: Vec<Certificate>) -> TlsFailure {
    let Some(reason) = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()).cloned() else {
        return TlsFailure::Broken(error);
    };
    let RustlsError::InvalidCertificate(wrong) = &reason else {
        let babble = matches!(reason, RustlsError::InvalidMessage(_));
        return if babble { TlsFailure::NotTls(reason) } else { TlsFailure::Disagreement(reason) };
    };
    if matches!(wrong, CertificateError::UnknownIssuer) {
        let issuer = chain.last().map_or_else(|| "nobody".to_owned(), |last| last.issuer.clone());
        TlsFailure::UnknownIssuer { issuer, chain }
    } else if matches!(wrong, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
        TlsFailure::Expired { chain }
    } else if matches!(wrong, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) {
        TlsFailure::NotYetValid { chain }
    } else if matches!(
        wrong,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ) {
        TlsFailure::WrongName { chain }
    } else {
        TlsFailure::Unusable { chain, source: reason }
    }
}

fn names_of(chain: &[Certificate]) -> String {
    match chain.first().map(|own| own.names.as_slice()) {
        None | Some([]) => "no host".to_owned(),
        Some(names) => names.join(", "),
    }
}

/// Stores the certificates before they are verified, because rustls drops those that it refuses.
#[derive(Debug)]
struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
    clock: Clock,
}

impl Witness {
    fn chain(&self) -> Vec<Certificate> {
        read_chain(&self.seen.lock())
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let chain = std::iter::once(own).chain(others).map(|der| der.clone().into_owned());
        *self.seen.lock() = chain.collect();
        let now = match self.clock {
            Clock::Machine => now,
            Clock::Ignored => self.chain().first().map_or(now, |own| own.within_its_life(now)),
        };
        self.judge.verify_server_cert(own, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
