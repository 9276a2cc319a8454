//! The command line. Every flag of `tunnel` and `serve` can also be set in the environment and in a file; see
//! [`super::settings`].

use std::path::PathBuf;

use audiovault_agent_core::secret::Secret;
use audiovault_common::logging::LogFormat;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    ask_args::{CheckArgs, ConfigArgs, ConfigCommand, CoverageArgs, HealthArgs, StatusArgs},
    audit_args::{AuditArgs, AuditCommand},
    audit_log_args::AuditLogArgs,
    cdr_args::CdrArgs,
    dialect_args::DialectArgs,
    index_args::IndexArgs,
    install::{InstallArgs, UninstallArgs},
    limits::LimitArgs,
    network::NetworkArgs,
};
use crate::http::about::version;

/// The default log level.
pub const DEFAULT_LOG_LEVEL: &str = "info";

const ABOUT: &str = "Finds call recordings on this machine's disks and serves them to QueueMetrics, through an \
                     outbound tunnel or on a local port";

const EXAMPLES: &str = "\
Examples:
  # Serve the recordings of a FreePBX through a relay; this opens no port here.
  audiovault-agent tunnel --relay wss://relay.example.com \\
      --site-key-file /etc/audiovault-agent/site-key \\
      --token-file /etc/audiovault-agent/search-token \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

  # Serve the same recordings on a local port, as AudioVault does.
  audiovault-agent serve --bind-to 127.0.0.1:4040 --public-url https://audio.example.com \\
      --token-file /etc/audiovault-agent/search-token \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

  # Find the recording of a call.
  audiovault-agent search 1711444502.17 --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

Placeholders in --path: %YY %MM %ME (Jan) %DD %HH, %TE tenant, %SE server, %QU queue, %AG agent.

Every flag of `tunnel` and `serve` can also be an environment variable (AUDIOVAULT_AGENT_SITE_KEY for --site-key) or a key \
in the TOML file of --config (site-key = \"…\"). A flag wins over the environment, and the environment wins over the \
file. `config example` prints a file with every key. search, get, coverage, check, status, health, audit and config \
check use /etc/audiovault-agent/agent.toml if it exists and --config names no other file.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "audiovault-agent", version = version(), about = ABOUT, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect to a relay and serve recordings through the tunnel
    Tunnel(TunnelArgs),
    /// Serve recordings on a local port: the classic AudioVault
    Serve(ServeArgs),
    /// Search for a call, and show which directories were searched
    Search(SearchArgs),
    /// Copy the first recording of a call to a file
    Get(GetArgs),
    /// Show how many of the answered calls in a queue_log have a recording, and why the others have none
    Coverage(Box<CoverageArgs>),
    /// Test everything, from the configuration to a recording through the relay, and say what to do
    Check(CheckArgs),
    /// Show the state of the running agent: its tunnels and its recordings
    Status(StatusArgs),
    /// Erase a call from the audit log; the agent can continue to run
    Audit(AuditArgs),
    /// Check a configuration, or print an example or all settings
    Config(ConfigArgs),
    /// Install the agent as a systemd service, or upgrade it
    Install(InstallArgs),
    /// Remove the installed agent
    Uninstall(UninstallArgs),
    /// Show by the exit code whether the agent is connected: 0 if it is, 1 if not
    Health(HealthArgs),
}

/// Flags of `tunnel`.
#[derive(Debug, Args)]
pub struct TunnelArgs {
    /// Address of the relay, such as wss://relay.example.com; for several, a comma-separated list, or repeat the flag
    #[arg(long, value_name = "URL", help_heading = "Relay")]
    pub relay: Vec<String>,
    /// Number of tunnels to each relay
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16), help_heading = "Relay")]
    pub connections: u16,
    /// File with the site key from the relay's operator
    #[arg(long, value_name = "FILE", help_heading = "Relay")]
    pub site_key_file: Option<PathBuf>,
    /// The site key itself; a file is safer, because every user of this machine can see command lines
    #[arg(long, value_name = "KEY", value_parser = secret, help_heading = "Relay")]
    pub site_key: Option<Secret>,
    /// Allow ws:// to another machine; the site key and all recordings then travel unencrypted
    #[arg(long, help_heading = "Relay")]
    pub allow_plaintext: bool,
    /// Write the state of the agent to this file, for `audiovault-agent status` and `health`
    #[arg(long, value_name = "FILE", help_heading = "Relay")]
    pub state_file: Option<PathBuf>,
    /// How to reach the relay.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Where and how to search.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// The index of the recordings.
    #[command(flatten)]
    pub index: IndexArgs,
    /// The call records, which link the legs of a conversation.
    #[command(flatten)]
    pub cdr: CdrArgs,
    /// Who may search.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Field names of searches and responses.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Resource limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The audit log and the deny list.
    #[command(flatten)]
    pub audit_log: AuditLogArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on; :PORT means all addresses of this machine
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4040", help_heading = "Listener")]
    pub bind_to: String,
    /// Address that browsers use for this service; links start with it
    #[arg(long, value_name = "URL", help_heading = "Listener")]
    pub public_url: Option<String>,
    /// PEM file with the certificate chain for HTTPS; the agent reads it again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Listener")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", help_heading = "Listener")]
    pub certificate_key: Option<PathBuf>,
    /// Hide version, commit and build time on the page at /
    #[arg(long, help_heading = "Listener")]
    pub hide_version: bool,
    /// Origins of web pages that may play recordings: *, or a comma-separated list
    #[arg(long, value_name = "ORIGIN", default_value = "*", help_heading = "Listener")]
    pub allow_origin: String,
    /// Maximum number of open connections; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Listener")]
    pub max_connections: u32,
    /// Maximum number of open connections from one address (for IPv6: one /64 network); behind a proxy set it to the
    /// value of --max-connections
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Listener")]
    pub max_client_connections: u32,
    /// Where and how to search.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// The index of the recordings.
    #[command(flatten)]
    pub index: IndexArgs,
    /// The call records, which link the legs of a conversation.
    #[command(flatten)]
    pub cdr: CdrArgs,
    /// Who may search.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Field names of searches and responses.
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Resource limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The audit log and the deny list.
    #[command(flatten)]
    pub audit_log: AuditLogArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Where recordings lie.
#[derive(Debug, Args)]
pub struct StorageArgs {
    /// Where recordings are stored, such as file:/rec/%YY/%MM; for several, a comma-separated list, or repeat the
    /// flag
    #[arg(long, value_name = "PATTERN", help_heading = "Recordings")]
    pub path: Vec<String>,
    /// Time zone of the dates in the PBX's directory names [default: this machine's]
    #[arg(long, value_name = "TZ", help_heading = "Recordings")]
    pub timezone: Option<String>,
    /// How long before and after the start of a call to search, if --path has dates
    #[arg(long, value_name = "TIME", default_value = "4h", help_heading = "Recordings")]
    pub look_back: String,
    /// Search the paths in order until one has the call, or search all of them
    #[arg(long, value_name = "MODE", default_value = "first", help_heading = "Recordings")]
    pub search: Mode,
    /// File extensions to search instead of the usual ones; a comma-separated list, or repeat the flag
    #[arg(long, value_name = "EXT", value_delimiter = ',', help_heading = "Recordings")]
    pub extension: Vec<String>,
    /// Regular expression for call ids of another form; those of Asterisk and Yeastar, and UUIDs, are always known
    #[arg(long, value_name = "REGEX", help_heading = "Recordings")]
    pub call_id: Option<String>,
    /// File that is present in every storage root while its disk is mounted; if it is missing, answers are marked as
    /// incomplete
    #[arg(long, value_name = "NAME", help_heading = "Recordings")]
    pub sentinel: Option<String>,
}

/// Who may search.
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// File with the search token that QueueMetrics sends
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub token_file: Option<PathBuf>,
    /// The search token itself; a file is safer, because every user of this machine can see command lines
    #[arg(long, value_name = "TOKEN", value_parser = secret, help_heading = "Access")]
    pub token: Option<Secret>,
    /// JSON file of tenants with their own tokens: [{"tenant": "a", "secret": "…", "note": ""}]
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub tenants: Option<PathBuf>,
    /// How long a link to a recording is valid
    #[arg(long, value_name = "TIME", default_value = "2h", help_heading = "Access")]
    pub link_ttl: String,
    /// File with the link key: keeps links valid after a restart, and on all agents that share the file; created if
    /// it does not exist
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub link_secret_file: Option<PathBuf>,
    /// Names of recordings in audit logs: with telephone numbers masked, or in full
    #[arg(long, value_name = "NAMES", default_value = "masked", help_heading = "Access")]
    pub audit_names: AuditNames,
}

/// What every command knows.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// TOML file with any of these flags, without the dashes
    #[arg(long, value_name = "FILE", help_heading = "Configuration and logging")]
    pub config: Option<PathBuf>,
    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = "Configuration and logging")]
    pub log_format: LogFormat,
    /// Log level: error, warn, info, debug or trace; can be set for each module
    #[arg(long, value_name = "LEVEL", default_value = DEFAULT_LOG_LEVEL, help_heading = "Configuration and logging")]
    pub log_level: String,
}

/// Flags of `search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The call.
    #[command(flatten)]
    pub call: CallArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where and how to search.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The call.
    #[command(flatten)]
    pub call: CallArgs,
    /// File to write the recording to; - is standard output [default: the recording's own name, in this directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where and how to search.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Which call.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// The call's id, such as 1711444502.17
    #[arg(value_name = "CALL-ID")]
    pub id: String,
    /// When the call began: seconds since 1970, ISO 8601, or "YYYY-MM-DD hh:mm:ss"
    #[arg(long, value_name = "TIME", help_heading = "Call")]
    pub start: Option<String>,
    /// The tenant, for %TE
    #[arg(long, help_heading = "Call")]
    pub tenant: Option<String>,
    /// The server, for %SE
    #[arg(long, help_heading = "Call")]
    pub server: Option<String>,
    /// The queue, for %QU
    #[arg(long, help_heading = "Call")]
    pub queue: Option<String>,
    /// The agent, for %AG
    #[arg(long, help_heading = "Call")]
    pub agent: Option<String>,
}

/// Which drivers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One after the other, until one has the call
    First,
    /// All of them
    All,
}

/// Names of recordings in audit logs: with telephone numbers masked, or in full
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuditNames {
    /// Telephone numbers masked
    Masked,
    /// In full
    Full,
}

impl Command {
    /// The resource limits, for the commands that serve.
    pub fn limits(&self) -> Option<&LimitArgs> {
        match self {
            Self::Tunnel(args) => Some(&args.limits),
            Self::Serve(args) => Some(&args.limits),
            Self::Check(args) => Some(&args.tunnel.limits),
            Self::Search(_)
            | Self::Get(_)
            | Self::Coverage(_)
            | Self::Health(_)
            | Self::Status(_)
            | Self::Audit(_)
            | Self::Config(_)
            | Self::Install(_)
            | Self::Uninstall(_) => None,
        }
    }

    /// The largest number of client connections, for the commands that accept some.
    pub fn max_connections(&self) -> u32 {
        if let Self::Serve(args) = self { args.max_connections } else { 0 }
    }

    /// The flags of `tunnel`, if that is the command.
    pub fn into_tunnel(self) -> Option<TunnelArgs> {
        if let Self::Tunnel(args) = self { Some(args) } else { None }
    }

    /// The flags of `serve`, if that is the command.
    pub fn into_serve(self) -> Option<ServeArgs> {
        if let Self::Serve(args) = self { Some(args) } else { None }
    }

    /// Logging and the configuration file, for the commands that have them.
    pub fn common(&self) -> Option<&CommonArgs> {
        Some(match self {
            Self::Tunnel(args) => &args.common,
            Self::Serve(args) => &args.common,
            Self::Search(args) => &args.common,
            Self::Get(args) => &args.common,
            Self::Coverage(args) => &args.common,
            Self::Health(args) => &args.common,
            Self::Check(args) => &args.tunnel.common,
            Self::Install(args) => &args.tunnel.common,
            Self::Uninstall(args) => &args.common,
            Self::Status(args) => &args.common,
            Self::Audit(AuditArgs { command: AuditCommand::Erase(args) }) => &args.common,
            Self::Config(ConfigArgs { command: ConfigCommand::Check(args) }) => &args.tunnel.common,
            Self::Config(ConfigArgs { command: ConfigCommand::Example | ConfigCommand::Reference }) => {
                return None;
            }
        })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that clap asks of a value parser")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
