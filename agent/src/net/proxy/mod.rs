//! Connects through a proxy, HTTP or SOCKS.

mod http_connect;
mod rules;
mod socks;

use std::{fmt, net::SocketAddr};

use percent_encoding::percent_decode_str;
use url::Url;

pub use self::rules::ProxyRules;
use super::{Stream, Target, TlsFailure};
use crate::auth::secret::Secret;

/// The default port of SOCKS proxies (RFC 1928, section 3). For HTTP it is the port of `http` or `https`.
const SOCKS_PORT: u16 = 1080;

/// Why a text is not a proxy. The text may contain a password, so the message does not repeat it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProxyTextError {
    /// It is not an address.
    #[error("not a valid address; write http://HOST:PORT or socks5h://HOST:PORT")]
    Address,
    /// It is an address of another protocol.
    #[error("{0}:// is not supported; use http, https, socks5 or socks5h")]
    Scheme(String),
    /// User or password are not valid text.
    #[error("user and password must be text; percent-encode the characters @ : / % # ?")]
    Credentials,
}

/// Why a connection through the proxy failed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The proxy wants a user and a password.
    #[error(
        "it requires a user and a password ({0}); write USER:PASSWORD into a file and name it with \
         --proxy-credentials-file"
    )]
    CredentialsWanted(String),
    /// The proxy does not accept the user and password.
    #[error(
        "it does not accept the user and password ({0}); correct them in the file of --proxy-credentials-file"
    )]
    CredentialsRefused(String),
    /// The proxy wants a way to authenticate that the agent does not have.
    #[error(
        "it requires {0}, which is not supported; ask the administrator of the proxy to allow Basic \
         authentication, or an exception"
    )]
    Unspoken(String),
    /// The proxy does not allow connections to the target.
    #[error("it refuses to connect to {0} ({1}); ask the administrator of the proxy to allow it")]
    Forbidden(String, String),
    /// The proxy cannot connect to the target.
    #[error("it cannot reach {0} ({1}); check that address, and ask the administrator of the proxy")]
    Unreachable(String, String),
    /// It uses another protocol, or closed the connection.
    #[error(
        "the server there is not a proxy of this kind; check its address, and whether it is HTTP or SOCKS"
    )]
    NotAProxy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// TLS with the proxy itself failed.
    #[error("TLS with the proxy itself failed")]
    Tls(#[source] TlsFailure),
}

impl ProxyError {
    /// Whether another attempt can help only after somebody has changed the configuration or the proxy.
    pub fn needs_change(&self) -> bool {
        match self {
            Self::CredentialsWanted(_) | Self::CredentialsRefused(_) | Self::Unspoken(_) => true,
            Self::Forbidden(..) | Self::Unreachable(..) | Self::NotAProxy(_) | Self::Tls(_) => false,
        }
    }
}

/// User and password for a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Secret,
    password: Secret,
}

impl Credentials {
    /// Parses `user:password`; the user contains no colon (RFC 7617, section 2).
    pub fn parse(text: &Secret) -> Option<Self> {
        let (user, password) = text.reveal().split_once(':')?;
        Some(Self { user: Secret::new(user), password: Secret::new(password) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// CONNECT (RFC 9110, section 9.3.6), over TLS if the proxy's address says `https`.
    Http,
    /// SOCKS5 (RFC 1928); this machine resolves the name and sends an address.
    Socks,
    /// SOCKS5; the proxy resolves the name.
    SocksWithNames,
}

/// A proxy. Shown as its address, without user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    protocol: Protocol,
    target: Target,
    credentials: Option<Credentials>,
}

impl Proxy {
    /// Parses `[http|https|socks5|socks5h]://[USER:PASSWORD@]HOST[:PORT]`; without a scheme it is `http`.
    ///
    /// # Errors
    /// [`ProxyTextError`].
    pub fn parse(text: &Secret) -> Result<Self, ProxyTextError> {
        let text = text.reveal().trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&whole).map_err(|_| ProxyTextError::Address)?;
        let protocol = match url.scheme() {
            "http" | "https" => Protocol::Http,
            "socks5" => Protocol::Socks,
            "socks5h" => Protocol::SocksWithNames,
            other => return Err(ProxyTextError::Scheme(other.to_owned())),
        };
        if url.port_or_known_default().is_none() {
            url.set_port(Some(SOCKS_PORT)).map_err(|()| ProxyTextError::Address)?;
        }
        let target =
            Target::of(&url).filter(|target| !target.host().is_empty()).ok_or(ProxyTextError::Address)?;
        Ok(Self { protocol, target, credentials: credentials(&url)? })
    }

    /// Adds a user and a password to a proxy whose address has none.
    #[must_use]
    pub fn with(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// Whether its address contains a user and a password.
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Host and port of the proxy itself.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether it needs an address, so that names have to be resolved here.
    pub(super) fn wants_address(&self) -> bool {
        matches!(self.protocol, Protocol::Socks)
    }

    /// Lets the proxy connect to `target`, or to the address that was found for it.
    pub(super) async fn pass(
        &self,
        stream: Stream,
        target: &Target,
        address: Option<SocketAddr>,
    ) -> Result<Stream, ProxyError> {
        let credentials = self.credentials.as_ref();
        match self.protocol {
            Protocol::Http => http_connect::pass(stream, target, credentials).await,
            Protocol::Socks | Protocol::SocksWithNames => {
                socks::pass(stream, target, address, credentials).await
            }
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http if self.target.tls().is_some() => "https",
            Protocol::Http => "http",
            Protocol::Socks => "socks5",
            Protocol::SocksWithNames => "socks5h",
        };
        write!(f, "{scheme}://{}", self.target)
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, ProxyTextError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().map_err(|_| ProxyTextError::Credentials)?;
        Ok(Secret::new(text))
    };
    let user = decoded(url.username())?;
    let password = decoded(url.password().unwrap_or_default())?;
    Ok(Some(Credentials { user, password }))
}

#[cfg(test)]
mod tests;
