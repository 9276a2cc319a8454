//! Turns the settings into a checked configuration, which is not checked again afterwards.

mod records;
pub mod settings;
mod tls;

use std::{
    env,
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    slice,
    time::Duration,
};

use audiovault_common::about::ShownVersion;
use audiovault_common::{
    logging::{LogConfig, LogFormat},
    settings::OfSetting,
    tls::{CertificateError, CertificateFiles},
};
use bytesize::ByteSize;
use clap::ValueEnum;
use http::HeaderValue;
use ipnet::IpNet;
use url::{Host, Url};
use zeroize::Zeroizing;

use self::settings::ServeArgs;
pub use self::{
    records::{AlertConfig, RecordsConfig},
    tls::{AdminListener, Hsts, TlsListener},
};
pub use crate::net::public_url::{PublicUrl, PublicUrlError};
use crate::{
    cluster::{ClusterConfig, ShortKey},
    limits::{LimitsConfig, SiteMaximum},
    public::AllowOrigin,
    store::{DatabaseUrl, DatabaseUrlError, without_passwords},
};

/// Address for plain HTTP if no listener is configured. The port needs no privileges. It listens on all addresses,
/// because a relay that cannot be reached is of no use.
pub const DEFAULT_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// The environment variable with the secret that the relays of a cluster share.
const CLUSTER_KEY: &str = "AUDIOVAULT_RELAY_CLUSTER_KEY";
/// Default address for health, metrics and the dashboard: reachable only from this machine.
pub const DEFAULT_ADMIN_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);
/// Default time for running downloads to end when the relay stops: at any usual rate, a recording of one hour needs
/// less.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a relay cannot start with these settings. The operator has to change one of them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting without default is missing.
    #[error("{flag} is required: set the flag, {env}, or the key {key} in the file of --config")]
    Missing {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The environment variable.
        env: &'static str,
        /// The key in the configuration file.
        key: &'static str,
    },
    /// A setting cannot be parsed.
    #[error("{flag}: {value:?}: {reason}")]
    Invalid {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The value that was given.
        value: String,
        /// What was expected.
        reason: String,
    },
    /// TLS needs all of its settings or none.
    #[error("--tls-bind, --tls-cert and --tls-key belong together: {0} is missing")]
    IncompleteTls(&'static str),
    /// ACME needs all of its settings or none.
    #[error("--tls-bind, --acme-domain, --acme-email and --acme-cache belong together: {0} is missing")]
    IncompleteAcme(&'static str),
    /// Two sources of one certificate are configured.
    #[error("--tls-cert and --acme-domain exclude each other: use one of them")]
    TwoCertificates,
    /// The certificate cannot be loaded.
    #[error("cannot use the certificate of --tls-cert")]
    Certificate(#[from] CertificateError),
    /// Alerts need all of their settings or none.
    #[error("--alert-webhook and --alert-secret-file belong together: {0} is missing")]
    IncompleteAlerts(&'static str),
    /// A file that a setting names cannot be read.
    #[error("{flag}: cannot read {}: check the path and its permissions", path.display())]
    Unreadable {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// TLS of the admin listener needs all of its settings or none.
    #[error("--admin-tls-cert and --admin-tls-key belong together: {0} is missing")]
    IncompleteAdminTls(&'static str),
    /// Passwords and sessions would be sent unencrypted over a network.
    #[error(
        "--admin-bind {0} can be reached from other machines, but the admin listener has no TLS, so passwords would \
         be sent unencrypted; set --admin-tls-cert and --admin-tls-key, or listen on 127.0.0.1 and use an SSH tunnel \
         or a proxy that terminates TLS; on a private network, --admin-allow-plaintext allows it"
    )]
    AdminInTheClear(SocketAddr),
    /// The certificate of the admin listener cannot be loaded.
    #[error("cannot use the certificate of --admin-tls-cert")]
    AdminCertificate(#[source] CertificateError),
    /// A cluster needs all of its settings or none.
    #[error("--node-url and AUDIOVAULT_RELAY_CLUSTER_KEY belong together: {0} is missing")]
    IncompleteCluster(&'static str),
    /// TLS between relays needs all of its settings or none.
    #[error(
        "--node-tls-cert, --node-tls-key, --node-tls-ca and https:// in --node-url belong together: {0} is missing"
    )]
    IncompleteNodeTls(&'static str),
    /// The certificate for peer relays cannot be loaded.
    #[error("cannot use the certificate of --node-tls-cert")]
    NodeCertificate(#[source] CertificateError),
    /// The database is a SQLite file, which several relays cannot share.
    #[error(
        "--node-url is for relays that share a database: set --database to postgres://USER@HOST/DATABASE"
    )]
    ClusterOnFile,
    /// The key of the cluster is too weak. The error does not repeat it.
    #[error("AUDIOVAULT_RELAY_CLUSTER_KEY: {0}")]
    ClusterKey(ShortKey),
}

impl OfSetting for ConfigError {
    fn flags(&self) -> &[&'static str] {
        match self {
            Self::Invalid { flag, .. } | Self::Unreadable { flag, .. } => slice::from_ref(flag),
            Self::Certificate(_) => &["tls-cert"],
            Self::AdminInTheClear(_) => &["admin-bind"],
            Self::AdminCertificate(_) => &["admin-tls-cert"],
            Self::NodeCertificate(_) => &["node-tls-cert"],
            Self::ClusterOnFile => &["database"],
            Self::Missing { .. }
            | Self::IncompleteTls(_)
            | Self::IncompleteAcme(_)
            | Self::TwoCertificates
            | Self::IncompleteAlerts(_)
            | Self::IncompleteAdminTls(_)
            | Self::IncompleteCluster(_)
            | Self::IncompleteNodeTls(_)
            | Self::ClusterKey(_) => &[],
        }
    }
}

/// The checked configuration of `serve`.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Address for plain HTTP. At least one of this and [`ServeConfig::tls`] is set. Port 0 means any free port.
    pub plain: Option<SocketAddr>,
    /// The listener that serves the same routes over TLS.
    pub tls: Option<TlsListener>,
    /// The public address of the relay, for links and agents.
    pub public_url: PublicUrl,
    /// The database.
    pub database: DatabaseUrl,
    /// The listener for operators.
    pub admin: AdminListener,
    /// For how long browsers use only TLS.
    pub hsts: Hsts,
    /// Whether the metrics for Prometheus can be read without a login.
    pub metrics_public: bool,
    /// The proxies whose headers about their clients are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// What the landing page shows of this program's version.
    pub shown_version: ShownVersion,
    /// The web pages that may play recordings.
    pub allow_origin: AllowOrigin,
    /// Whether searches by GET are answered. Their tokens end up in the logs of proxies.
    pub search_by_get: bool,
    /// The format and level of the log.
    pub log: LogConfig,
    /// How long running downloads may take to end after the relay was asked to stop.
    pub drain_timeout: Duration,
    /// Limits for one client, for one site, and for all together.
    pub limits: LimitsConfig,
    /// Settings of the audit log, alerts and metrics.
    pub records: RecordsConfig,
    /// Settings of the cluster, if the relay is in one.
    pub cluster: Option<ClusterConfig>,
}

impl ServeConfig {
    /// Checks everything, including that the certificate can be loaded.
    ///
    /// # Errors
    /// [`ConfigError`], the first one found.
    pub fn load(mut args: ServeArgs) -> Result<Self, ConfigError> {
        // The secret has no flag: every user of the machine can see the arguments of a process.
        if let Some(key) = env::var(CLUSTER_KEY).ok().map(Zeroizing::new).filter(|key| !key.trim().is_empty())
        {
            args.cluster_key = Some(key.parse().map_err(ConfigError::ClusterKey)?);
        }
        for list in
            [&mut args.acme_domain, &mut args.admin_host, &mut args.trusted_proxy, &mut args.allow_origin]
        {
            *list = without_blanks(list.take());
        }
        let limits = check_limits(&args)?;
        let records = RecordsConfig::check(&args)?;
        let tls = TlsListener::check(&args)?;
        let admin = AdminListener::check(&args)?;
        let public_url = required(args.public_url.clone(), "--public-url", "AUDIOVAULT_RELAY_PUBLIC_URL")?;
        let database = required(args.database.clone(), "--database", "AUDIOVAULT_RELAY_DATABASE")?;
        let database: DatabaseUrl = database.parse().map_err(|error: DatabaseUrlError| {
            invalid("--database", &without_passwords(&database), &error)
        })?;
        let cluster = check_cluster(&args, &database)?;
        let plain = match args.bind {
            Some(text) => Some(address("--bind", &text)?),
            None if tls.is_none() => Some(DEFAULT_BIND),
            None => None,
        };
        let public_url: PublicUrl = public_url
            .parse()
            .map_err(|error: PublicUrlError| invalid("--public-url", &public_url, &error))?;
        let hsts = Hsts::check(args.hsts_max_age.as_deref(), &public_url, tls.as_ref())?;
        Ok(Self {
            plain,
            tls,
            cluster,
            public_url,
            hsts,
            database,
            admin,
            metrics_public: truth("--metrics-public", args.metrics_public.as_deref(), false)?,
            shown_version: match truth("--hide-version", args.hide_version.as_deref(), false)? {
                true => ShownVersion::Hidden,
                false => ShownVersion::Shown,
            },
            trusted_proxies: args
                .trusted_proxy
                .unwrap_or_default()
                .iter()
                .map(|text| network(text))
                .collect::<Result<_, _>>()?,
            allow_origin: allow_origin(&args.allow_origin.unwrap_or_default())?,
            search_by_get: truth("--search-by-get", args.search_by_get.as_deref(), true)?,
            log: log(args.log_format.as_deref(), args.log_level.as_deref())?,
            drain_timeout: duration("--drain-timeout", args.drain_timeout.as_deref(), DEFAULT_DRAIN_TIMEOUT)?,
            limits,
            records,
        })
    }
}

/// The list without blank items. A list of nothing else is absent.
fn without_blanks(list: Option<Vec<String>>) -> Option<Vec<String>> {
    let items: Vec<String> = list?.into_iter().filter(|item| !item.trim().is_empty()).collect();
    (!items.is_empty()).then_some(items)
}

fn invalid(flag: &'static str, value: &str, reason: &dyn ToString) -> ConfigError {
    ConfigError::Invalid { flag, value: value.to_owned(), reason: reason.to_string() }
}

fn required(value: Option<String>, flag: &'static str, env: &'static str) -> Result<String, ConfigError> {
    value.ok_or(ConfigError::Missing { flag, env, key: flag.trim_start_matches('-') })
}

fn duration(flag: &'static str, text: Option<&str>, default: Duration) -> Result<Duration, ConfigError> {
    let parse = |text: &str| humantime::parse_duration(text).map_err(|error| invalid(flag, text, &error));
    text.map_or(Ok(default), parse)
}

fn truth(flag: &'static str, text: Option<&str>, default: bool) -> Result<bool, ConfigError> {
    match text.map(str::trim) {
        None => Ok(default),
        Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(invalid(flag, other, &"expected true or false")),
    }
}

fn address(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.trim().parse().map_err(|_| {
        invalid(flag, text, &"expected an address and a port, such as 127.0.0.1:8080 or [::]:8080")
    })
}

fn network(text: &str) -> Result<IpNet, ConfigError> {
    let text = text.trim();
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        invalid("--trusted-proxy", text, &"expected an address or a network, such as 10.0.0.0/8")
    })
}

fn allow_origin(origins: &[String]) -> Result<AllowOrigin, ConfigError> {
    if origins.is_empty() || origins.iter().any(|origin| origin.trim() == "*") {
        return Ok(AllowOrigin::Any);
    }
    let check = |text: &String| {
        let wrong =
            || invalid("--allow-origin", text, &"expected * or an origin, such as https://qm.example.com");
        let url = Url::parse(text.trim()).map_err(|_| wrong())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.origin().is_tuple() {
            return Err(wrong());
        }
        HeaderValue::try_from(url.origin().ascii_serialization()).map_err(|_| wrong())
    };
    Ok(AllowOrigin::List(origins.iter().map(check).collect::<Result<_, _>>()?))
}

fn log(format: Option<&str>, level: Option<&str>) -> Result<LogConfig, ConfigError> {
    let format = match format {
        None => LogFormat::Text,
        Some(name) => LogFormat::from_str(name, false)
            .map_err(|_| invalid("--log-format", name, &"expected text or json"))?,
    };
    let level = level.unwrap_or("info");
    LogConfig::new(format, level).map_err(|error| invalid("--log-level", level, &error))
}

/// Checks the settings of a relay in a cluster.
fn check_cluster(args: &ServeArgs, database: &DatabaseUrl) -> Result<Option<ClusterConfig>, ConfigError> {
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

/// The smallest memory budget for running downloads: that of one tunnel.
const MIN_MEMORY_BUDGET: u64 = audiovault_protocol::limits::TUNNEL_WINDOW_BUDGET;

/// Checks the settings of the limits.
fn check_limits(args: &ServeArgs) -> Result<LimitsConfig, ConfigError> {
    let default = LimitsConfig::default();
    Ok(LimitsConfig {
        max_connections: count("--max-connections", &args.max_connections, default.max_connections)?,
        max_client_connections: count(
            "--max-client-connections",
            &args.max_client_connections,
            default.max_client_connections,
        )?,
        max_client_requests: count(
            "--max-client-requests",
            &args.max_client_requests,
            default.max_client_requests,
        )?,
        max_site_requests: count("--max-site-requests", &args.max_site_requests, default.max_site_requests)?,
        site_maximum: SiteMaximum {
            tunnels: count("--max-site-tunnels", &args.max_site_tunnels, default.site_maximum.tunnels)?,
            agents: count("--max-site-agents", &args.max_site_agents, default.site_maximum.agents)?,
        },
        memory_budget: memory(&args.memory_budget, default.memory_budget)?,
        accept_rate: count("--accept-rate", &args.accept_rate, default.accept_rate)?,
    })
}

fn count(flag: &'static str, given: &Option<String>, default: u32) -> Result<u32, ConfigError> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |reason: &dyn Display| invalid(flag, text, &format!("expected a number from 1: {reason}"));
    match text.trim().parse() {
        Ok(0) => Err(wrong(&"0 would refuse everything")),
        Ok(number) => Ok(number),
        Err(error) => Err(wrong(&error)),
    }
}

fn memory(given: &Option<String>, default: u64) -> Result<u64, ConfigError> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |reason: &str| {
        invalid("--memory-budget", text, &format!("expected a size such as 512MiB or 2GiB: {reason}"))
    };
    let ByteSize(bytes) = text.trim().parse().map_err(|error: String| wrong(&error))?;
    if bytes < MIN_MEMORY_BUDGET {
        return Err(wrong(&format!("one tunnel alone needs {}", ByteSize(MIN_MEMORY_BUDGET))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
