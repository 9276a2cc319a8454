//! The service to connect to, and the stages on the way to it, each as a separate step.

use std::{fmt, net::SocketAddr, sync::Arc};

use audiovault_protocol::link::{Counted, Traffic};
use rustls::ProtocolVersion;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use url::{Host, Url};

use super::{
    Attempts, Certificate, DnsError, Proxy, ProxyError, ReachError, STAGE_TIMEOUT, Stage, Stream, resolve,
    tcp::{self, Uplink},
    tls::{self, Clock, Trust},
};

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

/// The route to one service.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    trust: &'a Trust,
    target: &'a Target,
    proxy: Option<&'a Proxy>,
    clock: Clock,
}

/// The addresses of the names on the route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The addresses to connect to: those of the proxy, or without a proxy those of the service.
    pub hop: Vec<SocketAddr>,
    /// The address of the service that is sent to the proxy, if the proxy needs one.
    pub beyond: Option<SocketAddr>,
}

/// A TCP connection.
#[derive(Debug)]
pub struct Connected {
    /// The connection; its bytes are counted.
    pub stream: Stream,
    /// The number of bytes that were transferred.
    pub traffic: Arc<Traffic>,
    /// The address that answered first.
    pub address: SocketAddr,
    /// The addresses that had failed before.
    pub failed: Attempts,
}

/// A connection to a service, ready to use.
#[derive(Debug)]
pub struct Reached {
    /// The connection; bytes are counted below TLS.
    pub stream: Stream,
    /// The number of bytes that were transferred.
    pub traffic: Arc<Traffic>,
    /// The address of the TCP connection.
    pub address: SocketAddr,
    /// The certificates that were presented, the server's own first; empty without TLS.
    pub certificates: Vec<Certificate>,
    /// The version of TLS, such as `TLSv1_3`; `None` without TLS.
    pub tls_version: Option<ProtocolVersion>,
}

impl<'a> Route<'a> {
    pub(super) fn new(trust: &'a Trust, target: &'a Target, proxy: Option<&'a Proxy>) -> Self {
        Self { trust, target, proxy, clock: Clock::Machine }
    }

    /// The same route, but the certificate of the service is accepted at any time. No secret may be sent on it.
    #[must_use]
    pub fn at_any_time(self) -> Self {
        Self { clock: Clock::Ignored, ..self }
    }

    /// The proxy on the route.
    pub fn proxy(&self) -> Option<&'a Proxy> {
        self.proxy
    }

    /// Stage [`Stage::Dns`]: looks the addresses up, without a cache.
    ///
    /// # Errors
    /// [`ReachError::Dns`].
    pub async fn resolve(&self) -> Result<Addresses, ReachError> {
        let hop = self.lookup(self.hop(), self.is_proxy()).await?;
        let beyond = match self.proxy {
            Some(proxy) if proxy.wants_address() => {
                let found = self.lookup(self.target, "").await?;
                // A proxy with IPv6 has IPv4 too, but a proxy with IPv4 may not have IPv6.
                found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
            }
            Some(_) | None => None,
        };
        Ok(Addresses { hop, beyond })
    }

    /// Stage [`Stage::Tcp`]: connects to the address that answers first.
    ///
    /// # Errors
    /// [`ReachError::Tcp`], or a timeout if no address answered.
    pub async fn connect(&self, addresses: &Addresses) -> Result<Connected, ReachError> {
        let (tcp, address, failed) = match tcp::connect(&addresses.hop, STAGE_TIMEOUT).await {
            Ok(connected) => connected,
            Err(failed) if failed.all_silent() => return Err(self.late(Stage::Tcp)),
            Err(failed) => return Err(ReachError::Tcp(self.hop_name(), failed)),
        };
        let traffic = Arc::new(Traffic::default());
        let stream = Box::new(Counted::new(Uplink::new(tcp, Arc::clone(&traffic)), Arc::clone(&traffic)));
        Ok(Connected { stream, traffic, address, failed })
    }

    /// Stage [`Stage::Proxy`]: lets the proxy, if there is one, connect to the service.
    ///
    /// # Errors
    /// [`ReachError::Proxy`], or a timeout.
    pub async fn pass_proxy(
        &self,
        connected: Connected,
        addresses: &Addresses,
    ) -> Result<Connected, ReachError> {
        let Some(proxy) = self.proxy else { return Ok(connected) };
        let Connected { stream, traffic, address, failed } = connected;
        let pass = async {
            let stream = match proxy.target().tls() {
                Some(name) => {
                    let secured = tls::handshake(self.trust, name.clone(), stream, Clock::Machine).await;
                    Box::new(secured.map_err(ProxyError::Tls)?.0)
                }
                None => stream,
            };
            proxy.pass(stream, self.target, addresses.beyond).await
        };
        let passed = self.within(Stage::Proxy, pass).await?;
        let stream = passed.map_err(|error| ReachError::Proxy(proxy.to_string(), error))?;
        Ok(Connected { stream, traffic, address, failed })
    }

    /// Stage [`Stage::Tls`]: does the TLS handshake, if the service uses TLS.
    ///
    /// # Errors
    /// [`ReachError::Tls`], or a timeout.
    pub async fn secure(&self, connected: Connected) -> Result<Reached, ReachError> {
        let Connected { stream, traffic, address, .. } = connected;
        let Some(name) = self.target.tls() else {
            return Ok(Reached { stream, traffic, address, certificates: Vec::new(), tls_version: None });
        };
        let handshake = tls::handshake(self.trust, name.clone(), stream, self.clock);
        let (stream, certificates) = self
            .within(Stage::Tls, handshake)
            .await?
            .map_err(|failure| ReachError::Tls(self.target.to_string(), failure))?;
        let tls_version = stream.get_ref().1.protocol_version();
        Ok(Reached { stream: Box::new(stream), traffic, address, certificates, tls_version })
    }

    async fn lookup(&self, target: &Target, whose: &str) -> Result<Vec<SocketAddr>, ReachError> {
        let found = timeout(STAGE_TIMEOUT, resolve(target.host())).await;
        let found = found.unwrap_or(Err(DnsError::Silent));
        let found = found.map_err(|error| ReachError::Dns(format!("{whose}{}", target.host()), error))?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, target.port())).collect())
    }

    /// The host to which this machine itself connects.
    fn hop(&self) -> &'a Target {
        self.proxy.map_or(self.target, Proxy::target)
    }

    fn hop_name(&self) -> String {
        format!("{}{}", self.is_proxy(), self.hop())
    }

    fn is_proxy(&self) -> &'static str {
        if self.proxy.is_some() { "the proxy " } else { "" }
    }

    async fn within<T>(&self, stage: Stage, work: impl Future<Output = T>) -> Result<T, ReachError> {
        timeout(STAGE_TIMEOUT, work).await.map_err(|_| self.late(stage))
    }

    fn late(&self, stage: Stage) -> ReachError {
        let host = match stage {
            Stage::Dns | Stage::Tcp | Stage::Proxy => self.hop_name(),
            Stage::Tls => self.target.to_string(),
        };
        ReachError::Timeout { stage, host, limit: STAGE_TIMEOUT }
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
