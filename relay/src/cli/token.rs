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
    /// Create an API token and print it; it cannot be shown again
    Add {
        /// Name of the token
        name: Name,
        /// What the token allows
        #[command(flatten)]
        rights: RightsArgs,
        /// How long it is valid, such as 30d or 12h; at most 365d
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "90d")]
        expires: std::time::Duration,
        /// User who owns the token: it has at most the rights of that user, and is removed with that user
        #[arg(long, value_name = "USER")]
        owner: Option<Name>,
    },
    /// List all API tokens
    List,
    /// Remove an API token; it stops working at once
    Remove {
        /// Name of the token
        name: Name,
    },
}
