//! From settings as written to a configuration that holds: checked once, trusted afterwards.

mod cluster;
mod file;
mod hsts;
mod limits;
mod records;
pub mod settings;
mod tls;

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use audiovault_protocol::about::ShownVersion;
use http::HeaderValue;
use ipnet::IpNet;
use url::Url;
use zeroize::Zeroizing;

pub use self::{
    file::FileError,
    hsts::Hsts,
    records::{AlertConfig, RecordsConfig},
    tls::{AdminListener, TlsListener},
};
pub use crate::net::public_url::{PublicUrl, PublicUrlError};
use crate::{
    app::{
        config::settings::ServeArgs,
        logging::{LogConfig, LogFormat},
    },
    cluster::{ShortKey, settings::ClusterConfig},
    limits::settings::LimitsConfig,
    net::listen::CertificateError,
    public::cors::AllowOrigin,
    store::{DatabaseUrl, DatabaseUrlError, without_passwords},
};

/// Where plain HTTP is served when no listener is asked for: a port that needs no privilege, on all addresses,
/// because a relay that nobody reaches is of no use.
pub const DEFAULT_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// The variable with the secret that the relays of a cluster share.
const CLUSTER_KEY: &str = "AUDIOVAULT_RELAY_CLUSTER_KEY";
/// Where health and status are served by default: for this machine alone.
pub const DEFAULT_ADMIN_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);
/// How long running downloads may take to end by default: a recording of an hour needs less at any usual rate.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a relay cannot start with these settings. The operator has to change one of them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting without default is missing.
    #[error("{flag} is required: give the flag, {env} or the key {key} in the file of --config")]
    Missing {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The variable.
        env: &'static str,
        /// The key in the file.
        key: &'static str,
    },
    /// A setting cannot be understood.
    #[error("{flag}: {value:?}: {reason}")]
    Invalid {
        /// The flag, with its dashes.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What was expected.
        reason: String,
    },
    /// Settings of TLS come together or not at all.
    #[error("--tls-bind, --tls-cert and --tls-key belong together: {0} is missing")]
    IncompleteTls(&'static str),
    /// Settings of ACME come together or not at all.
    #[error("--tls-bind, --acme-domain, --acme-email and --acme-cache belong together: {0} is missing")]
    IncompleteAcme(&'static str),
    /// There are two sources of one certificate.
    #[error("--tls-cert and --acme-domain exclude each other: give the certificate or have it issued")]
    TwoCertificates,
    /// The certificate cannot be used.
    #[error("the certificate of --tls-cert cannot be used")]
    Certificate(#[from] CertificateError),
    /// Settings of alerts come together or not at all.
    #[error("--alert-webhook and --alert-secret-file belong together: {0} is missing")]
    IncompleteAlerts(&'static str),
    /// A file that a setting names cannot be read.
    #[error("{flag}: cannot read {}: check the path and its permissions", path.display())]
    Unreadable {
        /// The flag, with its dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Settings of the admin listener's TLS come together or not at all.
    #[error("--admin-tls-cert and --admin-tls-key belong together: {0} is missing")]
    IncompleteAdminTls(&'static str),
    /// Passwords and sessions would cross a network in the clear.
    #[error(
        "--admin-bind {0} is reached from other machines, and the admin listener has no TLS: passwords and sessions would be \
         sent in the clear; give --admin-tls-cert and --admin-tls-key, or listen on 127.0.0.1 behind a proxy that ends TLS or \
         an SSH tunnel; on a private network --admin-allow-plaintext permits it"
    )]
    AdminInTheClear(SocketAddr),
    /// The admin listener's certificate cannot be used.
    #[error("the certificate of --admin-tls-cert cannot be used")]
    AdminCertificate(#[source] CertificateError),
    /// Settings of a cluster come together or not at all.
    #[error("--node-url and AUDIOVAULT_RELAY_CLUSTER_KEY belong together: {0} is missing")]
    IncompleteCluster(&'static str),
    /// So do those of TLS between relays.
    #[error(
        "--node-tls-cert, --node-tls-key and --node-tls-ca belong to an https:// address in --node-url: {0} is missing"
    )]
    IncompleteNodeTls(&'static str),
    /// The certificate for other relays cannot be used.
    #[error("the certificate of --node-tls-cert cannot be used")]
    NodeCertificate(#[source] CertificateError),
    /// A file is nobody else's.
    #[error("--node-url is for relays that share a database: give --database postgres://USER@HOST/DATABASE")]
    ClusterOnFile,
    /// The cluster's key is too weak. It is not repeated.
    #[error("AUDIOVAULT_RELAY_CLUSTER_KEY: {0}")]
    ClusterKey(ShortKey),
    /// The file of `--config` cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Everything a relay needs to know to run.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where plain HTTP is served. This or [`ServeConfig::tls`] is always there; port 0 takes any free one.
    pub plain: Option<SocketAddr>,
    /// Where the same routes are served over TLS.
    pub tls: Option<TlsListener>,
    /// The address under which the world reaches the relay; links and agents are told this one.
    pub public_url: PublicUrl,
    /// Where the sites are kept.
    pub database: DatabaseUrl,
    /// Where operators are served.
    pub admin: AdminListener,
    /// For how long browsers are told to come over TLS alone.
    pub hsts: Hsts,
    /// Whether the figures for Prometheus are for anybody who reaches the admin listener.
    pub metrics_public: bool,
    /// The proxies whose word about their clients is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What the landing page tells strangers of this program.
    pub shown_version: ShownVersion,
    /// Whose pages may play recordings.
    pub allow_origin: AllowOrigin,
    /// Whether searches by GET are answered, whose tokens stand in the logs of proxies.
    pub search_by_get: bool,
    /// How the log is written.
    pub log: LogConfig,
    /// How long running downloads may take to end after the relay was told to stop.
    pub drain_timeout: Duration,
    /// What one client, one site and all together may have under way.
    pub limits: LimitsConfig,
    /// What is kept, told and counted of what happens.
    pub records: RecordsConfig,
    /// The place of this relay among others, if it does not stand alone.
    pub cluster: Option<ClusterConfig>,
}

impl ServeConfig {
    /// Reads the file that the arguments name, fills from it what they leave open, and checks everything,
    /// including that the certificate can be loaded.
    ///
    /// # Errors
    /// [`ConfigError`], the first one found.
    pub fn load(mut args: ServeArgs) -> Result<Self, ConfigError> {
        // A secret has no flag: what runs with which arguments is seen by everybody on the machine.
        if let Some(key) = env::var(CLUSTER_KEY).ok().map(Zeroizing::new).filter(|key| !key.trim().is_empty())
        {
            args.cluster_key = Some(key.parse().map_err(ConfigError::ClusterKey)?);
        }
        let lower = match args.config.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => file::read(path)?,
            None => ServeArgs::default(),
        };
        Self::check(args.or(lower))
    }

    fn check(args: ServeArgs) -> Result<Self, ConfigError> {
        let limits = limits::check(&args)?;
        let records = RecordsConfig::check(&args)?;
        let tls = TlsListener::check(&args)?;
        let admin = AdminListener::check(&args)?;
        let public_url = required(args.public_url.clone(), "--public-url", "AUDIOVAULT_RELAY_PUBLIC_URL")?;
        let database = required(args.database.clone(), "--database", "AUDIOVAULT_RELAY_DATABASE")?;
        let database: DatabaseUrl = database.parse().map_err(|error: DatabaseUrlError| {
            invalid("--database", &without_passwords(&database), &error)
        })?;
        let cluster = cluster::check(&args, &database)?;
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
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => return Err(invalid("--log-format", other, &"expected text or json")),
    };
    let level = level.unwrap_or("info");
    LogConfig::new(format, level).map_err(|error| invalid("--log-level", level, &error))
}

#[cfg(test)]
mod tests;
