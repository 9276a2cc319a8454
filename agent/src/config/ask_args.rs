//! The flags of commands that show a state or a result.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::{CommonArgs, StorageArgs, TunnelArgs};

const CHECK_HELP: &str = "\
Every row of the table is PASS, WARN, FAIL or SKIPPED (a test before it failed), and says what to do. \
The check changes nothing: it creates no file and does not disturb a running agent. If no agent of the site is \
connected, the check opens a tunnel of its own for a short time, which answers only requests of the check.

Exit code: 0 everything works, 1 it works with warnings, 2 the configuration cannot be used, 3 something does not work.

Examples:
  # Check the installed agent, as its own user, because root can read more.
  sudo -u audiovault-agent audiovault-agent check

  # Try flags before you install them.
  audiovault-agent check --relay wss://relay.example.com --site-key-file site-key \\
      --token-file search-token --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD";

/// Flags of `check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// Print JSON: version, site, state, and rows of id, subject, relay, state, detail, advice and elapsed_ms
    #[arg(long, help_heading = "Check")]
    pub json: bool,
    /// The settings of `tunnel`.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
}

const COVERAGE_HELP: &str = "\
Every call with a CONNECT counts once, on the day and in the queue in which it was first answered. The storage roots \
are searched once, completely, for all calls together. A call without a recording is one of: empty file, outside the \
pattern (with the directory of its file), not recorded, root missing (the recording may exist there), no call id.

Exit code: 0 every recording is found, 1 some are not, 2 the configuration cannot be used.

Examples:
  sudo audiovault-agent coverage --queue-log /var/log/asterisk/queue_log \\
      --since 2026-11-01 --svg coverage.svg";

/// Flags of `coverage`.
#[derive(Debug, Args)]
#[command(after_help = COVERAGE_HELP)]
pub struct CoverageArgs {
    /// Asterisk's queue_log
    #[arg(long, value_name = "FILE", help_heading = "Coverage")]
    pub queue_log: PathBuf,
    /// Only calls answered at or after this time: seconds since 1970, ISO 8601, "YYYY-MM-DD" or "YYYY-MM-DD hh:mm:ss"
    #[arg(long, value_name = "TIME", help_heading = "Coverage")]
    pub since: Option<String>,
    /// Only calls answered before this time
    #[arg(long, value_name = "TIME", help_heading = "Coverage")]
    pub until: Option<String>,
    /// The tenant of these calls, for %TE
    #[arg(long, help_heading = "Coverage")]
    pub tenant: Option<String>,
    /// Print JSON
    #[arg(long, help_heading = "Coverage")]
    pub json: bool,
    /// Draw a chart with one bar for each day into this SVG file
    #[arg(long, value_name = "FILE", help_heading = "Coverage")]
    pub svg: Option<PathBuf>,
    /// Where and how to search.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print the state file unchanged (JSON)
    #[arg(long)]
    pub json: bool,
    /// The state file that the agent writes
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The state file that the agent writes
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Logging and the configuration file.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Flags of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check whether `tunnel` could use the configuration, without any connection; exit codes as for `check`
    Check(Box<CheckArgs>),
    /// Print a configuration file with every key, its meaning and its default
    Example,
    /// Print all settings as a Markdown table: key, flag, variable, default, meaning
    Reference,
}
