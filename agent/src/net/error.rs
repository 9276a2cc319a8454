//! Why a service cannot be reached, by the stage that failed.

use std::{borrow::Cow, fmt, time::Duration};

use audiovault_common::advice::Advice;

use super::{Attempts, DnsError, ProxyError, TlsFailure};

/// A stage on the way to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A name is resolved to addresses.
    Dns,
    /// TCP connects to an address.
    Tcp,
    /// The proxy connects to the service.
    Proxy,
    /// The TLS handshake with the service.
    Tls,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "the name service",
            Self::Tcp => "the connection",
            Self::Proxy => "the proxy's answer",
            Self::Tls => "the TLS handshake",
        })
    }
}

/// Why a service cannot be reached. Hosts are shown as `HOST:PORT`.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The name has no address.
    #[error("cannot find the address of {0}")]
    Dns(String, #[source] DnsError),
    /// No address can be connected to.
    #[error("cannot reach {0}")]
    Tcp(String, #[source] Attempts),
    /// The proxy does not let the connection through.
    #[error("cannot connect through the proxy {0}")]
    Proxy(String, #[source] ProxyError),
    /// TLS failed.
    #[error("TLS with {0} failed")]
    Tls(String, #[source] TlsFailure),
    /// A stage took too long.
    #[error("{host} does not respond: {stage} took more than {} s", limit.as_secs())]
    Timeout {
        /// The stage.
        stage: Stage,
        /// The host of this stage.
        host: String,
        /// How long it was allowed to take.
        limit: Duration,
    },
}

impl Advice for ReachError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Dns(_, error) => error.advice(),
            Self::Tcp(..) => Some("check the address, and whether a firewall blocks the connection".into()),
            Self::Proxy(_, error) => error.advice(),
            Self::Tls(_, failure) => failure.advice(),
            Self::Timeout { .. } => Some("check the address and the firewalls".into()),
        }
    }
}

impl ReachError {
    /// The stage that failed.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Dns(..) => Stage::Dns,
            Self::Tcp(..) => Stage::Tcp,
            Self::Proxy(..) => Stage::Proxy,
            Self::Tls(..) => Stage::Tls,
            Self::Timeout { stage, .. } => *stage,
        }
    }

    /// Whether the other side answered and refused. A timeout or an unreachable address is not an answer.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Tcp(_, attempts) => attempts.all_refused(),
            Self::Proxy(..) | Self::Tls(..) => true,
            Self::Dns(..) | Self::Timeout { .. } => false,
        }
    }

    /// Whether another attempt can help only after a change of the configuration or the proxy.
    pub fn needs_change(&self) -> bool {
        match self {
            Self::Proxy(_, error) => error.needs_change(),
            Self::Dns(..) | Self::Tcp(..) | Self::Tls(..) | Self::Timeout { .. } => false,
        }
    }
}
