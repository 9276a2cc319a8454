//! TLS: the authorities that are trusted, handshakes with a clear error if a certificate is wrong, and the fields of
//! certificates that people need.

use std::{
    borrow::Cow,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use audiovault_common::advice::Advice;
use audiovault_protocol::frame::one_line;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore,
    SignatureScheme,
    client::{
        Resumption, VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{
    CertificateDer, IpAddr, ServerName, UnixTime,
    pem::{self, PemObject},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use super::Stream;

/// Longest name that is shown, in characters. Names come from the other side, which is not trusted.
const MAX_NAME: usize = 200;

/// Why no certificate authority can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of certificate authorities cannot be read.
    #[error("cannot read the certificates in {}", .0.display())]
    Unreadable(PathBuf, #[source] pem::Error),
    /// The file of certificate authorities contains something that is not a usable certificate.
    #[error("{} contains an invalid certificate", .0.display())]
    Certificate(PathBuf, #[source] RustlsError),
    /// The file of certificate authorities is empty.
    #[error("{} contains no certificate", .0.display())]
    Empty(PathBuf),
    /// The certificate authorities cannot be used.
    #[error("the certificate authorities cannot be used")]
    Verifier(#[source] VerifierBuilderError),
}

impl Advice for TrustError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unreadable(..) | Self::Certificate(..) | Self::Empty(_) => Some("check --cacert".into()),
            Self::Verifier(_) => None,
        }
    }
}

/// The certificate authorities, and the TLS settings.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    config: ClientConfig,
}

impl Trust {
    /// The certificate authorities of `cacert` if given. Otherwise those of the machine (or of `SSL_CERT_FILE`), or,
    /// if it has none, the built-in list of those that Mozilla trusts.
    pub(super) fn new(cacert: Option<&Path>) -> Result<Self, TrustError> {
        let roots = match cacert {
            Some(path) => roots_from_file(path)?,
            None => roots_of_machine(),
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

/// Why the handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// The certificate is not signed by a trusted authority.
    #[error("its certificate is signed by {issuer:?}, which this machine does not trust")]
    UnknownIssuer {
        /// The issuer of the last certificate that was presented.
        issuer: String,
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// The certificate has expired.
    #[error(
        "its certificate has expired{}",
        chain.first().map(|own| format!(" at {}", own.not_after)).unwrap_or_default()
    )]
    Expired {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// The certificate is not valid yet.
    #[error(
        "its certificate is not valid yet{}",
        chain.first().map(|own| format!(", only from {}", own.not_before)).unwrap_or_default()
    )]
    NotYetValid {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// The certificate is for another name.
    #[error("its certificate is for {}", names_of(chain))]
    WrongName {
        /// The certificates, the server's own first.
        chain: Vec<Certificate>,
    },
    /// Something else is wrong with the certificate.
    #[error("its certificate is invalid")]
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
    #[error("the server does not speak TLS")]
    NotTls(#[source] RustlsError),
    /// The connection broke.
    #[error("the connection was closed during the handshake")]
    Broken(#[source] io::Error),
}

impl Advice for TlsFailure {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::UnknownIssuer { .. } => Some(
                "if that is a firewall that decrypts TLS, let this connection pass without decryption, or \
                 trust its certificate authority with --cacert"
                    .into(),
            ),
            Self::Expired { .. } => Some(
                "check this machine's clock, or ask the operator of the server to renew the certificate"
                    .into(),
            ),
            Self::NotYetValid { .. } => Some("check this machine's clock".into()),
            Self::WrongName { .. } => Some("check the address, and which server answers there".into()),
            Self::Unusable { .. } => Some("ask the operator of the server to replace it".into()),
            Self::Disagreement(_) => None,
            Self::NotTls(_) => {
                Some("check the port, and whether a filter answers instead of the server".into())
            }
            Self::Broken(_) => Some("a firewall that blocks TLS can do that".into()),
        }
    }
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

/// A certificate that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject, such as `CN=relay.example.com`.
    pub subject: String,
    /// The issuer, such as `C=US, O=Let's Encrypt, CN=R11`; the same as the subject if the certificate is
    /// self-signed.
    pub issuer: String,
    /// The host names and addresses for which it is valid.
    pub names: Vec<String>,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// Whether it may sign others (RFC 5280, section 4.2.1.9). A server must not present such a certificate as its
    /// own.
    pub is_authority: bool,
    der: Encoded,
}

impl Certificate {
    /// Whether it is self-signed: subject and issuer are the same.
    pub fn signs_itself(&self) -> bool {
        self.subject == self.issuer
    }

    /// `now`, or the nearest moment at which this certificate is valid.
    fn within_its_life(&self, now: UnixTime) -> UnixTime {
        let [first, last] =
            [self.not_before, self.not_after].map(|at| u64::try_from(at.as_second()).unwrap_or(0));
        let at = now.as_secs().max(first).min(last.max(first));
        UnixTime::since_unix_epoch(Duration::from_secs(at))
    }
}

/// The encoded certificate. `Debug` shows its length only, because its bytes help no reader.
#[derive(Clone, PartialEq, Eq)]
struct Encoded(CertificateDer<'static>);

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
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

/// Whether a chain, the server's own certificate first, leads to an authority that Mozilla trusts. Ignores the time,
/// the name in the certificate, and the authorities that this machine trusts.
pub fn is_publicly_signed(chain: &[Certificate]) -> bool {
    leads_to(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }, chain)
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
        Err(RustlsError::InvalidCertificate(wrong)) => matches!(
            wrong,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ),
        Err(_) => false,
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
        let issuer =
            chain.last().map_or_else(|| "an unknown authority".to_owned(), |last| last.issuer.clone());
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

/// Reads a chain in the order in which it was presented, the server's own certificate first. Leaves out what cannot
/// be read.
fn read_chain(chain: &[CertificateDer<'_>]) -> Vec<Certificate> {
    chain.iter().filter_map(|der| read_certificate(der)).collect()
}

fn read_certificate(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter().filter_map(host_of).collect());
    let validity = certificate.validity();
    let time = |at: i64| Timestamp::from_second(at).unwrap_or_default();
    Some(Certificate {
        subject: shown(certificate.subject()),
        issuer: shown(certificate.issuer()),
        names: names.unwrap_or_default(),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
        is_authority: certificate.is_ca(),
        der: Encoded(der.clone().into_owned()),
    })
}

fn shown(name: &X509Name<'_>) -> String {
    clipped(&name.to_string())
}

/// A host name or address for which the certificate is valid. RFC 5280, section 4.2.1.6: `dNSName`, and `iPAddress`
/// of four or sixteen bytes.
fn host_of(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some(clipped(name));
    }
    let GeneralName::IPAddress(bytes) = name else { return None };
    let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
    address.ok().map(|address| address.to_string())
}

fn clipped(text: &str) -> String {
    one_line(text).chars().take(MAX_NAME).collect()
}

fn roots_from_file(path: &Path) -> Result<RootCertStore, TrustError> {
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

fn roots_of_machine() -> RootCertStore {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_with_its_subject_issuer_names_and_end() {
        let mut params =
            rcgen::CertificateParams::new(["relay.example".to_owned(), "192.0.2.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "relay\nforged line");
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2027, 1, 2);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let [read] = read_chain(&[made.der().clone(), CertificateDer::from(&b"no certificate"[..])])
            .try_into()
            .unwrap();
        assert!(read.subject.ends_with("forged line") && !read.subject.contains('\n'), "{read:?}");
        assert!(read.signs_itself());
        assert_eq!(read.names, ["relay.example", "192.0.2.1"]);
        assert_eq!(read.not_after.to_string(), "2027-01-02T00:00:00Z");
    }
}
