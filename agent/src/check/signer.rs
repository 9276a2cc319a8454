//! Evaluates the relay's certificate and its signer: is it the relay's, or that of a device in between that opens TLS.

use std::path::Path;

use audiovault_common::error_chain::in_one_line;
use audiovault_protocol::frame::one_line;
use jiff::{Timestamp, tz::TimeZone};
use rustls::{CertificateError, ProtocolVersion};

use super::{clock::Offset, report::Verdict};
use crate::net::{Certificate, TlsFailure, is_publicly_signed};

const READABLE: &str =
    "a device that decrypts TLS can read the site key, the search tokens and every recording";

/// What is known besides the handshake itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    /// The relay's host.
    pub(super) host: &'a str,
    /// The certificate authorities that the admin chose.
    pub(super) cacert: Option<&'a Path>,
    /// The offset of the relay's clock, if known.
    pub(super) offset: Option<Offset>,
    /// The time by this machine's clock.
    pub(super) now: Timestamp,
}

/// Evaluates a handshake that succeeded.
pub(super) fn trusted(
    version: Option<ProtocolVersion>,
    chain: &[Certificate],
    circumstances: &Circumstances<'_>,
) -> Verdict {
    let Some(own) = chain.first() else { return Verdict::pass("TLS without a certificate") };
    let Circumstances { host, cacert, .. } = circumstances;
    let until = own.not_after.to_zoned(TimeZone::UTC).date();
    let version = version.map_or("TLS", named);
    let to_text =
        format!("{version}; the certificate for {host} ({}) is valid until {until}", short(&own.subject));
    let signer = signer(chain);
    if is_publicly_signed(chain) {
        return Verdict::pass(format!("{to_text}, signed by {signer}, a public authority"));
    }
    if let Some(cacert) = cacert {
        let by = if own.signs_itself() { "by itself".to_owned() } else { format!("by {signer}") };
        let cacert = cacert.display();
        return Verdict::pass(format!(
            "{to_text}, signed {by}, not by a public authority; --cacert {cacert} trusts it"
        ));
    }
    let detail = format!(
        "{to_text}; it is signed by {signer}, which this machine trusts but which is not a public authority: a \
         device between here and the relay decrypts TLS, unless {signer} is the relay's own authority"
    );
    let advice = format!(
        "let connections to {host} pass the firewall, proxy or virus scanner without decryption: {READABLE}. \
         If the relay's operator uses a private certificate authority, name its file with --cacert, and this \
         warning goes away"
    );
    Verdict::warn(detail, advice)
}

/// Evaluates a handshake that failed.
pub(super) fn refused(failure: &TlsFailure, circumstances: &Circumstances<'_>) -> Verdict {
    match failure {
        TlsFailure::UnknownIssuer { chain, .. } => untrusted(chain, circumstances),
        TlsFailure::Unusable { chain, .. } if chain.first().is_some_and(|own| own.is_authority) => {
            authority(chain)
        }
        TlsFailure::Unusable { chain, source } if is_forged(source) => untrusted(chain, circumstances),
        TlsFailure::Expired { chain } | TlsFailure::NotYetValid { chain } => {
            let in_time =
                |there| chain.iter().all(|part| (part.not_before..=part.not_after).contains(&there));
            match circumstances.offset {
                Some(offset) if offset.is_wrong() && in_time(offset.there(circumstances.now)) => {
                    let what = one_line(&in_one_line(failure));
                    Verdict::fail(
                        format!("{what}, but only by this machine's clock, which is {}", offset.to_text()),
                        "set this machine's clock; the certificate is valid",
                    )
                }
                Some(_) | None => otherwise(failure),
            }
        }
        TlsFailure::WrongName { .. }
        | TlsFailure::Unusable { .. }
        | TlsFailure::Disagreement(_)
        | TlsFailure::NotTls(_)
        | TlsFailure::Broken(_) => otherwise(failure),
    }
}

/// Whether the certificate names an authority that this machine trusts, but is signed with a key that is not that
/// authority's.
fn is_forged(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(wrong) = error else { return false };
    matches!(
        wrong,
        CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

fn otherwise(failure: &TlsFailure) -> Verdict {
    Verdict::failed(failure, "check the network between this machine and the relay")
}

fn untrusted(chain: &[Certificate], circumstances: &Circumstances<'_>) -> Verdict {
    let Circumstances { host, cacert, .. } = circumstances;
    let signer = signer(chain);
    match chain.first() {
        Some(own) if own.signs_itself() && own.is_authority => authority(chain),
        Some(own) if own.signs_itself() => Verdict::fail(
            format!("the certificate for {host} is self-signed, and this machine does not trust it"),
            "ask the relay's operator for the certificate file, and name it with --cacert; if the relay's \
             certificate is signed by a public authority, a device between here and the relay has replaced \
             it",
        ),
        Some(_) if is_publicly_signed(chain) => {
            let (who, advice) = match cacert {
                Some(_) => (
                    "that is not in the file of --cacert",
                    "remove --cacert: with it, the agent trusts only the authorities in that file",
                ),
                None => (
                    "that this machine does not know",
                    "update this machine's certificate authorities (the package ca-certificates)",
                ),
            };
            let detail =
                format!("the certificate for {host} is signed by {signer}, a public authority {who}");
            Verdict::fail(detail, advice)
        }
        Some(_) | None => unknown(host, &signer, *cacert),
    }
}

/// The certificate is signed by an authority that is not public.
fn unknown(host: &str, signer: &str, cacert: Option<&Path>) -> Verdict {
    let Some(cacert) = cacert else {
        return Verdict::fail(
            format!(
                "the certificate for {host} is signed by {signer}, not by a public authority: a device \
                 between here and the relay decrypts TLS, unless {signer} is the relay's own authority"
            ),
            format!(
                "let connections to {host} pass the firewall, proxy or virus scanner without decryption: \
                 {READABLE}. If the relay's operator uses a private certificate authority, name its file \
                 with --cacert"
            ),
        );
    };
    Verdict::fail(
        format!(
            "the certificate for {host} is signed by {signer}, which is neither in --cacert {} nor a public \
             authority: a device between here and the relay decrypts TLS, or the relay has a certificate of \
             another authority now",
            cacert.display()
        ),
        format!(
            "ask the relay's operator who signs the certificate. If it is {signer}, add that authority to \
             the file of --cacert; if not, let connections to {host} pass the firewall, proxy or virus \
             scanner without decryption: {READABLE}"
        ),
    )
}

/// The server's certificate is itself an authority, which webpki refuses (RFC 5280, section 4.2.1.9).
fn authority(chain: &[Certificate]) -> Verdict {
    let whose = chain.first().map(|own| short(&own.subject)).unwrap_or_default();
    Verdict::fail(
        format!(
            "the relay's certificate ({whose}) is also a certificate authority, which is the default of \
             openssl; a server must not use such a certificate, and --cacert does not help"
        ),
        "ask the relay's operator to make a new one with: -addext basicConstraints=critical,CA:FALSE",
    )
}

/// The signer of the server's certificate, and the authority above it:
/// `'R11' (Let's Encrypt), under 'ISRG Root X1' (…)`.
fn signer(chain: &[Certificate]) -> String {
    let (Some(own), Some(last)) = (chain.first(), chain.last()) else {
        return "an unknown authority".to_owned();
    };
    let next = short(&own.issuer);
    if last.issuer == own.issuer { next } else { format!("{next}, under {}", short(&last.issuer)) }
}

/// A short form of a distinguished name: its common name, and its organisation if it has one.
fn short(name: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in name.split(", ") {
        match parts.last_mut() {
            // Values may hold commas; names of attributes are words in capitals.
            Some(last) if !part.split_once('=').is_some_and(|(kind, _)| is_attribute(kind)) => {
                last.push_str(", ");
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    let value =
        |kind| parts.iter().find_map(|part| part.strip_prefix(kind)).filter(|value| !value.is_empty());
    match (value("CN="), value("O=")) {
        (Some(common), Some(organisation)) => format!("'{common}' ({organisation})"),
        (Some(only), None) | (None, Some(only)) => format!("'{only}'"),
        (None, None) => format!("'{name}'"),
    }
}

fn is_attribute(kind: &str) -> bool {
    !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

/// The name of the version; rustls speaks these two only.
fn named(version: ProtocolVersion) -> &'static str {
    if version == ProtocolVersion::TLSv1_2 { "TLS 1.2" } else { "TLS 1.3" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_said_as_people_say_them() {
        assert_eq!(short("C=US, O=Let's Encrypt, CN=R11"), "'R11' (Let's Encrypt)");
        assert_eq!(short("CN=Acme Firewall CA"), "'Acme Firewall CA'");
        assert_eq!(short("O=Acme, Inc., C=ES"), "'Acme, Inc.'");
        assert_eq!(short("C=ES"), "'C=ES'");
        assert_eq!(short(""), "''");
    }
}
