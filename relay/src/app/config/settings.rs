//! The settings of `serve`, which come from flags, the environment and the file of `--config`.

use std::path::PathBuf;

use audiovault_common::settings::{self, Layers};
use clap::{Args, CommandFactory};

use crate::cluster::ClusterKey;

/// The layers of the relay's settings. Container and service files set a variable to nothing to say that it is absent.
pub const LAYERS: Layers = Layers {
    prefixes: &["AUDIOVAULT_RELAY_"],
    configurable: &["serve"],
    typed_only: &[],
    alternatives: &[],
    blank_is_absent: true,
};

/// The settings of a relay as written, not yet checked. In the file the keys are the long names of the flags.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Every option can also be set by an environment variable (AUDIOVAULT_RELAY_…) or, under its long name, in the TOML file \
of --config. A flag overrides the environment, and the environment overrides the file.")]
pub struct ServeArgs {
    /// Address for plain HTTP, for use behind a proxy or for trials [default: 0.0.0.0:8080, unless --tls-bind is given]
    #[arg(long, help_heading = "Public listeners", value_name = "ADDR")]
    pub bind: Option<String>,

    /// Address for HTTPS (HTTP/1.1 and HTTP/2)
    #[arg(long, help_heading = "Public listeners", value_name = "ADDR")]
    pub tls_bind: Option<String>,

    /// Certificate chain in PEM; reloaded when the file changes
    #[arg(long, help_heading = "Public listeners", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate in PEM; reloaded when the file changes
    #[arg(long, help_heading = "Public listeners", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Host name to order a certificate for from an ACME server, instead of --tls-cert; may be repeated
    #[arg(long, help_heading = "Public listeners", value_name = "NAME", value_delimiter = ',')]
    pub acme_domain: Option<Vec<String>>,

    /// Email address to which the ACME server may send notices about the certificate
    #[arg(long, help_heading = "Public listeners", value_name = "EMAIL")]
    pub acme_email: Option<String>,

    /// Directory for the key of the ACME account and the certificate; only the relay may use it
    #[arg(long, help_heading = "Public listeners", value_name = "DIR")]
    pub acme_cache: Option<PathBuf>,

    /// Directory URL of the ACME server [default: Let's Encrypt]
    #[arg(long, help_heading = "Public listeners", value_name = "URL")]
    pub acme_directory: Option<String>,

    /// Certificate authorities in PEM for the connection to the ACME server, instead of the public ones
    #[arg(long, help_heading = "Public listeners", value_name = "FILE")]
    pub acme_cacert: Option<PathBuf>,

    /// Address at which browsers, QueueMetrics and agents reach this relay (required)
    #[arg(long, help_heading = "Public listeners", value_name = "URL")]
    pub public_url: Option<String>,

    /// How long browsers use only TLS after they have used TLS once (Strict-Transport-Security): a time, or off
    /// [default: 365days for the admin listener, and for the public listeners with --acme-domain or an https:// public
    /// URL]
    #[arg(long, help_heading = "Public listeners", value_name = "TIME")]
    pub hsts_max_age: Option<String>,

    /// Do not show version, commit and build time on the page at the public address [default: false]
    #[arg(
        long,
        help_heading = "Public listeners",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub hide_version: Option<String>,

    /// Proxy, or network of proxies, whose X-Forwarded-For and Forwarded headers are trusted; may be repeated
    #[arg(long, help_heading = "Public listeners", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Option<Vec<String>>,

    /// Origin (scheme and host) whose pages may play recordings; may be repeated [default: *]
    #[arg(long, help_heading = "Public listeners", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Option<Vec<String>>,

    /// Accept searches by GET. Proxies log their tokens, so set this to false if QueueMetrics searches by POST
    /// [default: true]
    #[arg(long, help_heading = "Public listeners", value_name = "BOOL")]
    pub search_by_get: Option<String>,

    /// Database: sqlite:FILE, which is created if it does not exist, or postgres://USER@HOST/DATABASE. A PostgreSQL
    /// server on another machine must have a valid TLS certificate (see sslrootcert=FILE and sslmode=…). Put a password
    /// into PGPASSWORD, a PGPASSFILE or AUDIOVAULT_RELAY_DATABASE (required)
    #[arg(long, help_heading = "Database", value_name = "URL")]
    pub database: Option<String>,

    /// Directory in which audit events and history wait for the database, at most 256 MiB; only this relay may use it
    /// [default: beside a SQLite database; for PostgreSQL, at most 20,000 of them wait in memory]
    #[arg(long, help_heading = "Database", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Address at which peer relays on the same database reach this one, such as http://10.0.0.5:8091. All of them need
    /// the same secret in AUDIOVAULT_RELAY_CLUSTER_KEY (32 characters or more)
    #[arg(long, help_heading = "Cluster", value_name = "URL")]
    pub node_url: Option<String>,

    /// Address to listen on for peer relays; keep it off the internet [default: the address in --node-url, or all
    /// addresses if that is a host name]
    #[arg(long, help_heading = "Cluster", value_name = "ADDR")]
    pub node_bind: Option<String>,

    /// Certificate chain in PEM that this relay shows to peer relays, if --node-url starts with https://; reloaded when
    /// the file changes
    #[arg(long, help_heading = "Cluster", value_name = "FILE")]
    pub node_tls_cert: Option<PathBuf>,

    /// Private key of that certificate in PEM; reloaded when the file changes
    #[arg(long, help_heading = "Cluster", value_name = "FILE")]
    pub node_tls_key: Option<PathBuf>,

    /// Certificate authorities in PEM that must have signed the certificates of all peer relays; reloaded when the file
    /// changes
    #[arg(long, help_heading = "Cluster", value_name = "FILE")]
    pub node_tls_ca: Option<PathBuf>,

    /// Address for the dashboard, its API, health and metrics; keep it off the internet [default: 127.0.0.1:8090]
    #[arg(long, help_heading = "Dashboard, API and metrics", value_name = "ADDR")]
    pub admin_bind: Option<String>,

    /// Serve the Prometheus metrics, /metrics on the admin listener, without a login; otherwise they need an API token
    /// [default: false]
    #[arg(
        long,
        help_heading = "Dashboard, API and metrics",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub metrics_public: Option<String>,

    /// Allow plain HTTP on an --admin-bind that other machines can reach; only for a private network, or behind a proxy
    /// on another machine that terminates TLS [default: false]
    #[arg(
        long,
        help_heading = "Dashboard, API and metrics",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub admin_allow_plaintext: Option<String>,

    /// Certificate chain in PEM for TLS on the admin listener; reloaded when the file changes
    #[arg(long, help_heading = "Dashboard, API and metrics", value_name = "FILE")]
    pub admin_tls_cert: Option<PathBuf>,

    /// Private key of that certificate in PEM; reloaded when the file changes
    #[arg(long, help_heading = "Dashboard, API and metrics", value_name = "FILE")]
    pub admin_tls_key: Option<PathBuf>,

    /// Host name that the admin listener serves besides localhost; may be repeated; links use the first one [default:
    /// any IP address, and localhost]
    #[arg(long, help_heading = "Dashboard, API and metrics", value_name = "NAME", value_delimiter = ',')]
    pub admin_host: Option<Vec<String>>,

    /// Idle time after which a session at the dashboard ends [default: 30m]
    #[arg(long, help_heading = "Dashboard, API and metrics", value_name = "TIME")]
    pub session_idle: Option<String>,

    /// Include metrics of each site in /metrics [default: true]
    #[arg(long, help_heading = "Dashboard, API and metrics", value_name = "BOOL")]
    pub site_metrics: Option<String>,

    /// How long running downloads may take to finish when the relay stops, such as 60s or 5m [default: 60s]
    #[arg(long, help_heading = "Limits", value_name = "TIME")]
    pub drain_timeout: Option<String>,

    /// Maximum open connections of all clients together [default: 10000]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub max_connections: Option<String>,

    /// Maximum open connections of one client address [default: 1000]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub max_client_connections: Option<String>,

    /// Maximum concurrent requests of one client address, downloads included [default: 512]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub max_client_requests: Option<String>,

    /// Maximum concurrent requests to one site, downloads included; one client address gets at most half of them
    /// [default: 256]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub max_site_requests: Option<String>,

    /// Maximum tunnels of one site, all its agents together [default: 32]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub max_site_tunnels: Option<String>,

    /// Maximum agents of one site [default: 8]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub max_site_agents: Option<String>,

    /// Maximum memory for recordings that pass through the relay, such as 512MiB [default: 2GiB]
    #[arg(long, help_heading = "Limits", value_name = "SIZE")]
    pub memory_budget: Option<String>,

    /// Maximum agents that may connect per second; the others are told when to retry [default: 100]
    #[arg(long, help_heading = "Limits", value_name = "N")]
    pub accept_rate: Option<String>,

    /// Age at which client addresses in the audit log are replaced by pseudonyms [default: 183days]
    #[arg(long, help_heading = "Audit log and events", value_name = "TIME")]
    pub audit_pseudonymise_after: Option<String>,

    /// Age at which audit events are deleted [default: 365days]
    #[arg(long, help_heading = "Audit log and events", value_name = "TIME")]
    pub audit_keep: Option<String>,

    /// Age at which operators' events are deleted, at least 90days [default: 730days]
    #[arg(long, help_heading = "Audit log and events", value_name = "TIME")]
    pub operator_events_keep: Option<String>,

    /// How long the names of removed sites and aliases cannot be reused [default: 90days]
    #[arg(long, help_heading = "Audit log and events", value_name = "TIME")]
    pub name_rest: Option<String>,

    /// How file names of recordings are written to the audit log: masked, or full if the agents send them in full
    /// [default: masked]
    #[arg(long, help_heading = "Audit log and events", value_name = "NAMES")]
    pub audit_names: Option<String>,

    /// Webhook that is notified when a site goes down, comes back or loses its recordings, and of operators' events.
    /// Put an address that contains a token into the environment or the file
    #[arg(long, help_heading = "Alerts", value_name = "URL")]
    pub alert_webhook: Option<String>,

    /// File with the secret that signs alerts: whsec_ and base64, or any text of at least 16 bytes
    #[arg(long, help_heading = "Alerts", value_name = "FILE")]
    pub alert_secret_file: Option<PathBuf>,

    /// How long a state must last before an alert is sent [default: 60s]
    #[arg(long, help_heading = "Alerts", value_name = "TIME")]
    pub alert_hold: Option<String>,

    /// TOML file with these settings; unknown keys are errors
    #[arg(long, help_heading = "Program", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Format of the log: text or json [default: text]
    #[arg(long, help_heading = "Program", value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Level of the log: error, warn, info, debug, trace, or a list such as info,audiovault_relay=debug [default: info]
    #[arg(long, help_heading = "Program", value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// The secret of the cluster; it has no flag.
    #[arg(skip)]
    pub cluster_key: Option<ClusterKey>,
}

const EXAMPLE_HEAD: &str = "\
# The configuration of audiovault-relay: the file that --config names. The relay reads it when it starts. Every key is
# also a flag (public-url: --public-url) and an environment variable (AUDIOVAULT_RELAY_PUBLIC_URL). A flag wins over the
# environment, and the environment wins over this file. An unknown key is an error.
#
# Lines that are commented out show a value in CAPITALS; the comment above says the default.
";

const REFERENCE_HEAD: &str = "\
# Settings of the relay

Every setting is a flag of `audiovault-relay serve`, an environment variable, and a key of the configuration file
(`--config`). A flag wins over the environment, and the environment wins over the file. A blank value counts as absent.
An unknown key is an error. A list is comma-separated text or an array. `audiovault-relay config check` checks a
configuration, and `audiovault-relay config example` prints a file to start from.

The secret of a cluster has no flag and no key: it is in the environment variable `AUDIOVAULT_RELAY_CLUSTER_KEY` alone.

`audiovault-relay config reference` generates this page.
";

/// Keys that every relay needs, as in the example file; all others are commented out there.
const ESSENTIAL: [(&str, &str); 2] = [
    ("public-url", "\"https://relay.example.com\""),
    ("database", "\"sqlite:/var/lib/audiovault/relay.db\""),
];

/// A configuration file with every key, its meaning and its default. `Cli` is the command line with `serve`.
pub fn example<Cli: CommandFactory>() -> String {
    settings::example(EXAMPLE_HEAD, &LAYERS.settings::<Cli>(), &ESSENTIAL)
}

/// Every setting in tables of Markdown. `Cli` is the command line with `serve`.
pub fn reference<Cli: CommandFactory>() -> String {
    settings::reference(REFERENCE_HEAD, &LAYERS.settings::<Cli>(), &LAYERS)
}
