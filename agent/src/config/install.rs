//! The flags of `install` and `uninstall`.

use std::path::PathBuf;

use audiovault_protocol::identity::enrolment::EnrolmentCode;
use clap::Args;

use super::args::{CommonArgs, TunnelArgs};

const INSTALL_EXAMPLES: &str = "\
Examples:
  # Install with the enrolment code from the relay's operator, on a FreePBX.
  sudo audiovault-agent install --relay wss://relay.example.com --enroll 7K2M-QX4D-09RB \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

  # Show what that would do.
  audiovault-agent install --dry-run --relay wss://relay.example.com --enroll 7K2M-QX4D-09RB \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD

  # Upgrade the program; the configuration stays.
  sudo ./audiovault-agent install

Flags of `tunnel` are written to /etc/audiovault-agent/agent.toml. Keys, tokens, tenants and certificates are copied \
next to it, where only the agent can read them. Without a search token, install generates one; QueueMetrics needs it too.";

/// Flags of `install`.
#[derive(Debug, Args)]
#[command(after_help = INSTALL_EXAMPLES)]
pub struct InstallArgs {
    /// Enrolment code from the relay's operator (audiovault-relay site enroll); it is traded once for the site key
    #[arg(long, value_name = "CODE", help_heading = "Installation")]
    pub enroll: Option<EnrolmentCode>,
    /// Show what would be done, and change nothing
    #[arg(long, help_heading = "Installation")]
    pub dry_run: bool,
    /// Install without starting the agent
    #[arg(long, help_heading = "Installation")]
    pub no_start: bool,
    /// Install below this directory, which will become the root of another machine
    #[arg(long, value_name = "DIR", default_value = "/", help_heading = "Installation")]
    pub root: PathBuf,
    /// The settings of the installed agent.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
}

/// Flags of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Remove configuration, secrets, audit log and the user too
    #[arg(long)]
    pub purge: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the installation below this directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Logging.
    #[command(flatten)]
    pub common: CommonArgs,
}
