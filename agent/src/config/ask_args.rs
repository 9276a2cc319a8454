//! Commands that ask how things are.

use clap::Args;

use super::args::TunnelArgs;

const CHECK_HELP: &str = "\
Every row of the table is PASS, WARN, FAIL or SKIPPED (because something before it fails), with what to do about it.
Nothing is changed: no file is made, and an agent that runs is not disturbed. Where no agent of the site is
connected, the check opens a tunnel of its own for a moment, which answers the check alone.

Exit code: 0 all is well, 1 it works with warnings, 2 the configuration cannot be used, 3 something does not work.

Examples:
  # The installed agent; as its own user, who may read less than root.
  sudo -u audiovault-agent audiovault-agent check

  # Flags that are to be tried before they are installed.
  audiovault-agent check --relay wss://relay.example.com --site-key-file site-key --token-file search-token \\
      --path file:/var/spool/asterisk/monitor/%YY/%MM/%DD";

/// Flags of `check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// Print JSON: version, site, state, and rows of id, subject, relay, state, detail, advice and elapsed_ms
    #[arg(long, help_heading = "Check")]
    pub json: bool,
    /// What `tunnel` would be told.
    #[command(flatten)]
    pub tunnel: TunnelArgs,
}
