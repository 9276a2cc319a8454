//! The address under which clients reach this relay, and the addresses that are made from it.

use std::{fmt, str::FromStr};

use audiovault_protocol::identity::site::SiteId;
use url::{Host, Url};

/// Why a text is not a public URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// The text is not a URL.
    #[error("not a URL: expected an address such as https://relay.example.com")]
    NotAUrl,
    /// The scheme is not one that browsers use.
    #[error("a public URL must start with https:// (or http:// for trials)")]
    Scheme,
    /// Links are made by appending to it, so it has no other parts.
    #[error("a public URL must not have a user name, a query or a fragment")]
    TooMuch,
}

/// An `http` or `https` URL without query, fragment and trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    url: Url,
    text: String,
}

impl PublicUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parsed URL.
    pub fn as_url(&self) -> &Url {
        &self.url
    }

    /// Whether browsers and agents reach the relay over TLS.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the address is one of this machine only.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The base address of one site, without a slash at the end.
    pub fn site(&self, site: &SiteId) -> String {
        format!("{}/{site}", self.text)
    }

    /// The address where QueueMetrics searches the recordings of one site.
    pub fn search(&self, site: &SiteId) -> String {
        format!("{}/{site}/search", self.text)
    }

    /// The value for the agent's `--relay`: the same address with the scheme of a WebSocket.
    pub fn relay(&self) -> String {
        // The schemes differ only at the start: http, https and ws, wss.
        self.text.replacen("http", "ws", 1)
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| PublicUrlError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(PublicUrlError::Scheme);
        }
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err(PublicUrlError::TooMuch);
        }
        let text = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url, text })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PublicUrl {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_follow_from_the_public_url() {
        let site = SiteId::parse("acme").unwrap();
        let url = parse("https://Relay.example.com/");
        assert_eq!(url.as_str(), "https://relay.example.com");
        assert_eq!(url.search(&site), "https://relay.example.com/acme/search");
        assert_eq!(url.relay(), "wss://relay.example.com");
        let below = parse("http://127.0.0.1:8080/http/");
        assert_eq!(below.site(&site), "http://127.0.0.1:8080/http/acme");
        assert_eq!(below.relay(), "ws://127.0.0.1:8080/http");
    }

    #[test]
    fn loopback_is_recognised_by_name_and_number() {
        for here in ["http://localhost:1", "http://127.9.9.9", "http://[::1]:8080"] {
            assert!(parse(here).is_loopback(), "{here}");
        }
        for away in ["http://relay.example.com", "http://10.0.0.1", "https://[2001:db8::1]"] {
            assert!(!parse(away).is_loopback(), "{away}");
        }
    }

    #[test]
    fn what_cannot_be_appended_to_is_refused() {
        for bad in [
            "",
            "relay.example.com",
            "ftp://a",
            "mailto:a@b",
            "https://u:p@a",
            "https://a/?b",
            "https://a/#b",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad:?} must be refused");
        }
    }
}
