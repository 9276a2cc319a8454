//! The arguments of `token`.

use clap::{Args, Subcommand};

use super::{DatabaseArgs, RightsArgs};
use crate::model::name::Name;

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
        /// When it ends, such as 30d or 12h from now; at most 365d
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "90d")]
        expires: std::time::Duration,
        /// The user whose token it is: it ends with that user, and can do no more
        #[arg(long, value_name = "USER")]
        owner: Option<Name>,
    },
    /// List all API tokens
    List,
    /// Remove an API token; it ends at once
    Remove {
        /// Its name
        name: Name,
    },
}
