//! What `serve` takes: from flags, from the environment and, under the same names, from the TOML file of `--config`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::{Deserialize, Deserializer};

use crate::cluster::ClusterKey;

/// The settings of a relay as written, not yet checked. In the file the keys are the long names of the flags.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[command(after_help = "\
Every option can also be set by an environment variable (AUDIOVAULT_RELAY_…) or, under its long name, in the TOML file \
of --config. A flag overrides the environment, and the environment overrides the file.")]
pub struct ServeArgs {
    /// Address for plain HTTP, for use behind a proxy or for trials [default: 0.0.0.0:8080, unless --tls-bind is given]
    #[arg(long, value_name = "ADDR", env = "AUDIOVAULT_RELAY_BIND")]
    pub bind: Option<String>,

    /// Address for HTTPS (HTTP/1.1 and HTTP/2)
    #[arg(long, value_name = "ADDR", env = "AUDIOVAULT_RELAY_TLS_BIND")]
    pub tls_bind: Option<String>,

    /// Certificate chain in PEM; reloaded when the file changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate in PEM; reloaded when the file changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Host name to order a certificate for from an ACME server, instead of --tls-cert; may be repeated
    #[arg(long, value_name = "NAME", env = "AUDIOVAULT_RELAY_ACME_DOMAIN", value_delimiter = ',')]
    pub acme_domain: Option<Vec<String>>,

    /// Email address to which the ACME server may send notices about the certificate
    #[arg(long, value_name = "EMAIL", env = "AUDIOVAULT_RELAY_ACME_EMAIL")]
    pub acme_email: Option<String>,

    /// Directory for the key of the ACME account and the certificate; only the relay may use it
    #[arg(long, value_name = "DIR", env = "AUDIOVAULT_RELAY_ACME_CACHE")]
    pub acme_cache: Option<PathBuf>,

    /// Directory URL of the ACME server [default: Let's Encrypt]
    #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_ACME_DIRECTORY")]
    pub acme_directory: Option<String>,

    /// Certificate authorities in PEM for the connection to the ACME server, instead of the public ones
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_ACME_CACERT")]
    pub acme_cacert: Option<PathBuf>,

    /// Address at which browsers, QueueMetrics and agents reach this relay (required)
    #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_PUBLIC_URL")]
    pub public_url: Option<String>,

    /// How long browsers use only TLS after they have used TLS once (Strict-Transport-Security): a time, or off
    /// [default: 365days for the admin listener, and for the public listeners with --acme-domain or an https:// public
    /// URL]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_HSTS_MAX_AGE")]
    pub hsts_max_age: Option<String>,

    /// Database: sqlite:FILE, which is created if it does not exist, or postgres://USER@HOST/DATABASE. A PostgreSQL
    /// server on another machine must have a valid TLS certificate (see sslrootcert=FILE and sslmode=…). Put a password
    /// into PGPASSWORD, a PGPASSFILE or AUDIOVAULT_RELAY_DATABASE (required)
    #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_DATABASE", hide_env_values = true)]
    pub database: Option<String>,

    /// Address at which peer relays on the same database reach this one, such as http://10.0.0.5:8091. All of them need
    /// the same secret in AUDIOVAULT_RELAY_CLUSTER_KEY (32 characters or more)
    #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_NODE_URL")]
    pub node_url: Option<String>,

    /// Address to listen on for peer relays; keep it off the internet [default: the address in --node-url, or all
    /// addresses if that is a host name]
    #[arg(long, value_name = "ADDR", env = "AUDIOVAULT_RELAY_NODE_BIND")]
    pub node_bind: Option<String>,

    /// Certificate chain in PEM that this relay shows to peer relays, if --node-url starts with https://; reloaded when
    /// the file changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_NODE_TLS_CERT")]
    pub node_tls_cert: Option<PathBuf>,

    /// Private key of that certificate in PEM; reloaded when the file changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_NODE_TLS_KEY")]
    pub node_tls_key: Option<PathBuf>,

    /// Certificate authorities in PEM that must have signed the certificates of all peer relays; reloaded when the file
    /// changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_NODE_TLS_CA")]
    pub node_tls_ca: Option<PathBuf>,

    /// The secret of the cluster; it has no flag.
    #[arg(skip)]
    pub cluster_key: Option<ClusterKey>,

    /// Directory in which audit events and history wait while the database is unreachable, at most 256 MiB; only this
    /// relay may use it [default: at most 20,000 of them wait in memory]
    #[arg(long, value_name = "DIR", env = "AUDIOVAULT_RELAY_SPOOL_DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Address for the dashboard, its API, health and metrics; keep it off the internet [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR", env = "AUDIOVAULT_RELAY_ADMIN_BIND")]
    pub admin_bind: Option<String>,

    /// Serve the Prometheus metrics, /metrics on the admin listener, without a login; otherwise they need an API token
    /// [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "AUDIOVAULT_RELAY_METRICS_PUBLIC",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    #[serde(deserialize_with = "truth_or_text")]
    pub metrics_public: Option<String>,

    /// Do not show version, commit and build time on the page at the public address [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "AUDIOVAULT_RELAY_HIDE_VERSION",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    #[serde(deserialize_with = "truth_or_text")]
    pub hide_version: Option<String>,

    /// Allow plain HTTP on an --admin-bind that other machines can reach; only for a private network, or behind a proxy
    /// on another machine that terminates TLS [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "AUDIOVAULT_RELAY_ADMIN_ALLOW_PLAINTEXT",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    #[serde(deserialize_with = "truth_or_text")]
    pub admin_allow_plaintext: Option<String>,

    /// Certificate chain in PEM for TLS on the admin listener; reloaded when the file changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_ADMIN_TLS_CERT")]
    pub admin_tls_cert: Option<PathBuf>,

    /// Private key of that certificate in PEM; reloaded when the file changes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_ADMIN_TLS_KEY")]
    pub admin_tls_key: Option<PathBuf>,

    /// Host name that the admin listener serves besides localhost; may be repeated; links use the first one [default:
    /// any IP address, and localhost]
    #[arg(long, value_name = "NAME", env = "AUDIOVAULT_RELAY_ADMIN_HOST", value_delimiter = ',')]
    #[serde(deserialize_with = "list_or_text")]
    pub admin_host: Option<Vec<String>>,

    /// Proxy, or network of proxies, whose X-Forwarded-For and Forwarded headers are trusted; may be repeated
    #[arg(long, value_name = "CIDR", env = "AUDIOVAULT_RELAY_TRUSTED_PROXY", value_delimiter = ',')]
    pub trusted_proxy: Option<Vec<String>>,

    /// Origin (scheme and host) whose pages may play recordings; may be repeated [default: *]
    #[arg(long, value_name = "ORIGIN", env = "AUDIOVAULT_RELAY_ALLOW_ORIGIN", value_delimiter = ',')]
    pub allow_origin: Option<Vec<String>>,

    /// Accept searches by GET. Proxies log their tokens, so set this to false if QueueMetrics searches by POST
    /// [default: true]
    #[arg(long, value_name = "BOOL", env = "AUDIOVAULT_RELAY_SEARCH_BY_GET")]
    #[serde(deserialize_with = "truth_or_text")]
    pub search_by_get: Option<String>,

    /// TOML file with these settings; unknown keys are errors
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Format of the log: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "AUDIOVAULT_RELAY_LOG_FORMAT")]
    pub log_format: Option<String>,

    /// Level of the log: error, warn, info, debug, trace, or a list such as info,audiovault_relay=debug [default: info]
    #[arg(long, value_name = "LEVEL", env = "AUDIOVAULT_RELAY_LOG_LEVEL")]
    pub log_level: Option<String>,

    /// How long running downloads may take to finish when the relay stops, such as 60s or 5m [default: 60s]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_DRAIN_TIMEOUT")]
    pub drain_timeout: Option<String>,

    /// Maximum open connections of all clients together [default: 10000]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_MAX_CONNECTIONS")]
    #[serde(deserialize_with = "number_or_text")]
    pub max_connections: Option<String>,

    /// Maximum open connections of one client address [default: 1000]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_MAX_CLIENT_CONNECTIONS")]
    #[serde(deserialize_with = "number_or_text")]
    pub max_client_connections: Option<String>,

    /// Maximum concurrent requests of one client address, downloads included [default: 512]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_MAX_CLIENT_REQUESTS")]
    #[serde(deserialize_with = "number_or_text")]
    pub max_client_requests: Option<String>,

    /// Maximum concurrent requests to one site, downloads included; one client address gets at most half of them
    /// [default: 256]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_MAX_SITE_REQUESTS")]
    #[serde(deserialize_with = "number_or_text")]
    pub max_site_requests: Option<String>,

    /// Maximum tunnels of one site, all its agents together [default: 32]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_MAX_SITE_TUNNELS")]
    #[serde(deserialize_with = "number_or_text")]
    pub max_site_tunnels: Option<String>,

    /// Maximum agents of one site [default: 8]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_MAX_SITE_AGENTS")]
    #[serde(deserialize_with = "number_or_text")]
    pub max_site_agents: Option<String>,

    /// Maximum memory for recordings that pass through the relay, such as 512MiB [default: 2GiB]
    #[arg(long, value_name = "SIZE", env = "AUDIOVAULT_RELAY_MEMORY_BUDGET")]
    #[serde(deserialize_with = "number_or_text")]
    pub memory_budget: Option<String>,

    /// Maximum agents that may connect per second; the others are told when to retry [default: 100]
    #[arg(long, value_name = "N", env = "AUDIOVAULT_RELAY_ACCEPT_RATE")]
    #[serde(deserialize_with = "number_or_text")]
    pub accept_rate: Option<String>,

    /// Age at which client addresses in the audit log are replaced by pseudonyms [default: 183days]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_AUDIT_PSEUDONYMISE_AFTER")]
    pub audit_pseudonymise_after: Option<String>,

    /// Age at which audit events are deleted [default: 365days]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_AUDIT_KEEP")]
    pub audit_keep: Option<String>,

    /// Age at which operators' events are deleted, at least 90days [default: 730days]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_OPERATOR_EVENTS_KEEP")]
    pub operator_events_keep: Option<String>,

    /// How long the names of removed sites and aliases cannot be reused [default: 90days]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_NAME_REST")]
    pub name_rest: Option<String>,

    /// Idle time after which a session at the dashboard ends [default: 30m]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_SESSION_IDLE")]
    pub session_idle: Option<String>,

    /// How file names of recordings are written to the audit log: masked, or full if the agents send them in full
    /// [default: masked]
    #[arg(long, value_name = "NAMES", env = "AUDIOVAULT_RELAY_AUDIT_NAMES")]
    pub audit_names: Option<String>,

    /// Webhook that is notified when a site goes down, comes back or loses its recordings, and of operators' events.
    /// Put an address that contains a token into the environment or the file
    #[arg(long, value_name = "URL", env = "AUDIOVAULT_RELAY_ALERT_WEBHOOK", hide_env_values = true)]
    pub alert_webhook: Option<String>,

    /// File with the secret that signs alerts: whsec_ and base64, or any text of at least 16 bytes
    #[arg(long, value_name = "FILE", env = "AUDIOVAULT_RELAY_ALERT_SECRET_FILE")]
    pub alert_secret_file: Option<PathBuf>,

    /// How long a state must last before an alert is sent [default: 60s]
    #[arg(long, value_name = "TIME", env = "AUDIOVAULT_RELAY_ALERT_HOLD")]
    pub alert_hold: Option<String>,

    /// Include metrics of each site in /metrics [default: true]
    #[arg(long, value_name = "BOOL", env = "AUDIOVAULT_RELAY_SITE_METRICS")]
    #[serde(deserialize_with = "truth_or_text")]
    pub site_metrics: Option<String>,
}

/// In the file a number may be written as one.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number or a string")]
    enum Value {
        Number(u64),
        Text(String),
    }
    Ok(Some(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text,
    }))
}

/// In the file true and false may be written as such.
fn truth_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected true or false")]
    enum Value {
        Truth(bool),
        Text(String),
    }
    Ok(Some(match Value::deserialize(deserializer)? {
        Value::Truth(truth) => truth.to_string(),
        Value::Text(text) => text,
    }))
}

/// In the file a list of one may be written as a text.
fn list_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of them")]
    enum Value {
        List(Vec<String>),
        Text(String),
    }
    Ok(Some(match Value::deserialize(deserializer)? {
        Value::List(list) => list,
        Value::Text(text) => vec![text],
    }))
}

impl ServeArgs {
    /// Fills what is not given here, or left blank, from somewhere of lower precedence.
    #[must_use]
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            bind: or(self.bind, lower.bind),
            tls_bind: or(self.tls_bind, lower.tls_bind),
            tls_cert: or(self.tls_cert, lower.tls_cert),
            tls_key: or(self.tls_key, lower.tls_key),
            acme_domain: or(self.acme_domain, lower.acme_domain),
            acme_email: or(self.acme_email, lower.acme_email),
            acme_cache: or(self.acme_cache, lower.acme_cache),
            acme_directory: or(self.acme_directory, lower.acme_directory),
            acme_cacert: or(self.acme_cacert, lower.acme_cacert),
            public_url: or(self.public_url, lower.public_url),
            hsts_max_age: or(self.hsts_max_age, lower.hsts_max_age),
            database: or(self.database, lower.database),
            node_url: or(self.node_url, lower.node_url),
            node_bind: or(self.node_bind, lower.node_bind),
            node_tls_cert: or(self.node_tls_cert, lower.node_tls_cert),
            node_tls_key: or(self.node_tls_key, lower.node_tls_key),
            node_tls_ca: or(self.node_tls_ca, lower.node_tls_ca),
            cluster_key: self.cluster_key.or(lower.cluster_key),
            spool_dir: or(self.spool_dir, lower.spool_dir),
            admin_bind: or(self.admin_bind, lower.admin_bind),
            metrics_public: or(self.metrics_public, lower.metrics_public),
            hide_version: or(self.hide_version, lower.hide_version),
            admin_allow_plaintext: or(self.admin_allow_plaintext, lower.admin_allow_plaintext),
            admin_tls_cert: or(self.admin_tls_cert, lower.admin_tls_cert),
            admin_tls_key: or(self.admin_tls_key, lower.admin_tls_key),
            admin_host: or(self.admin_host, lower.admin_host),
            trusted_proxy: or(self.trusted_proxy, lower.trusted_proxy),
            allow_origin: or(self.allow_origin, lower.allow_origin),
            search_by_get: or(self.search_by_get, lower.search_by_get),
            config: or(self.config, lower.config),
            log_format: or(self.log_format, lower.log_format),
            log_level: or(self.log_level, lower.log_level),
            drain_timeout: or(self.drain_timeout, lower.drain_timeout),
            max_connections: or(self.max_connections, lower.max_connections),
            max_client_connections: or(self.max_client_connections, lower.max_client_connections),
            max_client_requests: or(self.max_client_requests, lower.max_client_requests),
            max_site_requests: or(self.max_site_requests, lower.max_site_requests),
            max_site_tunnels: or(self.max_site_tunnels, lower.max_site_tunnels),
            max_site_agents: or(self.max_site_agents, lower.max_site_agents),
            memory_budget: or(self.memory_budget, lower.memory_budget),
            accept_rate: or(self.accept_rate, lower.accept_rate),
            audit_pseudonymise_after: or(self.audit_pseudonymise_after, lower.audit_pseudonymise_after),
            audit_keep: or(self.audit_keep, lower.audit_keep),
            operator_events_keep: or(self.operator_events_keep, lower.operator_events_keep),
            name_rest: or(self.name_rest, lower.name_rest),
            session_idle: or(self.session_idle, lower.session_idle),
            audit_names: or(self.audit_names, lower.audit_names),
            alert_webhook: or(self.alert_webhook, lower.alert_webhook),
            alert_secret_file: or(self.alert_secret_file, lower.alert_secret_file),
            alert_hold: or(self.alert_hold, lower.alert_hold),
            site_metrics: or(self.site_metrics, lower.site_metrics),
        }
    }
}

/// A value that may be blank: container and service files set variables to nothing to say "none".
trait Setting: Sized {
    /// The value, unless nothing is left of it.
    fn present(self) -> Option<Self>;
}

impl Setting for String {
    fn present(self) -> Option<Self> {
        (!self.trim().is_empty()).then_some(self)
    }
}

impl Setting for PathBuf {
    fn present(self) -> Option<Self> {
        (!self.as_os_str().is_empty()).then_some(self)
    }
}

impl Setting for Vec<String> {
    fn present(self) -> Option<Self> {
        let items: Self = self.into_iter().filter_map(Setting::present).collect();
        (!items.is_empty()).then_some(items)
    }
}

fn or<T: Setting>(upper: Option<T>, lower: Option<T>) -> Option<T> {
    upper.and_then(Setting::present).or_else(|| lower.and_then(Setting::present))
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{} line {line}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line of the error, counted from 1.
        line: usize,
        /// The error, in one line.
        message: String,
    },
}

pub(super) fn read_file(path: &Path) -> Result<ServeArgs, FileError> {
    let text =
        fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        FileError::Content {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            message: error.message().replace('\n', " "),
        }
    })
}
