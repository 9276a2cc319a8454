//! Proxies, HTTP or SOCKS: which one a connection uses, if any, and the way through it.

mod handshake;

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use audiovault_agent_core::secret::Secret;
use audiovault_common::advice::Advice;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Stream, Target, TlsFailure};

/// The default port of SOCKS proxies (RFC 1928, section 3). For HTTP it is the port of `http` or `https`.
const SOCKS_PORT: u16 = 1080;

/// Why a text is not a proxy. The text may contain a password, so the message does not repeat it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProxyTextError {
    /// It is not an address.
    #[error("not a valid address")]
    Address,
    /// It is an address of another protocol.
    #[error("{0}:// is not supported")]
    Scheme(String),
    /// User or password are not valid text.
    #[error("user and password must be text")]
    Credentials,
}

impl Advice for ProxyTextError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Address => "write http://HOST:PORT or socks5h://HOST:PORT".into(),
            Self::Scheme(_) => "use http, https, socks5 or socks5h".into(),
            Self::Credentials => "percent-encode the characters @ : / % # ?".into(),
        })
    }
}

/// Why a connection through the proxy failed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The proxy wants a user and a password.
    #[error("it requires a user and a password ({0})")]
    CredentialsWanted(String),
    /// The proxy does not accept the user and password.
    #[error("it does not accept the user and password ({0})")]
    CredentialsRefused(String),
    /// The proxy wants a way to authenticate that the agent does not have.
    #[error("it requires {0}, which is not supported")]
    Unspoken(String),
    /// The proxy does not allow connections to the target.
    #[error("it refuses to connect to {0} ({1})")]
    Forbidden(String, String),
    /// The proxy cannot connect to the target.
    #[error("it cannot reach {0} ({1})")]
    Unreachable(String, String),
    /// It uses another protocol, or closed the connection.
    #[error("the server there is not a proxy of this kind")]
    NotAProxy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// TLS with the proxy itself failed.
    #[error("TLS with the proxy itself failed")]
    Tls(#[source] TlsFailure),
}

impl Advice for ProxyError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::CredentialsWanted(_) => {
                Some("write USER:PASSWORD into a file and name it with --proxy-credentials-file".into())
            }
            Self::CredentialsRefused(_) => {
                Some("correct them in the file of --proxy-credentials-file".into())
            }
            Self::Unspoken(_) => Some(
                "ask the administrator of the proxy to allow Basic authentication, or an exception".into(),
            ),
            Self::Forbidden(..) => Some("ask the administrator of the proxy to allow it".into()),
            Self::Unreachable(..) => {
                Some("check that address, and ask the administrator of the proxy".into())
            }
            Self::NotAProxy(_) => Some("check its address, and whether it is HTTP or SOCKS".into()),
            Self::Tls(failure) => failure.advice(),
        }
    }
}

impl ProxyError {
    /// Whether another attempt can help only after a change of the configuration or the proxy.
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
            Protocol::Http => handshake::http_connect(stream, target, credentials).await,
            Protocol::Socks | Protocol::SocksWithNames => {
                handshake::socks(stream, target, address, credentials).await
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

/// The proxies, and the hosts that are reached without them.
#[derive(Debug, Clone, Default)]
pub struct ProxyRules {
    chosen: Chosen,
    except: Option<Arc<Matcher>>,
}

#[derive(Debug, Clone, Default)]
enum Chosen {
    #[default]
    NoProxy,
    /// From the configuration of this program: for everything.
    Configured(Box<Proxy>),
    /// From the environment: one for services with TLS, one for those without. Never used for this machine itself,
    /// which a proxy elsewhere cannot reach.
    Environment { secure: Option<Box<Proxy>>, plain: Option<Box<Proxy>> },
}

impl ProxyRules {
    /// No proxy at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// One proxy for everything.
    pub fn configured(proxy: Proxy) -> Self {
        Self { chosen: Chosen::Configured(Box::new(proxy)), except: None }
    }

    /// One proxy for services with TLS, and one for those without; neither is used for loopback addresses.
    pub fn environment(secure: Option<Proxy>, plain: Option<Proxy>) -> Self {
        let secure = secure.map(Box::new);
        let plain = plain.map(Box::new);
        Self { chosen: Chosen::Environment { secure, plain }, except: None }
    }

    /// Hosts that are reached without a proxy, in the format that curl reads from `NO_PROXY`: host names with all
    /// names below them, addresses and networks such as `10.0.0.0/8`, separated by commas or spaces; `*` is every
    /// host.
    #[must_use]
    pub fn except(self, hosts: &str) -> Self {
        let hosts: Vec<&str> = hosts.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty()).collect();
        // The matcher needs a proxy to have a list. Any proxy will do, since only the list is used.
        let matcher = Matcher::builder().all("http://proxy.invalid").no(hosts.join(",")).build();
        Self { except: Some(Arc::new(matcher)), ..self }
    }

    /// The proxy on the way to `target`.
    pub fn choose(&self, target: &Target) -> Option<&Proxy> {
        if self.excepts(target) {
            return None;
        }
        match &self.chosen {
            Chosen::NoProxy => None,
            Chosen::Configured(proxy) => Some(proxy),
            Chosen::Environment { .. } if is_loopback(target.host()) => None,
            Chosen::Environment { secure, plain } => {
                let chosen = if target.tls().is_some() { secure } else { plain };
                chosen.as_deref()
            }
        }
    }

    fn excepts(&self, target: &Target) -> bool {
        let Ok(uri) = format!("http://{target}/").parse::<Uri>() else { return false };
        self.except.as_ref().is_some_and(|matcher| matcher.intercept(&uri).is_none())
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

fn is_loopback(host: &str) -> bool {
    let named = host == "localhost" || host.ends_with(".localhost");
    named || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn proxy(text: &str) -> Proxy {
        Proxy::parse(&Secret::new(text)).unwrap()
    }

    fn target() -> Target {
        Target::of(&Url::parse("wss://relay.example").unwrap()).unwrap()
    }

    /// Sends a request to a proxy that replies `answer` to the first bytes. Also returns those bytes, and the proxy's
    /// end of the stream.
    async fn asked(proxy: &str, answer: &'static [u8]) -> (Result<Stream, ProxyError>, String, DuplexStream) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let proxy = self::proxy(proxy);
        let target = target();
        let heard = async {
            let mut heard = vec![0; 4096];
            let len = theirs.read(&mut heard).await.unwrap();
            theirs.write_all(answer).await.unwrap();
            heard.truncate(len);
            String::from_utf8_lossy(&heard).into_owned()
        };
        let (passed, heard) = tokio::join!(proxy.pass(Box::new(ours), &target, None), heard);
        (passed, heard, theirs)
    }

    async fn refusal(proxy: &str, answer: &'static [u8]) -> ProxyError {
        asked(proxy, answer).await.0.unwrap_err()
    }

    #[tokio::test]
    async fn a_connect_request_has_the_target_and_who_asks_and_then_the_line_is_free() {
        let answer = b"HTTP/1.0 200 Connection established\r\nVia: p\r\n\r\n";
        let (passed, request, mut theirs) = asked("http://maria:p%40ss@p", answer).await;
        let mut stream = passed.unwrap();
        assert!(request.starts_with("CONNECT relay.example:443 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("host: relay.example:443\r\n"), "{request}");
        assert!(request.contains("proxy-authorization: Basic bWFyaWE6cEBzcw==\r\n"), "{request}");
        theirs.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
    }

    #[tokio::test]
    async fn refusals_of_an_http_proxy_are_different_errors_with_its_own_words() {
        let answer =
            b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm=\"x\"\r\ncontent-length: 2\r\n\r\nno";
        let wanted = refusal("http://p", answer).await;
        assert!(
            matches!(&wanted, ProxyError::CredentialsWanted(words) if words == "407 Who are you?"),
            "{wanted:?}"
        );
        let refused = refusal("http://maria:s3cr3t@p", answer).await;
        assert!(matches!(&refused, ProxyError::CredentialsRefused(words) if words == "407 Who are you?"));
        let tinyproxy = refusal("http://maria:s3cr3t@p", b"HTTP/1.0 401 Unauthorized\r\n\r\n").await;
        assert!(matches!(&tinyproxy, ProxyError::CredentialsRefused(words) if words == "401 Unauthorized"));
        let ntlm = b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        let unspoken = refusal("http://maria:s3cr3t@p", ntlm).await;
        assert!(matches!(&unspoken, ProxyError::Unspoken(schemes) if schemes == "NTLM or Negotiate"));
        assert!([wanted, refused, unspoken].iter().all(ProxyError::needs_change));
        let forbidden = refusal("http://p", b"HTTP/1.1 403 Filtered\r\ncontent-length: 0\r\n\r\n").await;
        assert!(forbidden.to_string().contains("relay.example:443 (403 Filtered)"), "{forbidden}");
        let gateway = refusal("http://p", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(&gateway, ProxyError::Unreachable(_, words) if words == "502 Bad Gateway"));
        assert!(!forbidden.needs_change() && !gateway.needs_change());
    }

    #[tokio::test]
    async fn a_server_that_is_no_proxy_has_its_own_error() {
        for (proxy, answer) in [
            ("http://p", &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..]),
            ("http://p", b"HTTP/1.1 200 OK\r\n\r\nand more"),
            ("socks5h://p", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ] {
            let error = refusal(proxy, answer).await;
            assert!(matches!(error, ProxyError::NotAProxy(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn refusals_of_a_socks_proxy_are_different_errors() {
        let method = refusal("socks5h://p", b"\x05\xff").await;
        assert!(matches!(method, ProxyError::CredentialsWanted(_)), "{method:?}");
        let password = refusal("socks5h://maria:s3cr3t@p", b"\x05\x02\x01\x01").await;
        assert!(matches!(password, ProxyError::CredentialsRefused(_)), "{password:?}");
        let rules = refusal("socks5h://p", b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0").await;
        assert!(matches!(rules, ProxyError::Forbidden(..)), "{rules:?}");
        let closed = refusal("socks5h://p", b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0").await;
        assert!(closed.to_string().contains("relay.example:443 (SOCKS: connection refused)"), "{closed}");
        assert!(password.needs_change() && !closed.needs_change());
    }

    #[test]
    fn neither_address_nor_debug_shows_a_password() {
        let proxy = proxy("socks5://maria:s3cr3t@proxy.example");
        let shown = format!("{proxy} {proxy:?}");
        assert!(shown.starts_with("socks5://proxy.example:1080 "), "{shown}");
        assert!(!shown.contains("maria") && !shown.contains("s3cr3t"), "{shown}");
    }
}
