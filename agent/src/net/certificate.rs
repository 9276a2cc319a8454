//! The fields of a certificate that people need.

use std::{fmt, time::Duration};

use audiovault_protocol::frame::one_line;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Longest name that is shown, in characters. Names come from the other side, which is not trusted.
const MAX_NAME: usize = 200;

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
    pub(super) der: Encoded,
}

/// The encoded certificate. `Debug` shows its length only, because its bytes help no reader.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Encoded(pub(super) CertificateDer<'static>);

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Certificate {
    /// Whether it is self-signed: subject and issuer are the same.
    pub fn signs_itself(&self) -> bool {
        self.subject == self.issuer
    }

    /// `now`, or the nearest moment at which this certificate is valid.
    pub(super) fn within_its_life(&self, now: UnixTime) -> UnixTime {
        let [first, last] =
            [self.not_before, self.not_after].map(|at| u64::try_from(at.as_second()).unwrap_or(0));
        let at = now.as_secs().max(first).min(last.max(first));
        UnixTime::since_unix_epoch(Duration::from_secs(at))
    }
}

/// Reads a chain in the order in which it was presented, the server's own certificate first. Leaves out what cannot
/// be read.
pub(super) fn read_chain(chain: &[CertificateDer<'_>]) -> Vec<Certificate> {
    chain.iter().filter_map(|der| read(der)).collect()
}

fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.iter().filter_map(host).collect());
    let validity = certificate.validity();
    let time = |at: i64| Timestamp::from_second(at).unwrap_or_default();
    Some(Certificate {
        subject: name(certificate.subject()),
        issuer: name(certificate.issuer()),
        names: names.unwrap_or_default(),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
        is_authority: certificate.is_ca(),
        der: Encoded(der.clone().into_owned()),
    })
}

fn name(name: &X509Name<'_>) -> String {
    clipped(&name.to_string())
}

/// A host name or address for which the certificate is valid. RFC 5280, section 4.2.1.6: `dNSName`, and `iPAddress`
/// of four or sixteen bytes.
fn host(name: &GeneralName<'_>) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_whose_it_is_who_signed_it_and_for_what() {
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
