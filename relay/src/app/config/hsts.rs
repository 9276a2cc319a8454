//! HTTP Strict Transport Security (RFC 6797): for how long browsers that have used TLS use only TLS.

use std::time::Duration;

use http::HeaderValue;

use super::{ConfigError, TlsListener, invalid};
use crate::net::{listen::CertificateSource, public_url::PublicUrl};

/// One year, the usual value for sites that use only TLS.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
            let value = max_age(DEFAULT_MAX_AGE);
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
