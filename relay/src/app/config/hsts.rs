//! For how long browsers that came over TLS come over TLS alone (HTTP Strict Transport Security, RFC 6797).

use std::time::Duration;

use http::HeaderValue;

use super::{ConfigError, TlsListener, invalid};
use crate::net::{listen::CertificateSource, public_url::PublicUrl};

/// A year: what browsers ask of sites that mean it.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The values of `Strict-Transport-Security`, for answers over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hsts {
    /// At the public listeners.
    pub public: Option<HeaderValue>,
    /// At the admin listener.
    pub admin: Option<HeaderValue>,
}

impl Hsts {
    /// Without a word both sides say so that are meant for TLS alone: the admin listener where it has TLS, and the public side with a
    /// certificate by ACME or an `https` address. A public side with an `http` address is asked in the clear on purpose.
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
    // A number is a header value always.
    HeaderValue::try_from(format!("max-age={}", time.as_secs())).ok()
}
