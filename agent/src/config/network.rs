//! How the agent gets out to its relay.

use std::path::PathBuf;

use clap::Args;

use crate::reach::NetworkSettings;

/// Flags of everything that connects to a relay.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// PEM file of certificate authorities to trust instead of the machine's own
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub cacert: Option<PathBuf>,
}

/// Checks how to get out.
pub(super) fn network(args: NetworkArgs) -> NetworkSettings {
    NetworkSettings { cacert: args.cacert }
}
