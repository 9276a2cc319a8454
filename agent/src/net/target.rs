//! The host and port of a service to connect to.

use std::fmt;

use rustls_pki_types::ServerName;
use url::{Host, Url};

/// A service: host, port, and whether it uses TLS. Shown as `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    tls: Option<ServerName<'static>>,
}

impl Target {
    /// Reads an address with the scheme `wss`, `https`, `ws`, `http` or that of a proxy. `None` if it has no host or
    /// no port.
    pub fn of(url: &Url) -> Option<Self> {
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let tls = match url.scheme() {
            "wss" | "https" => Some(ServerName::try_from(host.clone()).ok()?),
            _ => None,
        };
        Some(Self { host, port: url.port_or_known_default()?, tls })
    }

    /// A name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name that must be in its certificate, if it uses TLS.
    pub fn tls(&self) -> Option<&ServerName<'static>> {
        self.tls.as_ref()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_host_port_and_tls() {
        let read = |text: &str| Target::of(&Url::parse(text).unwrap()).unwrap();
        let shown = |text: &str| (read(text).to_string(), read(text).tls().is_some());
        assert_eq!(shown("wss://relay.example.com/a"), ("relay.example.com:443".to_owned(), true));
        assert_eq!(shown("ws://127.0.0.1"), ("127.0.0.1:80".to_owned(), false));
        assert_eq!(shown("https://[2001:db8::1]:8443"), ("[2001:db8::1]:8443".to_owned(), true));
        assert_eq!(read("wss://[2001:db8::1]").host(), "2001:db8::1");
        assert_eq!(Target::of(&Url::parse("file:///etc").unwrap()), None);
    }
}
