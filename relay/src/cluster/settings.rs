//! Settings of a relay that is part of a cluster.

use std::net::SocketAddr;

use audiovault_common::tls::CertificateFiles;
use url::Url;

use super::ClusterKey;

/// Checked settings of a relay that is part of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The address under which the peer relays reach this relay.
    pub url: Url,
    /// The address on which it listens for them.
    pub bind: SocketAddr,
    /// The key by which the relays prove who they are.
    pub key: ClusterKey,
    /// The certificate by which they prove it in the TLS handshake. It was usable when the configuration was checked.
    pub tls: Option<CertificateFiles>,
}
