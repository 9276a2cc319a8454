//! What `token` takes.

use clap::{Args, Subcommand};

use super::{DatabaseArgs, RightsArgs};
use crate::auth::Name;

/// What every `token` command takes.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// Where the relay keeps what it has.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What is done with an API token.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make an API token; it is printed this once
    Add {
        /// A name for it
        name: Name,
        /// What its holder may do
        #[command(flatten)]
        rights: RightsArgs,
        /// When it ends, such as 90d or 12h from now [default: never]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<std::time::Duration>,
    },
    /// List all API tokens
    List,
    /// Remove an API token; it ends at once
    Remove {
        /// Its name
        name: Name,
    },
}
