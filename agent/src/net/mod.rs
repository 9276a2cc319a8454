//! The way from this machine to a service: name, TCP, proxy, TLS. [`Outbound::reach`] goes through all stages; with a
//! [`Route`], each stage can be done and reported separately.

mod dns;
mod error;
mod proxy;
mod route;
mod tcp;
mod tls;

use std::{fmt, path::PathBuf, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

use self::tls::Trust;
pub use self::{
    dns::{DnsError, resolve},
    error::{ReachError, Stage},
    proxy::{Credentials, Proxy, ProxyError, ProxyRules, ProxyTextError},
    route::{Addresses, Connected, Reached, Route, Target},
    tcp::{Attempt, Attempts},
    tls::{Certificate, TlsFailure, TrustError, is_publicly_signed},
};

/// How long each stage may take.
pub const STAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of bytes in both directions: TCP, or TLS over TCP.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Connection for T {}

/// Any connection.
pub type Stream = Box<dyn Connection>;

/// The network settings.
#[derive(Debug, Clone, Default)]
pub struct NetworkSettings {
    /// Which proxy a connection uses.
    pub proxies: ProxyRules,
    /// PEM file with the certificate authorities to trust instead of the machine's own.
    pub cacert: Option<PathBuf>,
}

/// Connects to services. Created once from the network settings.
#[derive(Debug, Clone)]
pub struct Outbound {
    trust: Trust,
    proxies: ProxyRules,
}

impl Outbound {
    /// Reads the certificate authorities.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(settings: &NetworkSettings) -> Result<Self, TrustError> {
        Ok(Self { trust: Trust::new(settings.cacert.as_deref())?, proxies: settings.proxies.clone() })
    }

    /// The route to a service.
    pub fn route<'a>(&'a self, target: &'a Target) -> Route<'a> {
        Route::new(&self.trust, target, self.proxies.choose(target))
    }

    /// Goes through all stages to a service, each within [`STAGE_TIMEOUT`].
    ///
    /// # Errors
    /// [`ReachError`] of the stage that failed.
    pub async fn reach(&self, target: &Target) -> Result<Reached, ReachError> {
        let route = self.route(target);
        let addresses = route.resolve().await?;
        let connected = route.connect(&addresses).await?;
        let passed = route.pass_proxy(connected, &addresses).await?;
        route.secure(passed).await
    }
}

#[cfg(test)]
mod tests;
