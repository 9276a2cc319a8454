//! The listeners with TLS, the sources of their certificates, and HTTP Strict Transport Security (RFC 6797): for how
//! long browsers that have used TLS use only TLS.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use audiovault_common::tls::CertificateFiles;
use http::HeaderValue;
use url::Url;

use super::{ConfigError, DEFAULT_ADMIN_BIND, address, invalid, settings::ServeArgs, truth};
use crate::net::{
    listen::{AcmeOrder, CertificateSource},
    public_url::PublicUrl,
};

/// The production directory of Let's Encrypt.
const DEFAULT_ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A listener with TLS.
#[derive(Debug, Clone)]
pub struct TlsListener {
    /// The address to listen on. Port 0 means any free port.
    pub addr: SocketAddr,
    /// The source of the certificate. If it is files, they could be loaded when the configuration was checked.
    pub certificate: CertificateSource,
}

impl TlsListener {
    pub(super) fn check(args: &ServeArgs) -> Result<Option<Self>, ConfigError> {
        let acme = acme_order(args)?;
        let files = match (&args.tls_cert, &args.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(CertificateFiles { certificate: certificate.clone(), key: key.clone(), authority: None })
            }
            (None, _) => return Err(ConfigError::IncompleteTls("--tls-cert")),
            (_, None) => return Err(ConfigError::IncompleteTls("--tls-key")),
        };
        let certificate = match (files, acme) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoCertificates),
            (Some(files), None) => {
                files.load()?;
                CertificateSource::Files(files)
            }
            (None, Some(order)) => CertificateSource::Acme(order),
            (None, None) if args.tls_bind.is_none() => return Ok(None),
            (None, None) => return Err(ConfigError::IncompleteTls("--tls-cert")),
        };
        let bind = args.tls_bind.as_ref().ok_or(ConfigError::IncompleteTls("--tls-bind"))?;
        Ok(Some(Self { addr: address("--tls-bind", bind)?, certificate }))
    }
}

/// The listener for operators.
#[derive(Debug, Clone)]
pub struct AdminListener {
    /// The address to listen on. Port 0 means any free port.
    pub addr: SocketAddr,
    /// The certificate, if the listener has TLS. It could be loaded when the configuration was checked.
    pub certificate: Option<CertificateFiles>,
    /// The host names that are served besides `localhost`, in lower case. Without any, all IP addresses are served as
    /// well.
    pub hosts: Vec<String>,
}

impl AdminListener {
    /// A listener without TLS, for `localhost` and IP addresses.
    pub fn plain(addr: SocketAddr) -> Self {
        Self { addr, certificate: None, hosts: Vec::new() }
    }

    /// The address that operators open, without a slash at its end. `listening` is the address that the listener got.
    pub fn url(&self, listening: SocketAddr) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        match self.hosts.first() {
            Some(host) => format!("{scheme}://{host}:{}", listening.port()),
            None if listening.ip().is_unspecified() => format!("{scheme}://localhost:{}", listening.port()),
            None => format!("{scheme}://{listening}"),
        }
    }

    pub(super) fn check(args: &ServeArgs) -> Result<Self, ConfigError> {
        let addr = match &args.admin_bind {
            Some(text) => address("--admin-bind", text)?,
            None => DEFAULT_ADMIN_BIND,
        };
        let certificate = match (&args.admin_tls_cert, &args.admin_tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let files =
                    CertificateFiles { certificate: certificate.clone(), key: key.clone(), authority: None };
                files.load().map_err(ConfigError::AdminCertificate)?;
                Some(files)
            }
            (None, _) => return Err(ConfigError::IncompleteAdminTls("--admin-tls-cert")),
            (_, None) => return Err(ConfigError::IncompleteAdminTls("--admin-tls-key")),
        };
        let in_the_clear = truth("--admin-allow-plaintext", args.admin_allow_plaintext.as_deref(), false)?;
        if certificate.is_none() && !addr.ip().to_canonical().is_loopback() && !in_the_clear {
            return Err(ConfigError::AdminInTheClear(addr));
        }
        let names = args.admin_host.iter().flatten();
        let hosts = names.map(|text| host_name("--admin-host", text)).collect::<Result<_, _>>()?;
        Ok(Self { addr, certificate, hosts })
    }
}

fn acme_order(args: &ServeArgs) -> Result<Option<AcmeOrder>, ConfigError> {
    let missing = ConfigError::IncompleteAcme;
    let (domains, email, cache) = match (&args.acme_domain, &args.acme_email, &args.acme_cache) {
        (None, None, None) if args.acme_directory.is_none() && args.acme_cacert.is_none() => return Ok(None),
        (Some(domains), Some(email), Some(cache)) => (domains, email, cache),
        (None, _, _) => return Err(missing("--acme-domain")),
        (_, None, _) => return Err(missing("--acme-email")),
        (_, _, None) => return Err(missing("--acme-cache")),
    };
    let wrong_email =
        || invalid("--acme-email", email, &"expected an email address, such as admin@example.com");
    let (name, host) = email.trim().split_once('@').ok_or_else(wrong_email)?;
    if name.is_empty() || host.is_empty() || email.trim().contains(char::is_whitespace) {
        return Err(wrong_email());
    }
    let directory = args.acme_directory.as_deref().unwrap_or(DEFAULT_ACME_DIRECTORY).trim();
    if !Url::parse(directory).is_ok_and(|url| url.scheme() == "https") {
        return Err(invalid("--acme-directory", directory, &"expected an address that starts with https://"));
    }
    Ok(Some(AcmeOrder {
        domains: domains.iter().map(|domain| acme_domain(domain)).collect::<Result<_, _>>()?,
        email: email.trim().to_owned(),
        cache: cache.clone(),
        directory: directory.to_owned(),
        cacert: args.acme_cacert.clone(),
    }))
}

fn acme_domain(text: &str) -> Result<String, ConfigError> {
    if text.trim().starts_with("*.") {
        let reason =
            "an ACME server cannot verify a wildcard by TLS-ALPN-01; set --tls-cert and --tls-key instead";
        return Err(invalid("--acme-domain", text, &reason));
    }
    host_name("--acme-domain", text)
}

fn host_name(flag: &'static str, text: &str) -> Result<String, ConfigError> {
    let name = text.trim().to_ascii_lowercase();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.parse::<IpAddr>().is_ok() || !name.split('.').all(is_label) {
        return Err(invalid(flag, text, &"expected a host name, such as relay.example.com"));
    }
    Ok(name)
}

/// One year, the usual value for sites that use only TLS.
const DEFAULT_HSTS_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The values of `Strict-Transport-Security` for responses over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hsts {
    /// For the public listeners.
    pub public: Option<HeaderValue>,
    /// For the admin listener.
    pub admin: Option<HeaderValue>,
}

impl Hsts {
    /// Checks the setting. Without one, the header is sent where only TLS is expected: by the admin listener if it has
    /// TLS, and by the public listeners with an ACME certificate or an `https` address. A public `http` address means
    /// that plain HTTP is used on purpose.
    pub(super) fn check(
        text: Option<&str>,
        public_url: &PublicUrl,
        tls: Option<&TlsListener>,
    ) -> Result<Self, ConfigError> {
        let Some(text) = text.map(str::trim) else {
            let acme = tls.is_some_and(|tls| matches!(tls.certificate, CertificateSource::Acme(_)));
            let value = max_age(DEFAULT_HSTS_MAX_AGE);
            return Ok(Self {
                public: value.clone().filter(|_| acme || public_url.is_secure()),
                admin: value,
            });
        };
        if text == "off" {
            return Ok(Self::default());
        }
        let time = humantime::parse_duration(text).map_err(|error| {
            let reason = format!("expected a time such as 365days, or off: {error}");
            invalid("--hsts-max-age", text, &reason)
        })?;
        Ok(Self { public: max_age(time), admin: max_age(time) })
    }
}

fn max_age(time: Duration) -> Option<HeaderValue> {
    // A number is always a valid header value.
    HeaderValue::try_from(format!("max-age={}", time.as_secs())).ok()
}
