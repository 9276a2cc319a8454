//! The flags of `install` and `uninstall`.

use std::path::PathBuf;

use audiovault_protocol::identity::enrolment::EnrolmentCode;
use clap::Args;

use super::args::{CommonArgs, TunnelArgs};

const INSTALL_EXAMPLES: &str = "\
Examples:
  # With the code that the relay's operator reads out; the recordings are a FreePBX's.
  sudo audiovault-agent install --relay wss://relay.example.com --enroll 7K2M-QX4D-09RB \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

  # What would that do?
  audiovault-agent install --dry-run --relay wss://relay.example.com --enroll 7K2M-QX4D-09RB \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

  # A new version of the program in place of the installed one; the configuration stays.
  sudo ./audiovault-agent install

Flags of `tunnel` become /etc/audiovault-agent/agent.toml. Keys, tokens, tenants and certificates are copied beside it, where \
the agent alone can read them. Without a search token one is drawn; QueueMetrics needs it too.";

/// Flags of `install`.
#[derive(Debug, Args)]
#[command(after_help = INSTALL_EXAMPLES)]
pub struct InstallArgs {
    /// The code that the relay's operator made (audiovault-relay site enroll); it is traded for the site key, once
    #[arg(long, value_name = "CODE", help_heading = "Installation")]
    pub enroll: Option<EnrolmentCode>,
    /// Show what would be done, and do nothing
    #[arg(long, help_heading = "Installation")]
    pub dry_run: bool,
    /// Install without starting the agent
    #[arg(long, help_heading = "Installation")]
    pub no_start: bool,
    /// Install beneath this directory, which will be the root of a machine
    #[arg(long, value_name = "DIR", default_value = "/", help_heading = "Installation")]
    pub root: PathBuf,
    /// What the installed agent is told.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Remove configuration, secrets, records and the user too
    #[arg(long)]
    pub purge: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The installation beneath this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Logging.
    #[command(flatten)]
    pub common: CommonArgs,
}
