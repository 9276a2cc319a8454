//! Checks the settings of a relay in a cluster.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use audiovault_common::tls::CertificateFiles;
use url::{Host, Url};

use super::{ConfigError, address, invalid};
use crate::{app::config::settings::ServeArgs, cluster::settings::ClusterConfig, store::DatabaseUrl};

pub(super) fn check(args: &ServeArgs, database: &DatabaseUrl) -> Result<Option<ClusterConfig>, ConfigError> {
    let (text, key) = match (&args.node_url, &args.cluster_key) {
        (None, None) if args.node_bind.is_none() && !has_certificate(args) => return Ok(None),
        (None, _) => return Err(ConfigError::IncompleteCluster("--node-url")),
        (_, None) => return Err(ConfigError::IncompleteCluster("AUDIOVAULT_RELAY_CLUSTER_KEY")),
        (Some(text), Some(key)) => (text, key.clone()),
    };
    if !matches!(database, DatabaseUrl::Postgres(_)) {
        return Err(ConfigError::ClusterOnFile);
    }
    let wrong = || invalid("--node-url", text, &"expected an address such as http://10.0.0.5:8091");
    let url = Url::parse(text.trim()).map_err(|_| wrong())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { return Err(wrong()) };
    let tls = match url.scheme() {
        "https" => Some(certificate(args)?),
        "http" if has_certificate(args) => {
            return Err(ConfigError::IncompleteNodeTls("https:// in --node-url"));
        }
        "http" => None,
        _ => return Err(wrong()),
    };
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    let ip = match host {
        Host::Ipv4(ip) => IpAddr::V4(ip),
        Host::Ipv6(ip) => IpAddr::V6(ip),
        Host::Domain(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let bind = match &args.node_bind {
        Some(text) => address("--node-bind", text)?,
        None => SocketAddr::new(ip, port),
    };
    Ok(Some(ClusterConfig { url, bind, key, tls }))
}

fn has_certificate(args: &ServeArgs) -> bool {
    [&args.node_tls_cert, &args.node_tls_key, &args.node_tls_ca].into_iter().any(Option::is_some)
}

/// The certificate that this relay shows to peer relays, and the CA that must have signed theirs.
fn certificate(args: &ServeArgs) -> Result<CertificateFiles, ConfigError> {
    let given = |file: &Option<PathBuf>, flag| file.clone().ok_or(ConfigError::IncompleteNodeTls(flag));
    let files = CertificateFiles {
        certificate: given(&args.node_tls_cert, "--node-tls-cert")?,
        key: given(&args.node_tls_key, "--node-tls-key")?,
        authority: Some(given(&args.node_tls_ca, "--node-tls-ca")?),
    };
    files.load().map_err(ConfigError::NodeCertificate)?;
    Ok(files)
}
