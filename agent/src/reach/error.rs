//! What went wrong on the way, by the stage at which it did.

use std::{fmt, time::Duration};

use super::{Attempts, DnsError, ProxyError, TlsFailure};

/// A part of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A name becomes addresses.
    Dns,
    /// An address is connected to.
    Tcp,
    /// The proxy is asked to connect further.
    Proxy,
    /// TLS with the service.
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

/// Why something is not reached. Hosts are shown as `HOST:PORT`.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The name has no address.
    #[error("cannot find the address of {0}")]
    Dns(String, #[source] DnsError),
    /// No address can be connected to.
    #[error("cannot reach {0}; check the address, and that a firewall lets this machine connect to it")]
    Tcp(String, #[source] Attempts),
    /// The proxy does not let the connection through.
    #[error("no way through the proxy {0}")]
    Proxy(String, #[source] ProxyError),
    /// TLS failed.
    #[error("no TLS with {0}")]
    Tls(String, #[source] TlsFailure),
    /// A stage took too long.
    #[error("{host} does not answer: {stage} took more than {} s; check the address and the firewalls", limit.as_secs())]
    Timeout {
        /// Which.
        stage: Stage,
        /// With whom.
        host: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

impl ReachError {
    /// The stage at which the way ended.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Dns(..) => Stage::Dns,
            Self::Tcp(..) => Stage::Tcp,
            Self::Proxy(..) => Stage::Proxy,
            Self::Tls(..) => Stage::Tls,
            Self::Timeout { stage, .. } => *stage,
        }
    }

    /// Whether somebody has answered, and said no; silence and dead ways are no answers.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Tcp(_, attempts) => attempts.all_refused(),
            Self::Proxy(..) | Self::Tls(..) => true,
            Self::Dns(..) | Self::Timeout { .. } => false,
        }
    }

    /// Whether it takes somebody to change something before another attempt can help.
    pub fn needs_change(&self) -> bool {
        match self {
            Self::Proxy(_, error) => error.needs_change(),
            Self::Dns(..) | Self::Tcp(..) | Self::Tls(..) | Self::Timeout { .. } => false,
        }
    }
}
