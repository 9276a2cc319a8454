//! Settings of a relay that is one of several.

use std::net::SocketAddr;

use url::Url;

use super::ClusterKey;
use crate::net::listen::CertificateFiles;

/// Checked settings of a relay that is one of several.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Where the other relays reach this one.
    pub url: Url,
    /// Where it listens for them.
    pub bind: SocketAddr,
    /// By which they know each other.
    pub key: ClusterKey,
    /// By which they do so before anything is said, with TLS; usable when the configuration was checked.
    pub tls: Option<CertificateFiles>,
}
