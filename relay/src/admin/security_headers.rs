//! Headers that forbid pages to do what our pages never do.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::net::{client::Scheme, public_url::PublicUrl};

/// Headers of every response.
///
/// `Referrer-Policy` is `same-origin`, not `no-referrer`. With `no-referrer`, browsers send `Origin: null` with our
/// own forms (Fetch, section 3.2), and over plain HTTP nothing else would distinguish our forms from those of other
/// web sites.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// The security headers of this relay's pages.
#[derive(Debug, Clone)]
pub struct SecurityHeaders {
    policy: HeaderValue,
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    /// Pages load files from this listener alone. They search and play recordings at `public_url`. `hsts` is sent over
    /// TLS.
    pub fn new(public_url: &PublicUrl, hsts: Option<HeaderValue>) -> Self {
        let public = public_url.as_url().origin().ascii_serialization();
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self' {public}; media-src 'self' {public}; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        );
        // The origin of a checked URL is ASCII, so this does not fail. With the fallback only "try it" would not work.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'self'"));
        Self { policy, hsts }
    }

    pub(super) fn apply(&self, scheme: Scheme, headers: &mut HeaderMap) {
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let (Scheme::Https, Some(hsts)) = (scheme, &self.hsts) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}
